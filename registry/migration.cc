#include "registry/migration.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/copy.h"
#include "registry/departure.h"
#include "registry/former_segment.h"
#include "registry/layout.h"
#include "registry/location.h"
#include "registry/migration_plan.h"
#include "registry/occupancy.h"
#include "registry/owner.h"
#include "registry/record_text.h"
#include "registry/recovery.h"
#include "registry/segment_file.h"
#include "registry/text_place.h"
#include "registry/text_pool.h"

namespace evermap {
namespace {

using layout::Kind;
using layout::Load;
using layout::Record;
using layout::Store;
using layout::Word;

MigrationHook g_hook = nullptr;

void Reach(int step) {
  if (g_hook != nullptr) g_hook(step);
}

void Copy(const Word& from, Word& to) { Store(to, Load(from)); }
void Copy(const Word* from, size_t count, Word* to) {
  for (size_t i = 0; i < count; ++i) Copy(from[i], to[i]);
}

Problem Failed(const std::string& path, const std::string& what, int error) {
  const bool no_space = IsNoSpace(error);
  return {no_space ? Problem::Kind::kNoSpace : Problem::Kind::kSystem,
          path + ": cannot be migrated: " + what + ": " + ErrorText(error) +
              (no_space ? "; make room there" : "; check it and its directory") +
              ", or go on with the version of Evermap that wrote it"};
}

void CopyNote(const layout::StatusNote& from, layout::StatusNote& to) {
  Copy(from.last_number, to.last_number);
  for (size_t i = 0; i < layout::kStatusCopies; ++i) {
    Copy(from.copies[i].number, to.copies[i].number);
    Copy(from.copies[i].checksum, to.copies[i].checksum);
    Copy(from.copies[i].words, layout::kStatusWords, to.copies[i].words);
  }
}

void CopyHeader(const FormerSegment& from, Segment& to) {
  layout::Header& header = to.header();
  Copy(from.word(&HeaderPlaces::next_id), header.next_id);
  Store(header.generation, Load(from.generation()) + 1);
  Copy(from.word(&HeaderPlaces::creation_floor), header.creation_floor);
  Copy(from.word(&HeaderPlaces::last_departure), header.last_departure);
  // The departures that are copied are of the former steady time, if the layout had one.
  if (Load(from.word(&HeaderPlaces::steady_offset)) != 0) {
    Copy(from.word(&HeaderPlaces::steady_offset), header.steady_offset);
    Copy(from.word(&HeaderPlaces::shown_offset), header.shown_offset);
  }
  CopyNote(from.mapper_note(), header.mapper);
  CopyNote(from.upgrade_note(), header.upgrade);
}

void CopyStatistics(const FormerSegment& from, Segment& to) {
  const uint64_t size = std::min<uint64_t>(from.statistics_size(), to.geometry().statistics_size);
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    // All members are counters, so the block is an array of them, which former layouts have from
    // the first one on.
    Copy(from.statistics(worker), size / sizeof(Word),
         reinterpret_cast<Word*>(&to.statistics(worker)));
  }
}

// Copies the texts of record `index`; false when there is no memory for them.
bool CopyTexts(const FormerSegment& from, Segment& to, uint32_t index, size_t name_size,
               size_t extra_size, uint64_t& blocks) {
  if (!ProvideNext(to, index, name_size, extra_size, blocks)) return false;
  std::array<char, std::max(kRegistryNameSizeMax, kRegistryExtraSizeMax)> text;
  CopyText(from.NameWords(index, name_size), name_size, text.data());
  StoreText({text.data(), name_size}, NameWords(to, index, name_size));
  if (extra_size == 0) return true;
  CopyText(from.ExtraWords(index, name_size, extra_size), extra_size, text.data());
  StoreText({text.data(), extra_size}, ExtraWords(to, index, name_size, extra_size));
  return true;
}

// Copies record `index`, to be of `kind`, and links it; false when there is no memory for its texts.
bool CopyRecord(const FormerSegment& from, Segment& to, uint32_t index, Kind kind,
                uint64_t& blocks) {
  const FormerRecord record = from.record(index);
  const uint64_t sizes = Load(record.sizes);
  const size_t name_size = layout::NameSizeOf(sizes);
  // A name of an impossible size is damaged: a lookup does not find it either.
  if (name_size == 0 || name_size > kRegistryNameSizeMax) return true;
  size_t extra_size = layout::ExtraSizeOf(sizes);
  if (extra_size > kRegistryExtraSizeMax || kind == Kind::kRemembered) extra_size = 0;
  if (!CopyTexts(from, to, index, name_size, extra_size, blocks)) return false;

  Record& copy = to.record(index);
  Copy(record.hash, copy.hash);
  Copy(record.id, copy.id);
  Copy(record.address, copy.address);
  Store(copy.sizes, layout::Sizes(name_size, extra_size, static_cast<uint16_t>(sizes >> 32),
                                  static_cast<uint16_t>(sizes >> 48)));
  Copy(record.connection_cookie, copy.connection_cookie);
  Copy(record.listener_cookie, copy.listener_cookie);
  Copy(record.user, copy.user);
  Copy(record.since_unix_ns, copy.since_unix_ns);
  Copy(record.departure, copy.departure);
  NameBuffer buffer;
  const std::optional<std::string_view> name = IntactName(to, index, buffer);
  if (!name.has_value() || !LinkUnlessKnown(to, index, *name)) return true;
  const uint64_t state = Load(record.state);
  // As recovery does.
  if (layout::KindOf(state) == Kind::kClaimed) Store(copy.departure, NextDeparture(to));
  Store(copy.state, layout::State(layout::VersionOf(state), 0, kind));
  if (layout::IsFound(kind)) SetOccupied(to, index);
  return true;
}

Problem CopyAll(const std::string& path, const FormerSegment& from, Segment& to) {
  CopyHeader(from, to);
  CopyStatistics(from, to);
  const MigrationPlan plan = PlanMigration(from);
  if (plan.forgotten_creation != 0) RaiseCreationFloor(to, plan.forgotten_creation);
  const auto slots = static_cast<uint32_t>(plan.kinds.size());
  while (to.extents().slots() < slots) {
    if (!to.extents().Add(layout::ExtentUse::kRecords, Extents::Reserve::kUse)) {
      return Failed(path, "no memory for its records", errno);
    }
  }
  Store(to.header().high_water, slots);
  uint64_t blocks = 0;
  for (uint32_t index = 0; index < slots; ++index) {
    if (index == slots / 2) Reach(3);
    if (plan.kinds[index] == Kind::kFree) continue;
    if (!CopyRecord(from, to, index, plan.kinds[index], blocks)) {
      return Failed(path, "no memory for its long names", errno);
    }
  }
  if (Load(from.word(&HeaderPlaces::steady_offset)) == 0) RestartSteadyTime(to);
  return {};
}

// Builds the new file at `new_path`; `owner`: whose it is, if that is known.
Problem Build(const std::string& path, const std::string& new_path, const FormerSegment& old,
              const RegistryOwner& owner) {
  const SegmentOrigin origin{
      old.capacity(),
      old.hash_key(),
      Load(old.word(&HeaderPlaces::created_unix_ns)),
      {Load(old.boot_id(0)), Load(old.boot_id(1))},
  };
  Problem problem;
  OwnedFd fd = CreateSegmentFileAt(new_path, origin, problem);
  if (!fd.valid()) return problem;
  const std::unique_ptr<Segment> fresh =
      Segment::MapFile(new_path, std::move(fd), SegmentAccess::kWrite, problem);
  if (fresh == nullptr) return problem;
  Reach(2);
  problem = CopyAll(path, old, *fresh);
  if (problem) return problem;
  if (owner.is_known()) WriteOwner(owner, *fresh);
  Reach(4);
  // The name must not reach a disk before the content. In memory this does nothing.
  if (fsync(fresh->fd()) != 0) return Failed(path, "the new file cannot be kept", errno);
  return {};
}

// Builds the new file at `new_path` as a copy of `old`, which has the newest layout.
Problem BuildCopy(const std::string& path, const std::string& new_path, const Segment& old,
                  const RegistryOwner& owner) {
  OwnedFd copy = BeginCopy(new_path, old);
  if (!copy.valid()) return SystemProblem(path, "cannot be put back", errno);
  Reach(2);
  const int error = FinishCopy(old, copy.get());
  if (error != 0) return SystemProblem(path, "cannot be put back", error);
  Problem problem;
  const std::unique_ptr<Segment> fresh =
      Segment::MapFile(path, std::move(copy), SegmentAccess::kWrite, problem);
  if (fresh == nullptr) return problem;
  if (owner.is_known()) WriteOwner(owner, *fresh);
  Store(fresh->superseded(), 0);
  Reach(4);
  return {};
}

// Marks the registry at `path`, of whatever layout, as superseded (L-13), and tells those who watch it.
void MarkSuperseded(const std::string& path) {
  constexpr size_t kSize = layout::kHeaderSizeMin;
  const OwnedFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat file;
  if (!fd.valid() || fstat(fd.get(), &file) != 0 || !S_ISREG(file.st_mode) ||
      file.st_uid != geteuid() || file.st_size < static_cast<off_t>(kSize)) {
    return;
  }
  void* page = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return;
  const auto word = [page](size_t offset) -> Word& {
    return *reinterpret_cast<Word*>(static_cast<char*>(page) + offset);
  };
  if (Load(word(layout::kMagicAt)) == layout::kMagic) {
    Store(word(layout::kSupersededAt), 1);
    TouchFile(fd.get());
  }
  munmap(page, kSize);
}

}  // namespace

void SetMigrationHookForTests(MigrationHook hook) { g_hook = hook; }

Problem PublishMigrated(const std::string& path) {
  const std::string new_path = MigratingPath(path);
  const std::string previous_path = PreviousPath(path);
  Reach(5);
  unlink(previous_path.c_str());
  Reach(6);
  Problem problem;
  if (link(path.c_str(), previous_path.c_str()) != 0) {
    problem = Failed(path, "the old file cannot be named " + previous_path, errno);
  } else {
    Reach(7);
    if (rename(new_path.c_str(), path.c_str()) != 0) {
      problem = Failed(path, "the new file cannot take its place", errno);
      unlink(previous_path.c_str());
    }
  }
  if (problem) return problem;
  Reach(8);
  MarkSuperseded(previous_path);
  Reach(9);
  return {};
}

Problem Migrate(const std::string& path, const Segment& old) {
  assert(!old.is_newest());
  const std::string new_path = MigratingPath(path);
  unlink(new_path.c_str());
  Reach(1);
  Problem problem = Build(path, new_path, FormerSegment(old), ReadOwner(old));
  if (!problem) problem = PublishMigrated(path);
  if (problem) unlink(new_path.c_str());
  return problem;
}

Problem MayTakeName(const std::string& path, const OwnLocks& locks) {
  if (IdentityAt(path) == FileIdentity{}) return {};
  Problem problem;
  const std::unique_ptr<Segment> there = Segment::Map(path, SegmentAccess::kWrite, problem);
  if (problem.kind == Problem::Kind::kNotFound) return {};
  if (there != nullptr) {
    const RegistryOwner its = ReadOwner(*there);
    if (!its.is_known() || its.lock == locks[0] || its.lock == locks[1]) return {};
  }
  return {Problem::Kind::kForeign,
          path +
              ": another mapper's registry, or something else, took its place; remove that, or "
              "name another with -registry"};
}

Problem TakeName(const std::string& path, const std::string& new_path, const OwnLocks& locks) {
  const auto rename_as = [&](unsigned flags) {
    return renameat2(AT_FDCWD, new_path.c_str(), AT_FDCWD, path.c_str(), flags) == 0;
  };
  if (rename_as(RENAME_NOREPLACE)) return {};
  Problem problem;
  if (errno == EEXIST && rename_as(RENAME_EXCHANGE)) {
    problem = MayTakeName(new_path, locks);
    if (problem) {
      rename_as(RENAME_EXCHANGE);
    } else {
      MarkSuperseded(new_path);
    }
  } else {
    // A file system without such renaming: the two steps are not one there.
    problem = MayTakeName(path, locks);
    if (!problem && rename(new_path.c_str(), path.c_str()) != 0) {
      problem = Failed(path, "the new file cannot take its place", errno);
    }
  }
  unlink(new_path.c_str());
  return problem;
}

std::unique_ptr<Segment> Republish(const std::string& path, const RegistryOwner& owner,
                                   Segment& old, Problem& problem) {
  const std::string new_path = MigratingPath(path);
  unlink(new_path.c_str());
  Reach(1);
  problem = old.is_newest() ? BuildCopy(path, new_path, old, owner)
                            : Build(path, new_path, FormerSegment(old), owner);
  Reach(5);
  if (!problem) problem = TakeName(path, new_path, {owner.lock, ReadOwner(old).lock});
  Reach(8);
  if (!problem) {
    Store(old.superseded(), 1);
    TouchFile(old.fd());
  }
  Reach(9);
  unlink(new_path.c_str());
  if (problem) return nullptr;
  return Segment::Map(path, SegmentAccess::kWrite, problem);
}

Problem RollBackMigration(const std::string& path, Segment& own) {
  const std::string previous_path = PreviousPath(path);
  if (!IsNamed(own, path)) {
    if (!IsNamed(own, previous_path)) {
      return {Problem::Kind::kUnacceptable,
              path + ": is not the registry in use, and " + previous_path +
                  " is not it either, so it cannot be put back; restart the mapper"};
    }
    // Readers of the newer file are told once the name leads elsewhere, so that file needs another
    // name until then.
    const std::string new_path = MigratingPath(path);
    unlink(new_path.c_str());
    Reach(1);
    const bool is_kept = link(path.c_str(), new_path.c_str()) == 0;
    Reach(2);
    if (rename(previous_path.c_str(), path.c_str()) != 0) {
      const int error = errno;
      unlink(new_path.c_str());
      return {Problem::Kind::kSystem, previous_path + ": cannot be put back to " + path + ": " +
                                          ErrorText(error) + "; restart the mapper"};
    }
    Reach(3);
    if (is_kept) {
      MarkSuperseded(new_path);
      Reach(4);
      unlink(new_path.c_str());
    }
    Reach(5);
  } else if (IsNamed(own, previous_path)) {
    // The migration was cut short before it took the name.
    unlink(previous_path.c_str());
  }
  Store(own.superseded(), 0);
  TouchFile(own.fd());
  return {};
}

bool RollBackUnfinishedMigration(const std::string& path) {
  Problem problem;
  const std::unique_ptr<Segment> previous =
      Segment::Map(PreviousPath(path), SegmentAccess::kWrite, problem);
  return previous != nullptr && !RollBackMigration(path, *previous);
}

void FinishMigration(const std::string& path, const Segment& own) {
  const std::string previous_path = PreviousPath(path);
  if (!IsNamed(own, previous_path)) MarkSuperseded(previous_path);
  if (!IsNamed(own, previous_path) || IsNamed(own, path)) unlink(previous_path.c_str());
}

void RemoveLeftovers(const std::string& path, Segment& own) {
  unlink(MigratingPath(path).c_str());
  // The word is set when rolling a migration back was cut short.
  if (Load(own.superseded()) != 0) Store(own.superseded(), 0);
}

}  // namespace evermap
