#include "registry/migration.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/chain.h"
#include "registry/layout.h"
#include "registry/recovery.h"

namespace evermap {
namespace {

using layout::Header;
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

std::string NewName(const std::string& path) { return path + ".migrating"; }
std::string PreviousName(const std::string& path) { return path + ".previous"; }

Problem Failed(const std::string& path, const std::string& what, int error) {
  const bool no_space = error == ENOSPC || error == EDQUOT || error == ENOMEM;
  return {no_space ? Problem::Kind::kNoSpace : Problem::Kind::kSystem,
          path + ": cannot be migrated to layout version " +
              std::to_string(layout::kLayoutVersion) + ": " + what + ": " + ErrorText(error) +
              (no_space ? "; make room there" : "; check it and its directory") +
              ", or go on with the version of Evermap that wrote it"};
}

// Which records are on a chain. Each is met once, so that a damaged segment ends it early at worst.
std::vector<bool> FindLinked(const Segment& segment) {
  std::vector<bool> linked(segment.capacity(), false);
  for (uint32_t bucket = 0; bucket < segment.geometry().buckets; ++bucket) {
    uint64_t link = Load(segment.bucket(bucket));
    while (!layout::IsEnd(link)) {
      const uint32_t index = layout::IndexOf(link);
      if (index >= segment.capacity() || linked[index]) break;
      linked[index] = true;
      link = Load(segment.record(index).next);
    }
  }
  return linked;
}

// What becomes of a record: as recovery settles it (recovery.cc).
Kind Settled(Kind kind, bool is_linked) {
  switch (kind) {
    case Kind::kLive:
    case Kind::kAmending:
      return Kind::kLive;
    case Kind::kOrphaned:
    case Kind::kAdopting:
      return Kind::kOrphaned;
    case Kind::kRemembered:
      return Kind::kRemembered;
    case Kind::kClaimed:
      return is_linked ? Kind::kRemembered : Kind::kFree;
    default:
      return Kind::kFree;
  }
}

void CopyHeader(const Header& from, Header& to) {
  Copy(from.next_id, to.next_id);
  Store(to.generation, Load(from.generation) + 1);
  Copy(from.high_water, to.high_water);
  Copy(from.creation_floor, to.creation_floor);
  Copy(from.last_departure, to.last_departure);
  const auto copy_note = [](const layout::StatusNote& note, layout::StatusNote& out) {
    Copy(note.last_number, out.last_number);
    for (size_t i = 0; i < layout::kStatusCopies; ++i) {
      Copy(note.copies[i].number, out.copies[i].number);
      Copy(note.copies[i].checksum, out.copies[i].checksum);
      Copy(note.copies[i].words, layout::kStatusWords, out.copies[i].words);
    }
  };
  copy_note(from.mapper, to.mapper);
  copy_note(from.upgrade, to.upgrade);
}

void CopyStatistics(const Segment& from, Segment& to) {
  const uint64_t size = std::min(from.geometry().statistics_size, to.geometry().statistics_size);
  for (uint32_t worker = 0; worker < kStatisticsWorkersMax; ++worker) {
    // All members are counters, so the block is an array of them.
    const auto* counters = reinterpret_cast<const Word*>(&from.statistics(worker));
    Copy(counters, size / sizeof(Word), reinterpret_cast<Word*>(&to.statistics(worker)));
  }
}

// Copies record `index`, to be of `kind`, and links it; false when there is no memory for it.
bool CopyRecord(const Segment& from, Segment& to, uint32_t index, Kind kind) {
  const Record& record = from.record(index);
  const uint64_t sizes = Load(record.sizes);
  const size_t name_size = layout::NameSizeOf(sizes);
  const size_t extra_size = layout::ExtraSizeOf(sizes);
  // Damaged: a lookup does not find it either.
  if (name_size == 0 || name_size > kRegistryNameSizeMax) return true;
  const uint64_t kept_sizes = extra_size <= kRegistryExtraSizeMax
                                  ? sizes
                                  : layout::Sizes(name_size, 0, static_cast<uint16_t>(sizes >> 32),
                                                  static_cast<uint16_t>(sizes >> 48));
  const size_t kept_extra_size = layout::ExtraSizeOf(kept_sizes);
  if (layout::NeedsOverflow(name_size, kept_extra_size)) {
    const uint64_t offset =
        to.geometry().overflow_offset + uint64_t{index} * sizeof(layout::OverflowBlock);
    if (!to.Commit(offset, sizeof(layout::OverflowBlock))) return false;
    Copy(from.overflow(index).name, layout::kOverflowTextWords, to.overflow(index).name);
    Copy(from.overflow(index).extra, layout::kOverflowTextWords, to.overflow(index).extra);
  }
  Record& copy = to.record(index);
  Copy(record.hash, copy.hash);
  Copy(record.id, copy.id);
  Copy(record.address, copy.address);
  Store(copy.sizes, kept_sizes);
  Copy(record.connection_cookie, copy.connection_cookie);
  // Version 1 had a word of another meaning in this place, which no mapper filled.
  Copy(record.listener_cookie, copy.listener_cookie);
  Copy(record.owner, copy.owner);
  Copy(record.since_unix_ns, copy.since_unix_ns);
  Copy(record.departure, copy.departure);
  Copy(record.text, layout::kInlineWords, copy.text);
  NameBuffer buffer;
  const std::optional<std::string_view> name = IntactName(to, index, buffer);
  if (!name.has_value() || !LinkUnlessKnown(to, index, *name)) return true;
  // As recovery does.
  if (layout::KindOf(Load(record.state)) == Kind::kClaimed) {
    Store(copy.departure, NextDeparture(to));
  }
  Store(copy.state, layout::State(layout::VersionOf(Load(record.state)), 0, kind));
  return true;
}

Problem CopyAll(const std::string& path, const Segment& from, Segment& to) {
  CopyHeader(from.header(), to.header());
  CopyStatistics(from, to);
  const uint32_t slots = from.high_water();
  const uint64_t records_size = layout::RoundUpToPage(uint64_t{slots} * sizeof(Record));
  if (slots > 0 && !to.Commit(to.geometry().records_offset, records_size)) {
    return Failed(path, "no memory for its records", errno);
  }
  const std::vector<bool> linked = FindLinked(from);
  for (uint32_t index = 0; index < slots; ++index) {
    if (index == slots / 2) Reach(3);
    const Kind kind = Settled(layout::KindOf(Load(from.record(index).state)), linked[index]);
    if (kind == Kind::kFree) continue;
    if (!CopyRecord(from, to, index, kind)) {
      return Failed(path, "no memory for its long names", errno);
    }
  }
  return {};
}

// Builds the new file at `new_path`.
Problem Build(const std::string& path, const std::string& new_path, const Segment& old) {
  const SegmentOrigin origin{
      old.capacity(),
      old.hash_key(),
      Load(old.header().created_unix_ns),
      {Load(old.header().boot_id[0]), Load(old.header().boot_id[1])},
  };
  Problem problem;
  const std::unique_ptr<Segment> fresh = Segment::CreateAt(new_path, origin, problem);
  if (fresh == nullptr) return problem;
  Reach(2);
  problem = CopyAll(path, old, *fresh);
  if (problem) return problem;
  Reach(4);
  // So that the name does not reach a disk before the content. In memory there is nothing to do.
  const int error = fresh->Synchronize();
  return error == 0 ? Problem{} : Failed(path, "the new file cannot be kept", error);
}

// Marks the registry at `path`, of whatever layout, as superseded (L-13).
void MarkSuperseded(const std::string& path) {
  const OwnedFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat file;
  if (!fd.valid() || fstat(fd.get(), &file) != 0 || !S_ISREG(file.st_mode) ||
      file.st_uid != geteuid() || file.st_size < static_cast<off_t>(sizeof(Header))) {
    return;
  }
  void* page = mmap(nullptr, sizeof(Header), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) return;
  Header& header = *static_cast<Header*>(page);
  if (Load(header.magic) == layout::kMagic) Store(header.superseded, 1);
  munmap(page, sizeof(Header));
}

}  // namespace

void SetMigrationHookForTests(MigrationHook hook) { g_hook = hook; }

Problem Migrate(const std::string& path, const Segment& old) {
  const std::string new_path = NewName(path);
  const std::string previous_path = PreviousName(path);
  unlink(new_path.c_str());
  Reach(1);
  Problem problem = Build(path, new_path, old);
  if (!problem) {
    Reach(5);
    unlink(previous_path.c_str());
    Reach(6);
    if (link(path.c_str(), previous_path.c_str()) != 0) {
      problem = Failed(path, "the old file cannot be named " + previous_path, errno);
    }
  }
  if (!problem) {
    Reach(7);
    if (rename(new_path.c_str(), path.c_str()) != 0) {
      problem = Failed(path, "the new file cannot take its place", errno);
      unlink(previous_path.c_str());
    }
  }
  if (problem) {
    unlink(new_path.c_str());
    return problem;
  }
  Reach(8);
  MarkSuperseded(previous_path);
  Reach(9);
  return {};
}

Problem TakeBackMigration(const std::string& path, Segment& own) {
  const std::string previous_path = PreviousName(path);
  if (!own.IsNamed(path)) {
    if (!own.IsNamed(previous_path)) {
      return {Problem::Kind::kUnacceptable,
              path + ": is not the registry in use, and " + previous_path +
                  " is not it either, so it cannot be put back; restart the mapper"};
    }
    // Its readers are to be told when the name leads elsewhere, so it needs another one until then.
    const std::string new_path = NewName(path);
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
  } else if (own.IsNamed(previous_path)) {
    // The migration was cut short before it took the name.
    unlink(previous_path.c_str());
  }
  Store(own.header().superseded, 0);
  return {};
}

bool UndoMigration(const std::string& path) {
  Problem problem;
  const std::unique_ptr<Segment> previous =
      Segment::Map(PreviousName(path), Segment::Access::kWrite, problem);
  return previous != nullptr && !TakeBackMigration(path, *previous);
}

void ForgetMigration(const std::string& path, const Segment& own) {
  const std::string previous_path = PreviousName(path);
  if (!own.IsNamed(previous_path)) MarkSuperseded(previous_path);
  if (!own.IsNamed(previous_path) || own.IsNamed(path)) unlink(previous_path.c_str());
}

void TidyAfterMigration(const std::string& path, Segment& own) {
  unlink(NewName(path).c_str());
  // Taking a migration back was cut short.
  if (Load(own.header().superseded) != 0) Store(own.header().superseded, 0);
}

}  // namespace evermap
