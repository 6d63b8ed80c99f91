#include "registry/registry.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "registry/counters.h"
#include "registry/layout.h"
#include "registry/migration.h"
#include "registry/occupancy.h"
#include "registry/opening.h"
#include "registry/owner.h"
#include "registry/reader.h"
#include "registry/recovery.h"
#include "registry/segment.h"
#include "registry/segment_file.h"
#include "registry/writer.h"
#include "registry/writer_place.h"

namespace evermap {

using layout::Load;
using layout::Store;

Registry::Registry(std::string path, std::unique_ptr<Segment> segment,
                   std::unique_ptr<WriterPlace> place)
    : path_(std::move(path)),
      segment_(std::move(segment)),
      place_(std::move(place)),
      view_(std::make_unique<RegistryView>(*segment_)),
      writer_(std::make_unique<Writer>(*segment_, *place_)) {}
Registry::~Registry() = default;

absl::StatusOr<std::unique_ptr<Registry>> Registry::Open(const Options& options) {
  if (options.capacity == 0 || options.capacity > kRegistryCapacityMax) {
    return absl::InvalidArgumentError(absl::StrCat("a registry holds 1 to ", kRegistryCapacityMax,
                                                   " names, not ", options.capacity));
  }
  Problem problem;
  // A file that is no registry is refused before a lock file is left beside it.
  std::unique_ptr<Segment> segment = Segment::Map(options.path, SegmentAccess::kWrite, problem);
  if (problem && problem.kind != Problem::Kind::kNotFound &&
      problem.kind != Problem::Kind::kNewer) {
    return ToStatus(problem);
  }
  std::unique_ptr<WriterPlace> place = WriterPlace::Open(options.path, problem);
  if (place == nullptr) return ToStatus(problem);
  segment = MapNewest(options.path, options.capacity, *place, problem);
  if (segment == nullptr) return ToStatus(problem);
  return OpenMapped(options.path, std::move(segment), std::move(place), {});
}

absl::StatusOr<std::unique_ptr<Registry>> Registry::OpenMapped(std::string path,
                                                               std::unique_ptr<Segment> segment,
                                                               std::unique_ptr<WriterPlace> place,
                                                               const As& as) {
  const Problem problem = place->Take(path);
  if (problem) return ToStatus(problem);
  const bool has_company = place->HasCompany();
  RemoveLeftovers(path, *segment);

  const BootId boot = CurrentBootId();
  const BootId noted = {Load(segment->header().boot_id[0]), Load(segment->header().boot_id[1])};
  const bool is_of_this_boot = as.is_of_this_boot || has_company || MayBeOneBoot(boot, noted);
  if (is_of_this_boot && !as.forgets_nodes) {
    SettleAll(*segment, *place);
    // What is registered from here on is of this boot, whether it can be told or not.
    if (noted != boot && !(as.is_of_this_boot && boot == BootId{})) WriteBootId(boot, *segment);
  } else {
    RestartAfterReboot(*segment, boot);
  }
  // What an earlier mapper has done is no promise of this one.
  Store(segment->header().tells_changes, 0);
  if (as.owner.is_known() && ReadOwner(*segment) != as.owner) WriteOwner(as.owner, *segment);
  place->FinishOpening();
  return std::unique_ptr<Registry>(
      new Registry(std::move(path), std::move(segment), std::move(place)));
}

absl::StatusOr<bool> Registry::NeedsMigration(const std::string& path) {
  Problem problem;
  const std::unique_ptr<Segment> segment = Segment::Map(path, SegmentAccess::kWrite, problem);
  if (problem.kind == Problem::Kind::kNotFound) return false;
  if (segment == nullptr) return ToStatus(problem);
  return !segment->is_newest();
}

absl::Status Registry::RollBackSuccessorsMigration() {
  Problem problem = place_->StartOpening(path_);
  if (problem) return ToStatus(problem);
  problem = RollBackMigration(path_, *segment_);
  place_->FinishOpening();
  return ToStatus(problem);
}

absl::Status Registry::RollBackOwnMigration() {
  const Problem problem = place_->StartOpening(path_);
  if (problem) return ToStatus(problem);
  if (IsNamed(*segment_, path_)) RollBackUnfinishedMigration(path_);
  place_->FinishOpening();
  return absl::OkStatus();
}

void Registry::FinishMigration() { evermap::FinishMigration(path_, *segment_); }

RegisterResult Registry::Register(const NodeRecord& node) { return writer_->Register(node); }
bool Registry::AwaitClaimant(uint32_t slot) { return writer_->AwaitClaimant(slot); }
bool Registry::Unregister(uint32_t slot, uint64_t id) { return writer_->Unregister(slot, id); }
bool Registry::Orphan(uint32_t slot, uint64_t id) { return writer_->Orphan(slot, id); }
bool Registry::Adopt(uint32_t slot, uint64_t id, uint64_t connection_cookie) {
  return writer_->Adopt(slot, id, connection_cookie);
}
bool Registry::Amend(uint32_t slot, uint64_t id, const Amendment& what) {
  return writer_->Amend(slot, id, what);
}

bool Registry::Lookup(std::string_view name, Registration& found) const {
  return view_->Lookup(name, found);
}
bool Registry::ReadSlot(uint32_t slot, Registration& found) const {
  return view_->ReadSlot(slot, found);
}
void Registry::ForEach(Which which, absl::FunctionRef<void(const Registration&)> visit) const {
  ForEachOf(which, 0, ~0u, visit);
}

std::optional<uint32_t> Registry::ForEachOf(
    Which which, uint32_t first, uint32_t count,
    absl::FunctionRef<void(const Registration&)> visit) const {
  Registration registration;
  const uint32_t end = segment_->high_water();
  uint32_t slot = first;
  for (uint32_t looks = count; slot < end; ++slot, --looks) {
    if (which == Which::kRegistered) slot = NextOccupied(*segment_, slot, end, looks);
    if (looks == 0) return slot < end ? std::optional(slot) : std::nullopt;
    if (slot == end || !view_->ReadSlot(slot, registration)) continue;
    if (which == Which::kRegistered && registration.state == RegistrationState::kRemembered) {
      continue;
    }
    visit(registration);
  }
  return std::nullopt;
}

const std::string& Registry::path() const { return path_; }
const RegistryView& Registry::view() const { return *view_; }

uint32_t Registry::live_count() const {
  const uint32_t generation = layout::LowHalf(view_->generation());
  const uint64_t counted = counted_.load(std::memory_order_acquire);
  if (has_counted_.load(std::memory_order_acquire) && layout::HighHalf(counted) == generation) {
    return layout::LowHalf(counted);
  }
  const uint32_t live = view_->CountLive();
  counted_.store(layout::Halves(live, generation), std::memory_order_release);
  has_counted_.store(true, std::memory_order_release);
  return live;
}

void Registry::SetMapperStatus(const MapperStatus& status) {
  WriteMapperStatus(status, segment_->header().mapper);
}
void Registry::SetUpgradeStatus(const UpgradeStatus& status) {
  WriteUpgradeStatus(status, segment_->header().upgrade);
}

int Registry::TellReaders() {
  layout::Word& tells = segment_->header().tells_changes;
  const auto say = [&tells](uint64_t whether) {
    // Other processes read the word at each look: it is written only when it changes.
    if (Load(tells) != whether) Store(tells, whether);
  };
  say(1);
  const int error = TouchFile(segment_->fd());
  if (error != 0) say(0);
  return error;
}

WorkerStatistics& Registry::statistics(uint32_t worker) {
  return segment_->statistics(std::min(worker, kStatisticsWorkersMax - 1));
}

}  // namespace evermap
