// Registering: a worker's mark that says whether it is between two steps that belong together, the
// registration of a node and the taking of its connection into custody. In between there is a live
// registration without a connection, as there is when a mapper has died there (mapper/leftovers.h),
// and for any time: the worker may be off the CPU.
//
//   Registering registering;
//   {
//     const Registering::Step step(registering);     // the worker
//     ... register, and hold ...
//   }
//   const uint64_t before = registering.Read();      // another thread, which has seen a registration
//   ... later ...
//   if (registering.HasPassed(before)) ... what that worker had registered is in custody or has ended ...
//
// Thread safety: one thread makes Steps; Read() and HasPassed() may be called from any.
// Invariant: the mark is odd during a Step and even otherwise, and never the same in two Steps.
#ifndef EVERMAP_DAEMON_NAMES_REGISTERING_H_
#define EVERMAP_DAEMON_NAMES_REGISTERING_H_

#include <atomic>
#include <cstdint>

namespace evermap {

class Registering {
 public:
  class Step {
   public:
    explicit Step(Registering& registering) : mark_(registering.mark_) { Advance(); }
    ~Step() { Advance(); }
    Step(const Step&) = delete;
    Step& operator=(const Step&) = delete;

   private:
    // The registry makes a registration visible with a release, so who sees one sees the odd mark;
    // and who sees the even mark sees what was done in the step.
    void Advance() {
      mark_.store(mark_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    }
    std::atomic<uint64_t>& mark_;
  };

  uint64_t Read() const { return mark_.load(std::memory_order_acquire); }
  // Whether the worker was outside of a step at some time since it was Read().
  bool HasPassed(uint64_t before) const { return before % 2 == 0 || Read() != before; }

 private:
  alignas(64) std::atomic<uint64_t> mark_{0};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_NAMES_REGISTERING_H_
