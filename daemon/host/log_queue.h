// Lines on their way to the thread that writes the log: a ring of slots, into which any number of
// threads put lines, and out of which one takes them.
//
// Thread safety: Put() and puts() from any thread, the rest from one. Nobody waits for a lock: who
// is stopped in the middle of Put() keeps what was put after it from being taken, and nobody from
// putting.
// Invariants:
//   1  A slot has a turn. Slot s may be filled by the Put() of number n, where n % kLinesMax is s,
//      when its turn is n, and be emptied by the Take() of number n when its turn is n + 1.
//   2  A number is one Put()'s, who took it from next_; so a slot has one writer at a time.
#ifndef EVERMAP_DAEMON_HOST_LOG_QUEUE_H_
#define EVERMAP_DAEMON_HOST_LOG_QUEUE_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <utility>

namespace evermap {

template <typename Line, size_t kLinesMax>
class LogQueue {
  static_assert((kLinesMax & (kLinesMax - 1)) == 0, "a power of two, so that numbers may wrap");

 public:
  LogQueue() {
    for (size_t i = 0; i < kLinesMax; ++i) slots_[i].turn.store(i, std::memory_order_relaxed);
  }

  // False when the queue is full: `line` is dropped then, and counted.
  bool Put(Line line) {
    uint64_t number = next_.load(std::memory_order_relaxed);
    while (true) {
      const uint64_t turn = SlotOf(number).turn.load(std::memory_order_acquire);
      if (turn == number) {
        if (next_.compare_exchange_weak(number, number + 1, std::memory_order_relaxed)) break;
      } else if (turn < number) {
        // The line of one round before was not taken yet.
        dropped_.fetch_add(1, std::memory_order_relaxed);
        return false;
      } else {
        number = next_.load(std::memory_order_relaxed);
      }
    }
    Slot& slot = SlotOf(number);
    slot.line = std::move(line);
    slot.turn.store(number + 1, std::memory_order_release);
    // The number wraps, but not within the time in which a thread goes to sleep.
    puts_.fetch_add(1, std::memory_order_release);
    puts_.notify_one();
    return true;
  }

  // The line that was put first; nothing when there is none.
  std::optional<Line> Take() {
    const uint64_t number = taken_;
    Slot& slot = SlotOf(number);
    if (slot.turn.load(std::memory_order_acquire) != number + 1) return std::nullopt;
    std::optional<Line> line(std::exchange(slot.line, {}));
    slot.turn.store(number + kLinesMax, std::memory_order_release);
    ++taken_;
    return line;
  }

  // Returns when a line was put after `seen` was puts().
  void AwaitPut(int seen) const { puts_.wait(seen, std::memory_order_acquire); }
  int puts() const { return puts_.load(std::memory_order_acquire); }

  // How many lines have been dropped since the last call.
  uint64_t TakeDropped() { return dropped_.exchange(0, std::memory_order_relaxed); }
  // How many lines were ever put.
  uint64_t put_in_all() const { return next_.load(std::memory_order_acquire); }

 private:
  struct Slot {
    std::atomic<uint64_t> turn;
    Line line;
  };

  Slot& SlotOf(uint64_t number) { return slots_[number % kLinesMax]; }

  std::array<Slot, kLinesMax> slots_;
  std::atomic<uint64_t> next_{0};  // the number of the next Put()
  std::atomic<int> puts_{0};       // an int is what the kernel waits for
  std::atomic<uint64_t> dropped_{0};
  uint64_t taken_ = 0;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_LOG_QUEUE_H_
