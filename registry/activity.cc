#include "registry/activity.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <map>
#include <numeric>

#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/counters.h"

namespace evermap {
namespace {

constexpr uint64_t kActivityMagic = 0x5956495443414d45;  // "EMACTIVY"
constexpr uint64_t kActivityVersion = 1;
// A snapshot up to this age may be the one from a minute ago.
constexpr int64_t kMinuteNs = 60'000'000'000 + kSnapshotIntervalMs * 1'000'000;

struct SnapshotWords {
  ActivityWord sequence;
  ActivityWord monotonic_ns;
  ActivityWord values[std::size(kCounters)];
  ActivityWord latency[kShownLatencyBuckets];
};
struct Head {
  ActivityWord magic;
  ActivityWord version;
  ActivityWord workers;
  ActivityWord expected_bytes;
  ActivityWord expected[kExpectedWords];
  SnapshotWords snapshots[kSnapshots];
};

size_t SizeFor(uint32_t workers) {
  return sizeof(Head) + workers * kAskersPerWorker * sizeof(AskerWords);
}
std::string ActivityPath(const std::string& registry_path) { return registry_path + ".activity"; }

uint64_t LoadOf(const ActivityWord& word) { return word.load(std::memory_order_relaxed); }
// Nobody sees it without what was set before.
void SetTo(ActivityWord& word, uint64_t value) { word.store(value, std::memory_order_release); }

// Replaces what stands behind `sequence` (invariant 1).
template <typename Write>
void Rewrite(ActivityWord& sequence, Write write) {
  const uint64_t before = LoadOf(sequence);
  SetTo(sequence, before + 1);
  write();
  SetTo(sequence, before + 2);
}

uint64_t TotalOf(const AskerWords& asker) {
  return std::accumulate(
      std::begin(asker.counts), std::end(asker.counts), uint64_t{0},
      [](uint64_t sum, const ActivityWord& count) { return sum + LoadOf(count); });
}

// The file as it is at two moments.
struct Copies {
  std::vector<uint64_t> first;
  std::vector<uint64_t> second;
};

bool ReadWords(int fd, size_t size, std::vector<uint64_t>& words) {
  words.resize(size / sizeof(uint64_t));
  return pread(fd, words.data(), size, 0) == static_cast<ssize_t>(size);
}

// Whether what stands behind the sequence at `offset` was the same at both moments, so that the first
// copy has it whole.
bool IsWhole(const Copies& copies, size_t offset) {
  const uint64_t sequence = copies.first[offset / 8];
  return sequence != 0 && sequence % 2 == 0 && sequence == copies.second[offset / 8];
}

std::vector<std::string> Names(const Copies& copies) {
  const uint64_t size = copies.first[offsetof(Head, expected_bytes) / 8];
  if (size > kExpectedBytesMax) return {};
  const char* at = reinterpret_cast<const char*>(&copies.first[offsetof(Head, expected) / 8]);
  const char* const end = at + size;
  std::vector<std::string> names;
  while (at < end) {
    const char* const stop = std::find(at, end, '\0');
    names.emplace_back(at, stop);
    at = stop + 1;
  }
  return names;
}

// The earliest snapshot that is not too old, or nothing.
std::optional<CounterTotals> MinuteAgo(const Copies& copies, int64_t now_ns) {
  std::optional<CounterTotals> earliest;
  int64_t earliest_ns = now_ns;
  for (size_t i = 0; i < kSnapshots; ++i) {
    const size_t offset = offsetof(Head, snapshots) + i * sizeof(SnapshotWords);
    const uint64_t* const words = &copies.first[offset / 8];
    const auto time_ns = static_cast<int64_t>(words[1]);
    if (!IsWhole(copies, offset) || time_ns < now_ns - kMinuteNs || time_ns >= earliest_ns)
      continue;
    earliest_ns = time_ns;
    earliest.emplace();
    const uint64_t* const values = words + 2;
    std::copy_n(values, earliest->values.size(), earliest->values.begin());
    std::copy_n(values + earliest->values.size(), earliest->latency.size(),
                earliest->latency.begin());
  }
  return earliest;
}

std::vector<ActivityReport::Asker> AllAskers(const Copies& copies, uint64_t workers) {
  std::map<AskerAddress, ActivityReport::Asker> by_address;
  for (size_t i = 0; i < workers * kAskersPerWorker; ++i) {
    const size_t offset = sizeof(Head) + i * sizeof(AskerWords);
    if (!IsWhole(copies, offset)) continue;
    const uint64_t* const words = &copies.first[offset / 8];
    AskerAddress address;
    std::memcpy(address.data(), words + 1, address.size());
    ActivityReport::Asker& asker = by_address[address];
    asker.address = address;
    for (size_t kind = 0; kind < kAskKinds.size(); ++kind) asker.counts[kind] += words[3 + kind];
  }
  std::vector<ActivityReport::Asker> askers;
  for (const auto& [address, asker] : by_address) askers.push_back(asker);
  return askers;
}

}  // namespace

void Askers::Count(const AskerAddress& address, size_t kind, uint32_t weight) {
  assert(words_ != nullptr && kind < kAskKinds.size() && weight > 0);
  uint64_t halves[2];
  std::memcpy(halves, address.data(), sizeof(halves));
  AskerWords* place = nullptr;
  for (size_t i = 0; i < kAskersPerWorker && place == nullptr; ++i) {
    AskerWords& asker = words_[i];
    if (LoadOf(asker.address[0]) == halves[0] && LoadOf(asker.address[1]) == halves[1] &&
        LoadOf(asker.sequence) != 0) {
      place = &asker;
    }
  }
  if (place == nullptr) {
    uint64_t fewest = ~uint64_t{0};
    for (size_t i = 0; i < kAskersPerWorker && fewest > 0; ++i) {
      const uint64_t total = TotalOf(words_[i]);
      if (total >= fewest) continue;
      fewest = total;
      place = &words_[i];
    }
    Rewrite(place->sequence, [&] {
      SetTo(place->address[0], halves[0]);
      SetTo(place->address[1], halves[1]);
      for (ActivityWord& count : place->counts) SetTo(count, 0);
      SetTo(place->counts[kind], fewest);
    });
  }
  place->counts[kind].fetch_add(weight, std::memory_order_relaxed);
}

std::unique_ptr<Activity> Activity::Make(const std::string& registry_path, uint32_t workers,
                                         const std::vector<std::string>& expected,
                                         std::string& problem) {
  const std::string path = ActivityPath(registry_path);
  const std::string temporary = path + "." + std::to_string(getpid());
  const size_t size = SizeFor(workers);
  // A process of the same id may have left it.
  unlink(temporary.c_str());
  const OwnedFd fd(
      open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd.valid()) {
    problem = temporary + ": cannot be created: " + ErrorText(errno);
    return nullptr;
  }
  // Room is taken now: a page that a full file system lacks later would end the mapper.
  int error = posix_fallocate(fd.get(), 0, static_cast<off_t>(size));
  if (error == 0 && fchmod(fd.get(), 0644) != 0) error = errno;
  void* mapping = MAP_FAILED;
  if (error == 0) {
    mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (mapping == MAP_FAILED) error = errno;
  }
  if (error == 0) {
    Head& head = *static_cast<Head*>(mapping);
    std::string names;
    for (const std::string& name : expected) names.append(name).push_back('\0');
    assert(names.size() <= kExpectedBytesMax);
    std::memcpy(static_cast<void*>(head.expected), names.data(), names.size());
    SetTo(head.expected_bytes, names.size());
    SetTo(head.workers, workers);
    SetTo(head.version, kActivityVersion);
    SetTo(head.magic, kActivityMagic);
    if (rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  }
  if (error != 0) {
    problem = path + ": cannot be made: " + ErrorText(error);
    if (mapping != MAP_FAILED) munmap(mapping, size);
    unlink(temporary.c_str());
    return nullptr;
  }
  return std::unique_ptr<Activity>(new Activity(mapping, size, workers));
}

Activity::~Activity() { munmap(mapping_, size_); }

Askers Activity::AskersOf(uint32_t worker) {
  assert(worker < workers_);
  auto* const askers = reinterpret_cast<AskerWords*>(static_cast<char*>(mapping_) + sizeof(Head));
  return Askers(askers + worker * kAskersPerWorker);
}

void Activity::TakeSnapshot(int64_t now_ms, const RegistryView& view) {
  int64_t due_ms = next_snapshot_ms_.load(std::memory_order_relaxed);
  if (now_ms < due_ms ||
      !next_snapshot_ms_.compare_exchange_strong(due_ms, now_ms + kSnapshotIntervalMs)) {
    return;
  }
  const uint64_t number = snapshots_taken_.fetch_add(1, std::memory_order_relaxed);
  SnapshotWords& snapshot = static_cast<Head*>(mapping_)->snapshots[number % kSnapshots];
  const CounterTotals totals = ReadCounterTotals(view, workers_);
  Rewrite(snapshot.sequence, [&] {
    SetTo(snapshot.monotonic_ns, static_cast<uint64_t>(MonotonicNs()));
    for (size_t i = 0; i < totals.values.size(); ++i) SetTo(snapshot.values[i], totals.values[i]);
    for (size_t i = 0; i < totals.latency.size(); ++i) {
      SetTo(snapshot.latency[i], totals.latency[i]);
    }
  });
}

std::optional<ActivityReport> ReadActivity(const std::string& registry_path) {
  const OwnedFd fd(
      open(ActivityPath(registry_path).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat file;
  if (!fd.valid() || fstat(fd.get(), &file) != 0 || !S_ISREG(file.st_mode) ||
      file.st_size < static_cast<off_t>(sizeof(Head)) ||
      file.st_size > static_cast<off_t>(SizeFor(kStatisticsWorkersMax))) {
    return std::nullopt;
  }
  const auto size = static_cast<size_t>(file.st_size) / 8 * 8;
  Copies copies;
  if (!ReadWords(fd.get(), size, copies.first) || !ReadWords(fd.get(), size, copies.second)) {
    return std::nullopt;
  }
  const uint64_t workers = copies.first[offsetof(Head, workers) / 8];
  if (copies.first[0] != kActivityMagic || copies.first[1] != kActivityVersion ||
      workers > kStatisticsWorkersMax || size != SizeFor(static_cast<uint32_t>(workers))) {
    return std::nullopt;
  }
  return ActivityReport{.workers = static_cast<uint32_t>(workers),
                        .expected = Names(copies),
                        .askers = AllAskers(copies, workers),
                        .minute_ago = MinuteAgo(copies, MonotonicNs())};
}

std::string AskerText(const AskerAddress& address) {
  in6_addr six;
  std::memcpy(&six, address.data(), sizeof(six));
  char text[INET6_ADDRSTRLEN] = "";
  if (IN6_IS_ADDR_V4MAPPED(&six)) {
    inet_ntop(AF_INET, address.data() + 12, text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, &six, text, sizeof(text));
  }
  return text;
}

}  // namespace evermap
