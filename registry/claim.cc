#include "registry/claim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "registry/base/file_identity.h"
#include "registry/former_segment.h"
#include "registry/layout.h"
#include "registry/location.h"
#include "registry/migration.h"
#include "registry/opening.h"
#include "registry/owner.h"
#include "registry/reader.h"
#include "registry/segment.h"
#include "registry/segment_file.h"
#include "registry/status.h"
#include "registry/writer_place.h"

namespace evermap {
namespace {

using layout::Load;
using layout::Store;

constexpr mode_t kOwnerOnly = 0600;
// How long is waited for a lock whose mapper has ended, and how often is looked.
constexpr int kEndPatienceMs = 2000;
constexpr int kEndPollMs = 20;

// The files that were handed over, told apart by what they are.
struct Handed {
  OwnedFd lock;                                  // invalid: none
  std::unique_ptr<Segment> segment;              // null: none
  std::vector<std::unique_ptr<Segment>> others;  // that it took the place of
  std::vector<std::string> names;                // of all in the store
};

// A registry that was cut short may be empty, too, but may be read by all.
bool IsLock(const struct stat& file) {
  return file.st_size == 0 && (file.st_mode & (S_IRWXG | S_IRWXO)) == 0;
}

// Of several registries the one that no other has superseded; the last mapper died while it
// published it again, and the others got old. A single one is taken whatever is said of it.
Handed SortHanded(const std::string& path, std::vector<OwnedFd> files) {
  Handed handed;
  std::vector<OwnedFd> locks;
  for (OwnedFd& fd : files) {
    struct stat file;
    if (fstat(fd.get(), &file) != 0 || file.st_uid != geteuid()) continue;
    handed.names.push_back(StoredName(fd.get()));
    if (IsLock(file)) {
      locks.push_back(std::move(fd));
      continue;
    }
    Problem problem;
    std::unique_ptr<Segment> segment =
        Segment::MapFile(path, std::move(fd), SegmentAccess::kWrite, problem);
    if (segment == nullptr) continue;
    if (handed.segment == nullptr || Load(handed.segment->superseded()) != 0) {
      std::swap(handed.segment, segment);
    }
    if (segment != nullptr) handed.others.push_back(std::move(segment));
  }
  if (locks.empty()) return handed;
  const auto is_its_lock = [&handed](const OwnedFd& lock) {
    return handed.segment != nullptr && ReadOwner(*handed.segment).lock == IdentityOf(lock.get());
  };
  const auto its_lock = std::find_if(locks.begin(), locks.end(), is_its_lock);
  handed.lock = std::move(its_lock != locks.end() ? *its_lock : locks.back());
  return handed;
}

// A place in the lock file and the mapper's lock.
struct Locked {
  std::unique_ptr<WriterPlace> place;
  OwnedFd lock;
};

// Takes the lock of the file that lies beside the path: the one that was handed over, if it is that.
Locked LockAtPath(const std::string& path, const OwnedFd& handed, Problem& problem) {
  Locked locked;
  if (handed.valid() && IdentityOf(handed.get()) == IdentityAt(LockPath(path))) {
    locked.place = WriterPlace::OpenIn(handed.get(), path, problem);
    if (locked.place == nullptr) return {};
    locked.lock = OwnedFd(fcntl(handed.get(), F_DUPFD_CLOEXEC, 0));
    if (!locked.lock.valid()) problem = SystemProblem(path, "no descriptor for its lock", errno);
  } else {
    locked.place = WriterPlace::Open(path, problem);
    if (locked.place == nullptr) return {};
    locked.lock = locked.place->LockMapperByte(path, problem);
  }
  if (problem) return {};
  return locked;
}

std::string Named(const RegistryOwner& owner) {
  return absl::StrCat("port ", owner.port, " in network namespace ",
                      owner.network_namespace.number);
}

Problem Taken(Problem::Kind kind, const std::string& path, const std::string& what) {
  return {kind, path + ": " + what + "; name another registry with -registry"};
}

// Another mapper has the registry at `path`: says which, as far as the file tells.
Problem HeldByAnother(const std::string& path, const Segment* segment) {
  if (segment == nullptr) return Taken(Problem::Kind::kHeld, path, "another mapper has it");
  const RegistryOwner owner = ReadOwner(*segment);
  const std::string of = owner.is_known() ? ", for " + Named(owner) : std::string();
  return Taken(Problem::Kind::kHeld, path,
               absl::StrCat("the mapper of process ", RegistryView(*segment).mapper_status().pid,
                            " has it", of));
}

// Whether the mapper runs that serves from the registry at `path`, as far as that tells.
bool HasRunningMapper(const std::string& path) {
  Problem problem;
  const std::unique_ptr<Segment> segment = Segment::Map(path, SegmentAccess::kRead, problem);
  return segment != nullptr && IsRunning(RegistryView(*segment).mapper_status());
}

bool MayBeOfThisBoot(const Segment& segment) {
  const FormerSegment words(segment);
  return MayBeOneBoot(CurrentBootId(), {Load(words.boot_id(0)), Load(words.boot_id(1))});
}

// What the header of this process's registry is to say.
RegistryOwner OwnerWith(const OwnedFd& lock, const Claim::Options& options) {
  return {.lock = IdentityOf(lock.get()),
          .network_namespace = OwnNetworkNamespace(),
          .port = options.port};
}

// What a file at the path is to a mapper that was handed nothing.
enum class Standing : uint8_t { kOwn, kForgetsNodes };

Problem Examine(const Claim::Options& options, const RegistryOwner& own, const WriterPlace& place,
                const Segment& segment, Standing& standing) {
  standing = Standing::kOwn;
  if (!MayBeOfThisBoot(segment)) return {};
  const RegistryOwner owner = ReadOwner(segment);
  if (!owner.is_known()) {
    // A mapper of 0.1.0 has a writer's place and no lock.
    if (options.has_predecessor || !place.HasCompany()) return {};
    return HeldByAnother(options.path, &segment);
  }
  // Its lock file was removed, so that holding the one that is there now says nothing of its mapper.
  if (owner.lock != own.lock && IsRunning(RegistryView(segment).mapper_status())) {
    return HeldByAnother(options.path, &segment);
  }
  if (MayBeOneNamespace(owner.network_namespace, own.network_namespace) && owner.port == own.port) {
    return {};
  }
  if (!options.takes_foreign) {
    return Taken(
        Problem::Kind::kForeign, options.path,
        "it is the registry of the mapper for " + Named(owner) + ", not for " + Named(own));
  }
  standing = Standing::kForgetsNodes;
  return {};
}

// Maps what is at the path in the newest layout, and makes or migrates it, as needed.
std::unique_ptr<Segment> MapAtPath(const Claim::Options& options, const RegistryOwner& own,
                                   const WriterPlace& place, Standing& standing, Problem& problem) {
  standing = Standing::kOwn;
  {
    const std::unique_ptr<Segment> there =
        Segment::Map(options.path, SegmentAccess::kWrite, problem);
    if (there != nullptr) {
      problem = Examine(options, own, place, *there, standing);
      if (problem) return nullptr;
    }
  }
  return MapNewest(options.path, options.capacity, place, problem);
}

// Why this process must not take over from its predecessor, if it has one; no problem otherwise.
// REQUIRES: `place` holds the opening lock.
Problem ExaminePredecessor(const Claim::Options& options, const Handed& handed,
                           const WriterPlace& place) {
  if (!options.has_predecessor) return {};
  if (!options.predecessor_lives()) {
    return {Problem::Kind::kBusy, options.path + ": the mapper to take over from is gone"};
  }
  // A predecessor of 0.1.0 hands no files over, and has a writer's place.
  if (handed.segment != nullptr || place.HasCompany()) return {};
  return {Problem::Kind::kUnacceptable,
          options.path +
              ": is not the registry of the mapper to take over from, whose own was removed; to "
              "upgrade it restart it when its nodes may be lost"};
}

// Gives the registry that was handed over its path back; null when that cannot be, with a problem,
// or when it has it.
std::unique_ptr<Segment> Publish(const std::string& path, const RegistryOwner& own,
                                 Segment& segment, Problem& problem) {
  problem = {};
  // A migration took the path away, and nothing has been acknowledged from what it made: the store
  // would have that.
  if (!IsNamed(segment, path) && IsNamed(segment, PreviousPath(path))) {
    problem = RollBackMigration(path, segment);
    if (problem) return nullptr;
  }
  if (IsNamed(segment, path)) {
    if (segment.is_newest()) return nullptr;
    problem = Migrate(path, segment);
    if (problem) return nullptr;
    return Segment::Map(path, SegmentAccess::kWrite, problem);
  }
  return Republish(path, own, segment, problem);
}

// Whether what was handed over needs another file to be built.
bool NeedsPublishing(const std::string& path, const Handed& handed) {
  return !handed.segment->is_newest() || !IsNamed(*handed.segment, path) || !handed.lock.valid() ||
         IdentityOf(handed.lock.get()) != IdentityAt(LockPath(path)) ||
         ReadOwner(*handed.segment).lock != IdentityOf(handed.lock.get());
}

// Those of `names` that are none of `others`.
std::vector<std::string> Without(const std::vector<std::string>& names,
                                 const std::vector<std::string>& others) {
  std::vector<std::string> left;
  for (const std::string& name : names) {
    if (std::find(others.begin(), others.end(), name) == others.end()) left.push_back(name);
  }
  return left;
}

}  // namespace

bool IsFileOfClaim(int fd) {
  struct stat file;
  // What is in it does not count: it may be damaged, and then has to be said to be.
  return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_uid == geteuid();
}

Claim::~Claim() = default;

absl::StatusOr<bool> Claim::MustBeAtRest(const Options& options,
                                         const std::vector<OwnedFd>& handed) {
  if (handed.empty()) return Registry::NeedsMigration(options.path);
  std::vector<OwnedFd> copies;
  for (const OwnedFd& fd : handed) copies.emplace_back(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  const Handed sorted = SortHanded(options.path, std::move(copies));
  if (sorted.segment == nullptr) return Registry::NeedsMigration(options.path);
  return NeedsPublishing(options.path, sorted);
}

absl::StatusOr<std::unique_ptr<Claim>> Claim::Make(const Options& options,
                                                   std::vector<OwnedFd> files) {
  const std::string& path = options.path;
  Handed handed = SortHanded(path, std::move(files));
  Problem problem;
  if (handed.segment == nullptr) {
    // A file that is no registry is refused before a lock file is left beside it.
    Segment::Map(path, SegmentAccess::kRead, problem);
    if (problem.kind == Problem::Kind::kUnacceptable) return ToStatus(problem);
    problem = {};
  }
  Locked locked = LockAtPath(path, handed.lock, problem);
  // Processes that have the lock may be about to end, as the mapper has that they belong to; or it is the
  // one before a predecessor that has no lock, of release 0.1.0.
  for (int waited_ms = 0;
       problem.kind == Problem::Kind::kHeld && handed.segment == nullptr &&
       waited_ms < kEndPatienceMs && (options.has_predecessor || !HasRunningMapper(path));
       waited_ms += kEndPollMs) {
    poll(nullptr, 0, kEndPollMs);
    problem = {};
    locked = LockAtPath(path, handed.lock, problem);
  }
  const bool is_locked_at_path = !problem;
  if (problem && handed.segment == nullptr) {
    Problem ignored;
    if (problem.kind == Problem::Kind::kHeld) {
      problem = HeldByAnother(path, Segment::Map(path, SegmentAccess::kRead, ignored).get());
    }
    return ToStatus(problem);
  }
  if (!is_locked_at_path) {
    // The place beside the path is another's, or there is none. What was handed over goes on.
    if (!handed.lock.valid()) return ToStatus(problem);
    locked.place = WriterPlace::OpenIn(handed.lock.get(), path, problem);
    if (locked.place == nullptr) return ToStatus(problem);
    locked.lock = std::move(handed.lock);
  }
  if (const Problem gone = ExaminePredecessor(options, handed, *locked.place); gone) {
    return ToStatus(gone);
  }
  for (const std::unique_ptr<Segment>& other : handed.others) Store(other->superseded(), 1);
  const RegistryOwner own = OwnerWith(locked.lock, options);
  Standing standing = Standing::kOwn;
  std::unique_ptr<Segment> segment;
  const bool was_segment_handed = handed.segment != nullptr;
  if (!was_segment_handed) {
    segment = MapAtPath(options, own, *locked.place, standing, problem);
    if (segment == nullptr) return ToStatus(problem);
  } else {
    if (is_locked_at_path) segment = Publish(path, own, *handed.segment, problem);
    if (segment == nullptr) segment = std::move(handed.segment);
    // Without a place for it, it stays where it is, but not in a layout that nobody here writes.
    if (!segment->is_newest()) return ToStatus(problem);
  }
  absl::StatusOr<std::unique_ptr<Registry>> registry =
      Registry::OpenMapped(path, std::move(segment), std::move(locked.place),
                           {.owner = own,
                            .is_of_this_boot = was_segment_handed,
                            .forgets_nodes = standing == Standing::kForgetsNodes});
  if (!registry.ok()) return registry.status();
  const std::vector<std::string> own_names = {StoredName(locked.lock.get()),
                                              StoredName((*registry)->segment_->fd())};
  std::unique_ptr<Claim> claim(new Claim(path, std::move(locked.lock),
                                         Without(handed.names, own_names), *std::move(registry)));
  claim->was_handed_over_ = Without(own_names, handed.names).empty();
  return claim;
}

absl::StatusOr<std::unique_ptr<Claim>> Claim::MakeUnnamed(const Options& options) {
  Problem problem;
  const OwnedFd lock_file(memfd_create("epmd-registry.lock", MFD_CLOEXEC));
  if (!lock_file.valid() || fchmod(lock_file.get(), kOwnerOnly) != 0) {
    return absl::ErrnoToStatus(errno, "no memory for a registry without a file");
  }
  std::unique_ptr<WriterPlace> place = WriterPlace::OpenIn(lock_file.get(), options.path, problem);
  if (place == nullptr) return ToStatus(problem);
  OwnedFd lock = place->LockMapperByte(options.path, problem);
  if (problem) return ToStatus(problem);
  OwnedFd file = CreateUnnamedSegmentFile(options.path, options.capacity, problem);
  if (problem) return ToStatus(problem);
  std::unique_ptr<Segment> segment =
      Segment::MapFile(options.path, std::move(file), SegmentAccess::kWrite, problem);
  if (segment == nullptr) return ToStatus(problem);
  absl::StatusOr<std::unique_ptr<Registry>> registry =
      Registry::OpenMapped(options.path, std::move(segment), std::move(place),
                           {.owner = OwnerWith(lock, options), .is_of_this_boot = true});
  if (!registry.ok()) return registry.status();
  std::unique_ptr<Claim> claim(new Claim(options.path, std::move(lock), {}, *std::move(registry)));
  claim->was_published_ = false;
  return claim;
}

std::vector<Claim::File> Claim::files() const {
  const int file = registry_->segment_->fd();
  return {{StoredName(lock_.get()), lock_.get()}, {StoredName(file), file}};
}

bool Claim::IsPublished() const {
  return IdentityAt(path_) == IdentityOf(registry_->segment_->fd()) &&
         IdentityAt(LockPath(path_)) == IdentityOf(lock_.get());
}

}  // namespace evermap
