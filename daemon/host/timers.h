// Timers: the deadlines of one thread that waits in poll(2) or epoll_wait(2).
//
//   Timers timers;
//   Timer flush(timers, [&] { store.Flush(); });
//   flush.Plan(MonotonicCoarseMs() + 50);
//   while (true) {
//     poll(polled, count, timers.TimeoutMs(MonotonicCoarseMs()));
//     ...
//     timers.RunDue(MonotonicCoarseMs());
//   }
//
// A timer belongs to the unit whose deadline it is, and bears its name; the thread's loop knows
// none of them, and asks for the earliest. All times are MonotonicCoarseMs().
//
// Thread safety: a Timers and its timers belong to one thread.
// Bounds: a process has about ten timers, so all are looked at in turn, and nothing is allocated
// after their construction.
#ifndef EVERMAP_DAEMON_HOST_TIMERS_H_
#define EVERMAP_DAEMON_HOST_TIMERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <vector>

namespace evermap {

class Timer;

// The time from `now_ms` to the first of these, as epoll_wait(2) takes it. -1 is never, here and there.
int TimeoutUntil(int64_t now_ms, std::initializer_list<int64_t> wake_times_ms);

class Timers {
 public:
  Timers() = default;
  ~Timers();
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;

  // The time from `now_ms` to the earliest deadline, as poll(2) takes it: 0 when one is over, -1
  // when none is planned.
  int TimeoutMs(int64_t now_ms) const;
  // Calls the callback of each timer whose deadline is at or before `now_ms`, once each, in the
  // order of their construction. A timer is not planned any more when its callback is called, which
  // may plan it again: for a deadline that is over already, until the next RunDue().
  void RunDue(int64_t now_ms);

 private:
  friend class Timer;
  std::vector<Timer*> timers_;  // in the order of their construction; each takes itself off
  bool is_running_ = false;     // RunDue() is under way, and timers_ does not change
};

// One deadline, and what is to be done then. Not planned at first.
class Timer {
 public:
  // `timers` outlives this. Neither constructed nor destroyed in a callback.
  Timer(Timers& timers, std::function<void()> callback);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // Takes the place of an earlier plan. A deadline that is over already is kept at the next
  // RunDue().
  void Plan(int64_t deadline_ms) { deadline_ms_ = deadline_ms; }
  // The same, but an earlier plan stays.
  void PlanUnlessPlanned(int64_t deadline_ms) {
    if (!is_planned()) Plan(deadline_ms);
  }
  void Cancel() { deadline_ms_.reset(); }
  bool is_planned() const { return deadline_ms_.has_value(); }
  std::optional<int64_t> deadline_ms() const { return deadline_ms_; }

 private:
  friend class Timers;
  Timers& timers_;
  const std::function<void()> callback_;
  std::optional<int64_t> deadline_ms_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_TIMERS_H_
