// The mapper that a keeper follows, as a state machine: what may happen in each state, and what
// comes next. Pure: it makes no system call and reads no clock, so every transition can be tested.
//
//   MapperWatch watch;
//   watch.On(MapperWatch::Event::kStarted, now_ms);
//   ... epoll_wait() until watch.wake_ms() ...
//   if (watch.IsStartDue(now_ms)) ...
//
//   state        a mapper runs   what it says of the mapper
//   kUnstarted   no              none has served yet; one is to be started at wake_ms()
//   kStarting    yes             neither it nor any before it has served
//   kServing     yes             it accepts connections
//   kPausing     no              one has served before; another is to be started at wake_ms()
//   kRestarting  yes             it has not served yet, but one has before
//   kStopping    yes             it was told to end, so no other is started after it
//   kEnded       no              the keeper is to exit with exit_code()
//
// A first mapper that exits has found something wrong with its options or its host, so that another
// one would find the same: the keeper exits as well, with its exit code. It is the same with a first
// one that cannot be started at all, or of which kFirstStartsMax were ended by a signal before one has
// served: then the exit code is 1. Any other mapper is started again: after one that served without a
// pause, else after a pause that doubles from kRestartPauseMinMs to kRestartPauseMaxMs. One that ends by
// its own fault before it has served for kSettledMs counts as one that has not served: it may do so each
// time.
//
// Meanwhile connections wait at a port that nobody else can have. So the keeper gives up when none
// has served, or stayed, for kGiveUpMs, and lets all go: the port, for whoever starts another mapper,
// and the nodes' connections, by which they learn that they have to register again.
//
// A mapper that takes over from the one that is followed (words::kMainPid) is no transition: the
// keeper follows the other process, and the state is true of that as well.
//
// Thread safety: none; a keeper has one thread.
#ifndef EVERMAP_DAEMON_PROCESS_MAPPER_WATCH_H_
#define EVERMAP_DAEMON_PROCESS_MAPPER_WATCH_H_

#include <cstdint>
#include <optional>
#include <string>

namespace evermap {

class MapperWatch {
 public:
  enum class State : uint8_t {
    kUnstarted,
    kStarting,
    kServing,
    kPausing,
    kRestarting,
    kStopping,
    kEnded,
  };
  static constexpr int kStates = 7;

  enum class Event : uint8_t {
    kStarted,     // the keeper has started a mapper
    kNotStarted,  // the keeper could not start one
    kReady,       // the mapper says that it accepts connections
    kLeaves,      // the mapper says that it ends because it was told to
    kStopAsked,   // the keeper was told to end
    kExited,      // the mapper has ended by exit(3), or in a way that is not known
    kKilled,      // the mapper was ended by a signal
    kGivenUp,  // the keeper has given up, and killed the mapper that was starting, if there was one
  };
  static constexpr int kEvents = 8;

  static constexpr int64_t kRestartPauseMinMs = 100;
  static constexpr int64_t kRestartPauseMaxMs = 10'000;
  // Some seconds of attempts.
  static constexpr int kFirstStartsMax = 5;
  // How long a mapper serves until it counts as one that stays.
  static constexpr int64_t kSettledMs = 2'000;
  // How long no mapper may be there after one that has served.
  static constexpr int64_t kGiveUpMs = 20'000;
  // How long a mapper may take to end after it was told to.
  static constexpr int64_t kStopTimeoutMs = 15'000;

  // The state after `state` when `event` happens; nothing when it cannot happen there.
  static std::optional<State> Next(State state, Event event);

  // Begins as kUnstarted, with a start that is due, or as kServing with a mapper that serves
  // already.
  MapperWatch() = default;
  static MapperWatch OfServingMapper();

  // `now_ms` is MonotonicCoarseMs(). REQUIRES: Next(state(), event) is a state; the end of a mapper
  // is told by OnEnd().
  void On(Event event, int64_t now_ms);
  // The mapper has ended. `wait_status` is what waitpid(2) gives; nothing when that is not known,
  // as of a mapper that is not the keeper's child.
  void OnEnd(std::optional<int> wait_status, int64_t now_ms);

  State state() const { return state_; }
  bool has_mapper() const;
  // Whether the mapper was started and does not serve yet.
  bool is_starting() const { return state_ == State::kStarting || state_ == State::kRestarting; }
  // When IsStartDue(), IsKillDue() or IsGivingUpDue() will be true, MonotonicCoarseMs(); -1: never.
  int64_t wake_ms() const;
  // Whether a mapper is to be started now; one of kStarted and kNotStarted must follow.
  bool IsStartDue(int64_t now_ms) const;
  // Whether the mapper, which was told to end, is to be killed now. True once.
  bool IsKillDue(int64_t now_ms);
  // Whether no mapper has served for too long; kGivenUp must follow.
  bool IsGivingUpDue(int64_t now_ms) const;
  // Whether the mapper has served long enough to count as one that stays.
  bool has_settled(int64_t now_ms) const;
  // REQUIRES: state() is kEnded.
  int exit_code() const;

 private:
  // `is_own_fault`: a mapper has ended, and nobody has ended it.
  void Go(State next, int64_t now_ms, bool is_own_fault);
  bool may_give_up() const { return state_ == State::kPausing || state_ == State::kRestarting; }

  State state_ = State::kUnstarted;
  int64_t pause_ms_ = 0;     // before the last start
  int64_t start_ms_ = 0;     // of the next start; counts in kUnstarted and kPausing
  int64_t serving_ms_ = 0;   // since when one serves; counts in kServing
  int64_t trouble_ms_ = -1;  // when the last one ended that has served, or the first; -1: none has
  int64_t kill_ms_ = -1;     // when to kill the mapper; -1: not planned
  int killed_at_start_ = 0;  // mappers, while none has served
  int exit_code_ = 0;        // counts in kEnded
};

// What to say of the end of a mapper, after "the mapper"; `wait_status`: as waitpid(2) gives it, if known.
std::string HowEnded(std::optional<int> wait_status);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_MAPPER_WATCH_H_
