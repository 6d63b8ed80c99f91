#include "daemon/host/keyed_limiter.h"

#include "absl/hash/hash.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

// Never 0. Which keys share a hash differs from one process to the next, so nobody can choose them.
uint64_t HashOf(std::string_view key) {
  return absl::Hash<std::string_view>()(key) | (uint64_t{1} << 63);
}

}  // namespace

bool KeyedLimiter::WouldAllow(std::string_view key) const {
  const uint64_t hash = HashOf(key);
  const int64_t now_ms = MonotonicCoarseMs();
  for (size_t i = 0; i < kProbes; ++i) {
    const Entry& entry = entries_[(hash + i) % kKeysMax];
    if (entry.hash.load(std::memory_order_relaxed) == hash) {
      return now_ms >= entry.next_ms.load(std::memory_order_relaxed);
    }
  }
  return true;
}

bool KeyedLimiter::Allow(std::string_view key, uint64_t& suppressed) {
  const uint64_t hash = HashOf(key);
  const int64_t now_ms = MonotonicCoarseMs();
  for (size_t i = 0; i < kProbes; ++i) {
    Entry& entry = entries_[(hash + i) % kKeysMax];
    if (entry.hash.load(std::memory_order_relaxed) != hash) continue;
    int64_t next_ms = entry.next_ms.load(std::memory_order_relaxed);
    if (now_ms < next_ms || !entry.next_ms.compare_exchange_strong(next_ms, now_ms + kIntervalMs,
                                                                   std::memory_order_relaxed)) {
      entry.suppressed.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
    suppressed = entry.suppressed.exchange(0, std::memory_order_relaxed);
    return true;
  }
  for (size_t i = 0; i < kProbes; ++i) {
    Entry& entry = entries_[(hash + i) % kKeysMax];
    int64_t next_ms = entry.next_ms.load(std::memory_order_relaxed);
    if (now_ms < next_ms || !entry.next_ms.compare_exchange_strong(next_ms, now_ms + kIntervalMs,
                                                                   std::memory_order_relaxed)) {
      continue;
    }
    entry.hash.store(hash, std::memory_order_relaxed);
    suppressed = entry.suppressed.exchange(0, std::memory_order_relaxed) +
                 left_out_.exchange(0, std::memory_order_relaxed);
    return true;
  }
  left_out_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

}  // namespace evermap
