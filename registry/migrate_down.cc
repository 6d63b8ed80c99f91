#include "registry/migrate_down.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "registry/base/owned_fd.h"
#include "registry/counters.h"
#include "registry/former_segment.h"
#include "registry/layout_v2.h"
#include "registry/location.h"
#include "registry/migration.h"
#include "registry/migration_plan.h"
#include "registry/record_text.h"
#include "registry/segment.h"
#include "registry/segment_header.h"
#include "registry/writer_place.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Store;
using layout::Word;

constexpr const layout::LayoutDescription& kV2 = layout_v2::kDescription;
constexpr mode_t kMode = 0644;

}  // namespace

// A file in layout version 2, mapped for writing. Like those of that version it has holes where
// nothing was used yet.
class V2File {
 public:
  explicit V2File(uint32_t capacity) : geometry_(kV2.geometry(capacity)) {}
  ~V2File() {
    if (base_ != nullptr) munmap(base_, geometry_.file_size_max);
  }
  V2File(const V2File&) = delete;
  V2File& operator=(const V2File&) = delete;

  // Makes it at `path`, where there must be none; false when that cannot be done (errno says why).
  bool Create(const std::string& path) {
    fd_ = OwnedFd(open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, kMode));
    // The umask must not decide which users can read the registry.
    if (!fd_.valid() || fchmod(fd_.get(), kMode) != 0 ||
        ftruncate(fd_.get(), static_cast<off_t>(geometry_.file_size_max)) != 0) {
      return false;
    }
    void* base =
        mmap(nullptr, geometry_.file_size_max, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    if (base == MAP_FAILED) return false;
    base_ = static_cast<char*>(base);
    return true;
  }
  // Gives memory to a range, so that writing to it cannot end in SIGBUS; false: errno says why.
  bool Commit(uint64_t offset, uint64_t bytes) const {
    return fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) == 0 ||
           errno == EOPNOTSUPP || errno == ENOSYS;
  }
  bool Sync() const { return fsync(fd_.get()) == 0; }

  const layout::Geometry& geometry() const { return geometry_; }
  void* base() { return base_; }
  Word& At(uint64_t offset) { return *reinterpret_cast<Word*>(base_ + offset); }
  // Byte offset of the block of record `index`, and of a text of it.
  uint64_t BlockOffset(uint32_t index) const {
    return geometry_.overflow_offset + uint64_t{index} * kV2.block_size;
  }
  uint64_t RecordOffset(uint32_t index) const {
    return geometry_.records_offset + uint64_t{index} * kV2.record_size;
  }
  Word* TextAt(uint32_t index, layout::TextPlace place) {
    return &At((place.is_in_block ? BlockOffset(index) : RecordOffset(index)) + place.offset);
  }

 private:
  const layout::Geometry geometry_;
  OwnedFd fd_;
  char* base_ = nullptr;
};

namespace {

void CopyWords(const Word* from, size_t count, Word* to) {
  for (size_t i = 0; i < count; ++i) Store(to[i], Load(from[i]));
}
void CopyNote(const layout::StatusNote& from, Word* to) {
  // All of a note are words.
  CopyWords(reinterpret_cast<const Word*>(&from), sizeof(from) / sizeof(Word), to);
}

// What is counted in fine buckets becomes part of the others, which are all that is there.
void FoldFineLatencies(Word* statistics) {
  Word* const coarse = statistics + offsetof(WorkerStatistics, latency_buckets) / sizeof(Word);
  Word* const fine = statistics + offsetof(WorkerStatistics, fine_latency_buckets) / sizeof(Word);
  for (size_t i = 0; i < kFineLatencyBuckets; ++i) {
    Word& into = coarse[LatencyBucketOf(FineLatencyBucketEndNs(i) - 1)];
    Store(into, Load(into) + Load(fine[i]));
    Store(fine[i], 0);
  }
}

void CopyHeader(const FormerSegment& from, uint32_t slots, uint32_t creation_floor, V2File& to) {
  const layout::LayoutDescription::Header& at = kV2.header;
  Store(to.At(at.next_id), Load(from.word(&HeaderPlaces::next_id)));
  Store(to.At(at.generation), Load(from.generation()) + 1);
  Store(to.At(at.high_water), slots);
  Store(to.At(at.creation_floor), creation_floor);
  // There departures are times of day.
  Store(to.At(at.last_departure), Load(from.word(&HeaderPlaces::last_departure)) +
                                      Load(from.word(&HeaderPlaces::shown_offset)));
  CopyNote(from.mapper_note(), &to.At(at.mapper));
  CopyNote(from.upgrade_note(), &to.At(at.upgrade));
  const size_t size = std::min<size_t>(from.statistics_size(), to.geometry().statistics_size);
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    Word* const words =
        &to.At(to.geometry().statistics_offset + worker * to.geometry().statistics_size);
    CopyWords(from.statistics(worker), size / sizeof(Word), words);
    FoldFineLatencies(words);
  }
}

// Copies the texts of record `index`; false when there is no memory for them.
bool CopyTexts(const FormerSegment& from, uint32_t index, size_t name_size, size_t extra_size,
               V2File& to) {
  const layout::TextPlace name = kV2.name_place(name_size);
  const layout::TextPlace extra = kV2.extra_place(name_size, extra_size);
  if ((name.is_in_block || (extra_size > 0 && extra.is_in_block)) &&
      !to.Commit(to.BlockOffset(index), kV2.block_size)) {
    return false;
  }
  std::array<char, std::max(kRegistryNameSizeMax, kRegistryExtraSizeMax)> text;
  CopyText(from.NameWords(index, name_size), name_size, text.data());
  StoreText({text.data(), name_size}, to.TextAt(index, name));
  if (extra_size == 0) return true;
  CopyText(from.ExtraWords(index, name_size, extra_size), extra_size, text.data());
  StoreText({text.data(), extra_size}, to.TextAt(index, extra));
  return true;
}

bool CopyRecord(const FormerSegment& from, uint32_t index, Kind kind, V2File& to) {
  const FormerRecord record = from.record(index);
  const uint64_t sizes = Load(record.sizes);
  const size_t name_size = layout::NameSizeOf(sizes);
  size_t extra_size = layout::ExtraSizeOf(sizes);
  if (name_size == 0 || name_size > kRegistryNameSizeMax) return true;
  if (extra_size > kRegistryExtraSizeMax || kind == Kind::kRemembered) extra_size = 0;
  if (!CopyTexts(from, index, name_size, extra_size, to)) return false;
  const uint64_t begin = to.RecordOffset(index);
  const layout::LayoutDescription::Record& at = kV2.record;
  const uint64_t hash = Load(record.hash);
  Store(to.At(begin + at.hash), hash);
  Store(to.At(begin + at.id), Load(record.id));
  Store(to.At(begin + at.address), Load(record.address));
  Store(to.At(begin + at.sizes),
        layout::Sizes(name_size, extra_size, static_cast<uint16_t>(sizes >> 32),
                      static_cast<uint16_t>(sizes >> 48)));
  Store(to.At(begin + at.connection_cookie), Load(record.connection_cookie));
  Store(to.At(begin + at.listener_cookie), Load(record.listener_cookie));
  Store(to.At(begin + at.user), Load(record.user));
  Store(to.At(begin + at.since_unix_ns), Load(record.since_unix_ns));
  if (const uint64_t departure = Load(record.departure); departure != 0) {
    Store(to.At(begin + at.departure), departure + Load(from.word(&HeaderPlaces::shown_offset)));
  }
  const uint64_t bucket = hash & (to.geometry().buckets - 1);
  Word& head = to.At(to.geometry().buckets_offset + bucket * sizeof(Word));
  const uint64_t next = Load(head);
  Store(to.At(begin + at.next), layout::LinkLike(next, 0));
  Store(head, layout::LinkTo(index, next));
  Store(to.At(begin + at.state), layout::State(layout::VersionOf(Load(record.state)), 0, kind));
  return true;
}

// Makes `to` a copy of `segment`, whatever it was before; false when that cannot be done (errno says
// why).
bool CopyAll(const Segment& segment, V2File& to) {
  const FormerSegment from(segment);
  const MigrationPlan plan = PlanMigration(from);
  const auto slots = static_cast<uint32_t>(plan.kinds.size());
  if (!to.Commit(0, to.RecordOffset(slots))) return false;
  const SegmentOrigin origin{from.capacity(),
                             from.hash_key(),
                             Load(from.word(&HeaderPlaces::created_unix_ns)),
                             {Load(from.boot_id(0)), Load(from.boot_id(1))}};
  WriteHeader(kV2, origin, to.base());
  const uint64_t floor =
      std::max<uint64_t>(Load(from.word(&HeaderPlaces::creation_floor)),
                         plan.forgotten_creation == 0 ? 0 : uint64_t{plan.forgotten_creation} + 1);
  CopyHeader(from, slots, static_cast<uint32_t>(floor), to);
  for (uint32_t bucket = 0; bucket < to.geometry().buckets; ++bucket) {
    Store(to.At(to.geometry().buckets_offset + bucket * sizeof(Word)), 0);
  }
  for (uint32_t index = 0; index < slots; ++index) {
    Store(to.At(to.RecordOffset(index) + kV2.record.state), 0);
    if (plan.kinds[index] == Kind::kFree) continue;
    if (!CopyRecord(from, index, plan.kinds[index], to)) return false;
  }
  return true;
}

}  // namespace

DownCopy::DownCopy(std::string path, std::unique_ptr<Segment> from, std::unique_ptr<V2File> to)
    : path_(std::move(path)), from_(std::move(from)), to_(std::move(to)) {}
DownCopy::~DownCopy() = default;

std::unique_ptr<DownCopy> DownCopy::Publish(const std::string& path, Problem& problem) {
  const std::unique_ptr<WriterPlace> place = WriterPlace::Open(path, problem);
  if (place == nullptr) return nullptr;
  std::unique_ptr<Segment> from = Segment::Map(path, SegmentAccess::kWrite, problem);
  if (from == nullptr) return nullptr;
  if (!from->is_newest()) {
    problem = {Problem::Kind::kUnacceptable, path + ": has not the layout of this release"};
    return nullptr;
  }
  auto to = std::make_unique<V2File>(FormerSegment(*from).capacity());
  const std::string new_path = MigratingPath(path);
  unlink(new_path.c_str());
  // The name must not reach a disk before the content. In memory this does nothing.
  if (to->Create(new_path) && CopyAll(*from, *to) && to->Sync()) {
    problem = PublishMigrated(path);
  } else {
    problem = SystemProblem(path, "cannot be copied for release 0.1.0", errno);
  }
  if (problem) {
    unlink(new_path.c_str());
    return nullptr;
  }
  return std::unique_ptr<DownCopy>(new DownCopy(path, std::move(from), std::move(to)));
}

Problem DownCopy::Refresh() {
  if (CopyAll(*from_, *to_)) return {};
  return SystemProblem(path_, "cannot be copied for release 0.1.0", errno);
}

}  // namespace evermap
