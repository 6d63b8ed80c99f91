// A followed mapper: each event in each state, when it is started again, when it is killed, and
// with which exit code its keeper ends.
#include "daemon/process/mapper_watch.h"

#include <csignal>
#include <optional>
#include <vector>

#include "gtest/gtest.h"

namespace evermap {
namespace {

using State = MapperWatch::State;
using Event = MapperWatch::Event;

constexpr int64_t kNowMs = 1'000'000;

// As waitpid(2) gives them.
constexpr int Exited(int code) { return code << 8; }
constexpr int Killed(int signal) { return signal; }

// What brings a new watch to a state.
MapperWatch In(State state) {
  MapperWatch watch;
  switch (state) {
    case State::kUnstarted:
      break;
    case State::kStarting:
      watch.On(Event::kStarted, kNowMs);
      break;
    case State::kServing:
      watch = MapperWatch::OfServingMapper();
      break;
    case State::kPausing:
      watch = In(State::kServing);
      watch.OnEnd(Killed(SIGSEGV), kNowMs);
      break;
    case State::kRestarting:
      watch = In(State::kPausing);
      watch.On(Event::kStarted, kNowMs);
      break;
    case State::kStopping:
      watch = In(State::kServing);
      watch.On(Event::kLeaves, kNowMs);
      break;
    case State::kEnded:
      watch.On(Event::kStopAsked, kNowMs);
      break;
  }
  EXPECT_EQ(watch.state(), state);
  return watch;
}

void Happen(MapperWatch& watch, Event event) {
  if (event == Event::kExited) {
    watch.OnEnd(Exited(3), kNowMs);
  } else if (event == Event::kKilled) {
    watch.OnEnd(Killed(SIGKILL), kNowMs);
  } else {
    watch.On(event, kNowMs);
  }
}

struct Transition {
  State state;
  Event event;
  State next;
};
constexpr Transition kPossible[] = {
    {State::kUnstarted, Event::kStarted, State::kStarting},
    {State::kUnstarted, Event::kNotStarted, State::kEnded},
    {State::kUnstarted, Event::kStopAsked, State::kEnded},
    {State::kStarting, Event::kReady, State::kServing},
    {State::kStarting, Event::kLeaves, State::kStopping},
    {State::kStarting, Event::kStopAsked, State::kStopping},
    {State::kStarting, Event::kExited, State::kEnded},
    {State::kStarting, Event::kKilled, State::kUnstarted},
    {State::kServing, Event::kReady, State::kServing},
    {State::kServing, Event::kLeaves, State::kStopping},
    {State::kServing, Event::kStopAsked, State::kStopping},
    {State::kServing, Event::kExited, State::kPausing},
    {State::kServing, Event::kKilled, State::kPausing},
    {State::kPausing, Event::kStarted, State::kRestarting},
    {State::kPausing, Event::kNotStarted, State::kPausing},
    {State::kPausing, Event::kStopAsked, State::kEnded},
    {State::kPausing, Event::kGivenUp, State::kEnded},
    {State::kRestarting, Event::kReady, State::kServing},
    {State::kRestarting, Event::kLeaves, State::kStopping},
    {State::kRestarting, Event::kStopAsked, State::kStopping},
    {State::kRestarting, Event::kExited, State::kPausing},
    {State::kRestarting, Event::kKilled, State::kPausing},
    {State::kRestarting, Event::kGivenUp, State::kEnded},
    {State::kStopping, Event::kReady, State::kStopping},
    {State::kStopping, Event::kLeaves, State::kStopping},
    {State::kStopping, Event::kStopAsked, State::kStopping},
    {State::kStopping, Event::kExited, State::kEnded},
    {State::kStopping, Event::kKilled, State::kEnded},
    {State::kEnded, Event::kStopAsked, State::kEnded},
};

std::optional<State> Expected(State state, Event event) {
  for (const Transition& transition : kPossible) {
    if (transition.state == state && transition.event == event) return transition.next;
  }
  return std::nullopt;
}

TEST(MapperWatchTest, EachEventInEachState) {
  for (int s = 0; s < MapperWatch::kStates; ++s) {
    for (int e = 0; e < MapperWatch::kEvents; ++e) {
      const auto state = static_cast<State>(s);
      const auto event = static_cast<Event>(e);
      SCOPED_TRACE(testing::Message() << "state " << s << ", event " << e);
      const std::optional<State> expected = Expected(state, event);
      EXPECT_EQ(MapperWatch::Next(state, event), expected);
      MapperWatch watch = In(state);
      if (expected.has_value()) {
        Happen(watch, event);
        EXPECT_EQ(watch.state(), *expected);
      } else {
        EXPECT_DEATH(Happen(watch, event), "has_value");
      }
    }
  }
}

TEST(MapperWatchTest, AMapperRunsInTheStatesThatSaySo) {
  for (const State state :
       {State::kStarting, State::kServing, State::kRestarting, State::kStopping}) {
    EXPECT_TRUE(In(state).has_mapper()) << static_cast<int>(state);
    EXPECT_FALSE(In(state).IsStartDue(INT64_MAX)) << static_cast<int>(state);
  }
  for (const State state : {State::kUnstarted, State::kPausing, State::kEnded}) {
    EXPECT_FALSE(In(state).has_mapper()) << static_cast<int>(state);
  }
  EXPECT_FALSE(In(State::kEnded).IsStartDue(INT64_MAX));
}

TEST(MapperWatchTest, TheFirstStartIsDue) {
  const MapperWatch watch;
  EXPECT_TRUE(watch.IsStartDue(0));
  EXPECT_EQ(watch.wake_ms(), 0);
}

TEST(MapperWatchTest, AMapperThatServedIsStartedAgainWithoutAPause) {
  for (const std::optional<int> status :
       {std::optional<int>(Exited(0)), std::optional<int>(Exited(1)),
        std::optional<int>(Killed(SIGKILL)), std::optional<int>()}) {
    MapperWatch watch = In(State::kServing);
    const int64_t end_ms = kNowMs + MapperWatch::kSettledMs;
    watch.OnEnd(status, end_ms);
    EXPECT_TRUE(watch.IsStartDue(end_ms));
    EXPECT_EQ(watch.wake_ms(), end_ms);
  }
}

// Expects that the next start is due `pause_ms` from now on.
void ExpectPause(const MapperWatch& watch, int64_t pause_ms) {
  EXPECT_EQ(watch.wake_ms(), kNowMs + pause_ms);
  EXPECT_FALSE(watch.IsStartDue(kNowMs + pause_ms - 1));
  EXPECT_TRUE(watch.IsStartDue(kNowMs + pause_ms));
}

TEST(MapperWatchTest, ThePauseDoublesUntilOneServes) {
  MapperWatch watch = In(State::kServing);
  watch.OnEnd(Killed(SIGSEGV), kNowMs);
  ExpectPause(watch, 0);
  for (const int64_t pause_ms : {100, 200, 400, 800, 1600, 3200, 6400, 10'000, 10'000}) {
    watch.On(Event::kStarted, kNowMs);
    EXPECT_EQ(watch.wake_ms(), kNowMs + MapperWatch::kGiveUpMs);
    watch.OnEnd(Killed(SIGSEGV), kNowMs);
    ExpectPause(watch, pause_ms);
  }
  watch.On(Event::kStarted, kNowMs);
  watch.On(Event::kReady, kNowMs - MapperWatch::kSettledMs);
  watch.OnEnd(Killed(SIGSEGV), kNowMs);
  ExpectPause(watch, 0);
  // One that serves begins it anew; how one that does not serve ended makes no difference.
  for (const int64_t pause_ms : {100, 200}) {
    watch.On(Event::kStarted, kNowMs);
    watch.OnEnd(Exited(1), kNowMs);
    ExpectPause(watch, pause_ms);
  }
}

TEST(MapperWatchTest, OneThatEndsAsSoonAsItServesIsStartedAgainAfterAPause) {
  MapperWatch watch = In(State::kRestarting);
  watch.On(Event::kReady, kNowMs);
  for (const int64_t pause_ms : {100, 200, 400}) {
    watch.OnEnd(Killed(SIGSEGV), kNowMs + MapperWatch::kSettledMs - 1);
    EXPECT_EQ(watch.wake_ms(), kNowMs + MapperWatch::kSettledMs - 1 + pause_ms);
    watch.On(Event::kStarted, kNowMs);
    watch.On(Event::kReady, kNowMs);
  }
  // Unless somebody has ended it.
  watch.OnEnd(Killed(SIGKILL), kNowMs);
  ExpectPause(watch, 0);
}

TEST(MapperWatchTest, TheFirstThatEndsAsSoonAsItServesIsNoReasonToGiveUp) {
  MapperWatch watch = In(State::kServing);
  watch.OnEnd(Exited(1), kNowMs);
  EXPECT_EQ(watch.state(), State::kPausing);
  EXPECT_FALSE(watch.IsGivingUpDue(kNowMs + MapperWatch::kGiveUpMs - 1));
  EXPECT_TRUE(watch.IsGivingUpDue(kNowMs + MapperWatch::kGiveUpMs));
}

TEST(MapperWatchTest, ItGivesUpWhenNoneHasServedForTooLong) {
  constexpr int64_t kEndMs = kNowMs + MapperWatch::kSettledMs;
  constexpr int64_t kGiveUpMs = kEndMs + MapperWatch::kGiveUpMs;
  MapperWatch watch = In(State::kServing);
  EXPECT_FALSE(watch.IsGivingUpDue(INT64_MAX));
  watch.OnEnd(Killed(SIGKILL), kEndMs);
  // One that does not come to serve, ...
  watch.On(Event::kStarted, kEndMs);
  EXPECT_EQ(watch.wake_ms(), kGiveUpMs);
  EXPECT_FALSE(watch.IsGivingUpDue(kGiveUpMs - 1));
  EXPECT_TRUE(watch.IsGivingUpDue(kGiveUpMs));
  // ... one that does and ends at once, ...
  watch.On(Event::kReady, kGiveUpMs - 2);
  EXPECT_FALSE(watch.IsGivingUpDue(kGiveUpMs));
  watch.OnEnd(Killed(SIGSEGV), kGiveUpMs - 1);
  // ... and a pause that would last longer.
  EXPECT_EQ(watch.wake_ms(), kGiveUpMs);
  EXPECT_TRUE(watch.IsGivingUpDue(kGiveUpMs));
  watch.On(Event::kGivenUp, kGiveUpMs);
  EXPECT_EQ(watch.exit_code(), 1);
  // A first mapper has not been given the port to keep.
  EXPECT_FALSE(In(State::kUnstarted).IsGivingUpDue(INT64_MAX));
  EXPECT_FALSE(In(State::kStarting).IsGivingUpDue(INT64_MAX));
}

TEST(MapperWatchTest, ThePauseDoublesWhenNoneCanBeStarted) {
  MapperWatch watch = In(State::kPausing);
  for (const int64_t pause_ms : {100, 200, 400}) {
    watch.On(Event::kNotStarted, kNowMs);
    ExpectPause(watch, pause_ms);
  }
}

// Whoever waits to hear that it serves must not wait for ever.
TEST(MapperWatchTest, OfWhichNoneServesTheKeeperEnds) {
  MapperWatch watch;
  watch.On(Event::kNotStarted, kNowMs);
  EXPECT_EQ(watch.exit_code(), 1);

  watch = MapperWatch();
  for (int i = 1; i <= MapperWatch::kFirstStartsMax; ++i) {
    ASSERT_EQ(watch.state(), State::kUnstarted) << i;
    watch.On(Event::kStarted, kNowMs);
    watch.OnEnd(Killed(SIGSEGV), kNowMs);
  }
  EXPECT_EQ(watch.exit_code(), 1);
}

TEST(MapperWatchTest, TheFirstMapperThatExitsEndsTheKeeper) {
  MapperWatch watch = In(State::kStarting);
  watch.OnEnd(Exited(7), kNowMs);
  EXPECT_EQ(watch.exit_code(), 7);
  EXPECT_EQ(watch.wake_ms(), -1);
  // Also after one before it was killed.
  watch = In(State::kStarting);
  watch.OnEnd(Killed(SIGKILL), kNowMs);
  watch.On(Event::kStarted, kNowMs);
  watch.OnEnd(Exited(0), kNowMs);
  EXPECT_EQ(watch.exit_code(), 0);
}

TEST(MapperWatchTest, AnEndThatIsWantedGivesTheExitCode) {
  struct Case {
    std::optional<int> wait_status;
    int exit_code;
  };
  for (const Case& end :
       std::vector<Case>{{Exited(0), 0}, {Exited(9), 9}, {Killed(SIGTERM), 1}, {{}, 0}}) {
    MapperWatch watch = In(State::kStopping);
    watch.OnEnd(end.wait_status, kNowMs);
    EXPECT_EQ(watch.exit_code(), end.exit_code);
  }
  // Without a mapper there is nothing to wait for.
  for (const State state : {State::kUnstarted, State::kPausing}) {
    MapperWatch watch = In(state);
    watch.On(Event::kStopAsked, kNowMs);
    EXPECT_EQ(watch.exit_code(), 0);
    EXPECT_EQ(watch.wake_ms(), -1);
  }
}

TEST(MapperWatchTest, AStopAfterTheEndKeepsTheExitCode) {
  MapperWatch watch = In(State::kStarting);
  watch.OnEnd(Exited(5), kNowMs);
  watch.On(Event::kStopAsked, kNowMs);
  EXPECT_EQ(watch.exit_code(), 5);
}

TEST(MapperWatchTest, AMapperThatDoesNotEndIsKilledOnce) {
  for (const State state : {State::kStarting, State::kServing, State::kRestarting}) {
    MapperWatch watch = In(state);
    watch.On(Event::kStopAsked, kNowMs);
    const int64_t kill_ms = kNowMs + MapperWatch::kStopTimeoutMs;
    EXPECT_EQ(watch.wake_ms(), kill_ms);
    // Asking again does not give it more time.
    watch.On(Event::kStopAsked, kNowMs + 1000);
    watch.On(Event::kLeaves, kNowMs + 1000);
    EXPECT_EQ(watch.wake_ms(), kill_ms);
    EXPECT_FALSE(watch.IsKillDue(kill_ms - 1));
    EXPECT_TRUE(watch.IsKillDue(kill_ms));
    EXPECT_FALSE(watch.IsKillDue(kill_ms));
    EXPECT_EQ(watch.wake_ms(), -1);
    watch.OnEnd(Killed(SIGKILL), kill_ms);
    EXPECT_EQ(watch.exit_code(), 1);
  }
}

TEST(MapperWatchTest, OneThatLeavesByItselfHasAllTheTimeItNeeds) {
  MapperWatch watch = In(State::kStopping);
  EXPECT_EQ(watch.wake_ms(), -1);
  EXPECT_FALSE(watch.IsKillDue(INT64_MAX));
  watch.On(Event::kStopAsked, kNowMs);
  EXPECT_EQ(watch.wake_ms(), kNowMs + MapperWatch::kStopTimeoutMs);
}

TEST(MapperWatchDeathTest, ThereIsNoExitCodeBeforeTheEnd) {
  EXPECT_DEATH(static_cast<void>(MapperWatch().exit_code()), "kEnded");
  MapperWatch watch = In(State::kServing);
  EXPECT_DEATH(watch.On(Event::kExited, kNowMs), "kExited");
}

}  // namespace
}  // namespace evermap
