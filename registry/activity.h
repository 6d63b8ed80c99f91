// PATH.activity, beside the registry file PATH: what a mapper tells of the last minutes, for tools. Who
// asks most, what the counters were a minute ago, and which nodes it was told to expect.
//
// It is no part of the registry, since nothing of it outlives its mapper: each makes the file anew, with
// another inode under the same name, and one that cannot make it serves without. It is made of words of
// 8 bytes, as the mapper's own machine orders them:
//
//   head          magic, version, workers, bytes of the expected names
//   expected      the names, each with a NUL behind it, in kExpectedWords words
//   snapshots     kSnapshots of: sequence, time, values and latencies of CounterTotals
//   askers        for each worker kAskersPerWorker of: sequence, address (2 words), requests by kind
//
// Invariants:
//   1. A sequence is odd while what stands behind it is replaced, and never the same for two contents.
//      Counts that only grow are added to without that.
//   2. One worker writes the askers in its table; a snapshot is written by the worker that has moved
//      the time of the next one forward.
//
// A worker counts an address by the space-saving algorithm: one that is new takes the place of the one
// with the fewest requests, and its count begins where that one's was. So whoever makes more than
// 1 / kAskersPerWorker of the requests is in the table, and no count is too small. Not every request is
// looked at when there are many: a tick of the coarse clock has kAsksPerTick for which the address is
// asked for, and of the rest one in kAskEvery counts for all of them.
//
// Thread safety: what is written above; ReadActivity() is for any process.
// Depends on nothing but the standard library and the kernel, and is not believed by who reads it:
// sizes and numbers are checked.
#ifndef EVERMAP_REGISTRY_ACTIVITY_H_
#define EVERMAP_REGISTRY_ACTIVITY_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "registry/counter_totals.h"
#include "registry/reader.h"

namespace evermap {

inline constexpr size_t kAskersPerWorker = 32;
inline constexpr uint32_t kAsksPerTick = 8;
inline constexpr uint32_t kAskEvery = 16;
inline constexpr size_t kSnapshots = 8;
inline constexpr int64_t kSnapshotIntervalMs = 10'000;
inline constexpr size_t kExpectedWords = 2048;
// How many names may be expected, and how many bytes they may have, a NUL behind each included.
inline constexpr size_t kExpectedBytesMax = kExpectedWords * 8;

// What is counted of an address, in the order of the requests of the protocol.
inline constexpr std::array<const char*, 7> kAskKinds = {"alive2", "port2", "names",    "dump",
                                                         "kill",   "stop",  "malformed"};

// An IPv6 address, or an IPv4 one as ::ffff:192.0.2.1.
using AskerAddress = std::array<char, 16>;

using ActivityWord = std::atomic<uint64_t>;
struct AskerWords {
  ActivityWord sequence;
  ActivityWord address[2];
  ActivityWord counts[kAskKinds.size()];
};

// Who asks one worker.
class Askers {
 public:
  Askers() = default;
  explicit Askers(AskerWords* words) : words_(words) {}

  // Whether the address of the request that is answered now is to be asked for: then by how many
  // requests it counts, else 0. `now_ms` is that of a coarse clock.
  uint32_t WeightOfNext(int64_t now_ms) {
    if (words_ == nullptr) return 0;
    if (now_ms != tick_ms_) {
      tick_ms_ = now_ms;
      asked_in_tick_ = 0;
    }
    if (asked_in_tick_ < kAsksPerTick) {
      ++asked_in_tick_;
      return 1;
    }
    return ++skipped_ % kAskEvery == 0 ? kAskEvery : 0;
  }
  // Counts `weight` requests of a kind. REQUIRES: weight > 0, as WeightOfNext() said.
  void Count(const AskerAddress& address, size_t kind, uint32_t weight);

 private:
  AskerWords* words_ = nullptr;  // kAskersPerWorker of them; null: nothing is counted
  int64_t tick_ms_ = 0;
  uint32_t asked_in_tick_ = 0;
  uint32_t skipped_ = 0;
};

// The mapper's side.
class Activity {
 public:
  // Makes the file, with mode 0644; null, and what went wrong as a sentence that begins with a path.
  // REQUIRES: the names fit (kExpectedBytesMax).
  static std::unique_ptr<Activity> Make(const std::string& registry_path, uint32_t workers,
                                        const std::vector<std::string>& expected,
                                        std::string& problem);
  ~Activity();
  Activity(const Activity&) = delete;
  Activity& operator=(const Activity&) = delete;

  // REQUIRES: worker < workers.
  Askers AskersOf(uint32_t worker);
  // Takes a snapshot of the counters when one is due, from any thread. Is called before something is
  // counted: after a pause the snapshot then says what was counted before it.
  void TakeSnapshotIfDue(int64_t now_ms, const RegistryView& view) {
    if (now_ms >= next_snapshot_ms_.load(std::memory_order_relaxed)) TakeSnapshot(now_ms, view);
  }

 private:
  Activity(void* mapping, size_t size, uint32_t workers)
      : mapping_(mapping), size_(size), workers_(workers) {}
  void TakeSnapshot(int64_t now_ms, const RegistryView& view);

  void* const mapping_;
  const size_t size_;
  const uint32_t workers_;
  std::atomic<int64_t> next_snapshot_ms_{0};
  std::atomic<uint64_t> snapshots_taken_{0};
};

// The reader's side.
struct ActivityReport {
  struct Asker {
    AskerAddress address = {};
    std::array<uint64_t, kAskKinds.size()> counts = {};
  };
  uint32_t workers = 0;
  std::vector<std::string> expected;
  std::vector<Asker> askers;  // each address once
  // The counters of these workers about a minute ago (up to 70 s), or when the mapper started: for
  // Growth(minute_ago, ReadCounterTotals(view, workers)). Nothing when no request came in the last
  // minute.
  std::optional<CounterTotals> minute_ago;
};
// Nothing when there is no such file, or it is of another release.
std::optional<ActivityReport> ReadActivity(const std::string& registry_path);

// "192.0.2.1", "2001:db8::1".
std::string AskerText(const AskerAddress& address);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_ACTIVITY_H_
