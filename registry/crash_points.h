// The word of a segment in builds of the registry for tests of INV-3: each change of it is a point
// at which a test can let its process die, or let another writer come in between.
//
// Complete, because nothing else can change a segment in such a build: the test maps it without
// leave to write, and gives that to one page for the time of one change (registry_crash_test.cc).
//
// Thread safety: that of std::atomic, as long as the hooks are not changed meanwhile.
#ifndef EVERMAP_REGISTRY_CRASH_POINTS_H_
#define EVERMAP_REGISTRY_CRASH_POINTS_H_

#include <atomic>
#include <cstdint>

namespace evermap {

// What a test does around each change; null: nothing.
struct CrashPoints {
  using Hook = void (*)(const void* word);
  static inline Hook before = nullptr;
  static inline Hook after = nullptr;
};

// As std::atomic<uint64_t>, as far as the registry uses it. A compare-and-swap that fails is a
// point, too.
class CrashPointWord {
 public:
  static constexpr bool is_always_lock_free = std::atomic<uint64_t>::is_always_lock_free;

  uint64_t load(std::memory_order order = std::memory_order_seq_cst) const {
    return word_.load(order);
  }
  void store(uint64_t value, std::memory_order order = std::memory_order_seq_cst) {
    const Change change(&word_);
    word_.store(value, order);
  }
  uint64_t fetch_add(uint64_t value, std::memory_order order = std::memory_order_seq_cst) {
    const Change change(&word_);
    return word_.fetch_add(value, order);
  }
  bool compare_exchange_strong(uint64_t& expected, uint64_t value, std::memory_order success,
                               std::memory_order failure) {
    const Change change(&word_);
    return word_.compare_exchange_strong(expected, value, success, failure);
  }
  // Never fails without reason, so that the points of a run can be numbered.
  bool compare_exchange_weak(uint64_t& expected, uint64_t value, std::memory_order success,
                             std::memory_order failure) {
    return compare_exchange_strong(expected, value, success, failure);
  }

 private:
  class Change {
   public:
    explicit Change(const void* word) : word_(word) {
      if (CrashPoints::before != nullptr) CrashPoints::before(word_);
    }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;
    ~Change() {
      if (CrashPoints::after != nullptr) CrashPoints::after(word_);
    }

   private:
    const void* word_;
  };

  std::atomic<uint64_t> word_;
};

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_CRASH_POINTS_H_
