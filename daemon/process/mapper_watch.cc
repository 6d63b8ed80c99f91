#include "daemon/process/mapper_watch.h"

#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>

#include "absl/strings/str_cat.h"

namespace evermap {
namespace {

using State = MapperWatch::State;
using Event = MapperWatch::Event;
using enum MapperWatch::State;

// Cells of events that cannot happen in a state.
constexpr std::optional<State> kNever = std::nullopt;

// By state, which stands at the end of each line, then by event.
// clang-format off
constexpr std::array<std::array<std::optional<State>, MapperWatch::kEvents>, MapperWatch::kStates>
    kTransitions = {{
  // kStarted   kNotStarted  kReady     kLeaves    kStopAsked  kExited   kKilled     kGivenUp
  {kStarting,   kEnded,      kNever,    kNever,    kEnded,     kNever,   kNever,     kNever},  // kUnstarted
  {kNever,      kNever,      kServing,  kStopping, kStopping,  kEnded,   kUnstarted, kNever},  // kStarting
  {kNever,      kNever,      kServing,  kStopping, kStopping,  kPausing, kPausing,   kNever},  // kServing
  {kRestarting, kPausing,    kNever,    kNever,    kEnded,     kNever,   kNever,     kEnded},  // kPausing
  {kNever,      kNever,      kServing,  kStopping, kStopping,  kPausing, kPausing,   kEnded},  // kRestarting
  {kNever,      kNever,      kStopping, kStopping, kStopping,  kEnded,   kEnded,     kNever},  // kStopping
  {kNever,      kNever,      kNever,    kNever,    kEnded,     kNever,   kNever,     kNever},  // kEnded
}};
// clang-format on

}  // namespace

std::optional<State> MapperWatch::Next(State state, Event event) {
  return kTransitions[static_cast<size_t>(state)][static_cast<size_t>(event)];
}

MapperWatch MapperWatch::OfServingMapper() {
  MapperWatch watch;
  watch.state_ = State::kServing;
  return watch;
}

void MapperWatch::On(Event event, int64_t now_ms) {
  assert(event != Event::kExited && event != Event::kKilled);
  const std::optional<State> next = Next(state_, event);
  assert(next.has_value());
  if (event == Event::kStopAsked && has_mapper() && kill_ms_ < 0) {
    kill_ms_ = now_ms + kStopTimeoutMs;
  }
  if (event == Event::kGivenUp || (event == Event::kNotStarted && *next == kEnded)) exit_code_ = 1;
  Go(*next, now_ms, /*is_own_fault=*/false);
}

void MapperWatch::OnEnd(std::optional<int> wait_status, int64_t now_ms) {
  const int status = wait_status.value_or(0);
  const bool has_exited = WIFEXITED(status);
  std::optional<State> next = Next(state_, has_exited ? Event::kExited : Event::kKilled);
  assert(next.has_value());
  if (*next == kUnstarted && ++killed_at_start_ == kFirstStartsMax) next = kEnded;
  kill_ms_ = -1;
  if (*next == kEnded) exit_code_ = has_exited ? WEXITSTATUS(status) : 1;
  const bool was_killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  Go(*next, now_ms, /*is_own_fault=*/wait_status.has_value() && !was_killed);
}

void MapperWatch::Go(State next, int64_t now_ms, bool is_own_fault) {
  if (next == State::kServing && state_ != State::kServing) serving_ms_ = now_ms;

  if (next == State::kUnstarted || next == State::kPausing) {
    const bool has_served = state_ == State::kServing && (!is_own_fault || has_settled(now_ms));
    pause_ms_ = has_served ? 0 : std::clamp(pause_ms_ * 2, kRestartPauseMinMs, kRestartPauseMaxMs);
    if (has_served || trouble_ms_ < 0) trouble_ms_ = now_ms;
    start_ms_ = now_ms + pause_ms_;
  }
  state_ = next;
}

bool MapperWatch::has_mapper() const {
  return state_ == State::kStarting || state_ == State::kServing || state_ == State::kRestarting ||
         state_ == State::kStopping;
}

int64_t MapperWatch::wake_ms() const {
  if (state_ == State::kUnstarted) return start_ms_;
  const int64_t give_up_ms = trouble_ms_ + kGiveUpMs;
  if (state_ == State::kPausing) return std::min(start_ms_, give_up_ms);
  return state_ == State::kRestarting ? give_up_ms : kill_ms_;
}

bool MapperWatch::IsStartDue(int64_t now_ms) const {
  return (state_ == State::kUnstarted || state_ == State::kPausing) && now_ms >= start_ms_;
}

bool MapperWatch::IsKillDue(int64_t now_ms) {
  if (kill_ms_ < 0 || now_ms < kill_ms_) return false;
  kill_ms_ = -1;
  return true;
}

bool MapperWatch::IsGivingUpDue(int64_t now_ms) const {
  return may_give_up() && now_ms >= trouble_ms_ + kGiveUpMs;
}

bool MapperWatch::has_settled(int64_t now_ms) const {
  return state_ == State::kServing && now_ms - serving_ms_ >= kSettledMs;
}

int MapperWatch::exit_code() const {
  assert(state_ == State::kEnded);
  return exit_code_;
}

std::string HowEnded(std::optional<int> wait_status) {
  if (!wait_status.has_value()) return "has ended";
  return WIFEXITED(*wait_status)
             ? absl::StrCat("ended with exit code ", WEXITSTATUS(*wait_status))
             : absl::StrCat("was ended by signal ", sigabbrev_np(WTERMSIG(*wait_status)));
}

}  // namespace evermap
