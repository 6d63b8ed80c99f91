#include "daemon/serve/exchange.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/serve/serve_fixture_for_test.h"

namespace evermap {
namespace {

using State = Connection::State;
using Kind = Event::Kind;
using Waiting = NotingLoop::Waiting;

constexpr RegistrationRef kRegistration = {.slot = 3, .id = 77};
// More than any socket of these tests takes at once.
constexpr size_t kLongSize = size_t{8} << 20;

absl::Span<const std::byte> Bytes(std::string_view text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

std::string NamesFrame() {
  std::array<std::byte, protocol::kFrameSizeMax> frame;
  const size_t size = protocol::EncodeNamesRequest(absl::MakeSpan(frame));
  return {reinterpret_cast<const char*>(frame.data()), size};
}

class ExchangeTest : public ServeTest {
 protected:
  void SetUp() override {
    ServeTest::SetUp();
    exchange_.emplace(loop_, *shared_, statistics());
  }

  // A new connection of kReading; its peer is `client_`.
  uint32_t Open() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    client_ = OwnedFd(fds[0]);
    server_fd_ = fds[1];
    number_ = *exchange_->Open(fds[1]);
    seen_.insert({State::kFree, StateOf()});
    return number_;
  }
  // The same, waiting for its request.
  uint32_t OpenAndWait() {
    Open();
    EXPECT_EQ(exchange_->ReceiveFirst(number_).kind, Kind::kNothing);
    EXPECT_TRUE(exchange_->has_unfinished());
    return number_;
  }

  State StateOf() const { return exchange_->connections()[number_].state; }

  // Does a step and notes which transition it was.
  template <typename Function>
  void Step(State expected, Function step) {
    const State before = StateOf();
    step();
    EXPECT_EQ(StateOf(), expected);
    seen_.insert({before, StateOf()});
  }

  void PostponeNodes();

  Event Receive(std::string_view bytes) {
    loop_.Complete(number_, Waiting::kReadable);
    return exchange_->OnReceived(number_, Bytes(bytes));
  }
  void Write() {
    loop_.Complete(number_, Waiting::kWritable);
    exchange_->OnWritable(number_);
  }
  void SendLong() {
    exchange_->SendTextAndClose(number_, std::make_shared<std::string>(kLongSize, 'x'));
  }
  // Everything that is there for the client, up to the end if there is one.
  std::string Read() const {
    std::string all;
    std::array<char, 65536> chunk;
    ssize_t got;
    while ((got = recv(client_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT)) > 0) {
      all.append(chunk.data(), static_cast<size_t>(got));
    }
    return all;
  }
  bool IsAtEnd() const {
    char byte;
    return recv(client_.get(), &byte, 1, MSG_DONTWAIT) == 0;
  }

  std::optional<Exchange> exchange_;
  OwnedFd client_;
  int server_fd_ = -1;
  uint32_t number_ = kNoConnection;
  std::set<std::pair<State, State>> seen_;
};

TEST_F(ExchangeTest, ARequestThatHasComeIsTakenAtOnce) {
  Open();
  const std::string frame = NamesFrame();
  ASSERT_EQ(send(client_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  const Event event = exchange_->ReceiveFirst(number_);
  EXPECT_EQ(event.kind, Kind::kRequest);
  EXPECT_EQ(event.connection, number_);
  EXPECT_EQ(event.fd, server_fd_);
  EXPECT_EQ(event.body.size(), 1u);
  EXPECT_FALSE(event.has_excess);
  EXPECT_FALSE(event.is_draining);
  EXPECT_GT(event.begin_ns, 0);
  EXPECT_FALSE(exchange_->has_unfinished());
  EXPECT_TRUE(loop_.pending.empty());
  exchange_->SendAndClose(number_, Bytes("reply"));
  EXPECT_EQ(StateOf(), State::kFree);
  EXPECT_EQ(Read(), "reply");
  EXPECT_TRUE(IsAtEnd());
  EXPECT_EQ(statistics().connections_now, 0u);
}

TEST_F(ExchangeTest, ARequestMayComeInPieces) {
  OpenAndWait();
  const std::string frame = NamesFrame();
  for (size_t i = 0; i + 1 < frame.size(); ++i) {
    EXPECT_EQ(Receive(frame.substr(i, 1)).kind, Kind::kNothing);
    EXPECT_EQ(StateOf(), State::kReading);
  }
  EXPECT_EQ(Receive(frame.substr(frame.size() - 1)).kind, Kind::kRequest);
  exchange_->Close(number_);
}

TEST_F(ExchangeTest, BytesAfterAFrameWhoseLengthCameEarlierAreExcess) {
  OpenAndWait();
  const std::string frame = NamesFrame();
  EXPECT_EQ(Receive(frame.substr(0, 2)).kind, Kind::kNothing);
  const Event event = Receive(frame.substr(2) + "more");
  EXPECT_EQ(event.kind, Kind::kRequest);
  EXPECT_EQ(event.body.size(), 1u);
  EXPECT_TRUE(event.has_excess);
  exchange_->Close(number_);
}

TEST_F(ExchangeTest, BytesThatAreNoFrameAreMalformed) {
  OpenAndWait();
  const Event event = Receive(std::string_view("\0\0", 2));
  EXPECT_EQ(event.kind, Kind::kMalformed);
  EXPECT_EQ(event.fd, server_fd_);
  exchange_->Close(number_);
}

TEST_F(ExchangeTest, TheFirstBytesOfATurnBeginItsLatencies) {
  exchange_->BeginTurn();
  OpenAndWait();
  const int64_t first_ns = Receive(NamesFrame()).begin_ns;
  exchange_->Close(number_);
  OpenAndWait();
  EXPECT_EQ(Receive(NamesFrame()).begin_ns, first_ns);
  exchange_->Close(number_);
  exchange_->BeginTurn();
  OpenAndWait();
  EXPECT_GT(Receive(NamesFrame()).begin_ns, first_ns);
  exchange_->Close(number_);
}

TEST_F(ExchangeTest, ALongReplyIsSentAsThePeerTakesIt) {
  OpenAndWait();
  Receive(NamesFrame());
  SendLong();
  EXPECT_EQ(StateOf(), State::kWriting);
  size_t read = 0;
  while (StateOf() == State::kWriting) {
    read += Read().size();
    Write();
  }
  read += Read().size();
  EXPECT_EQ(read, kLongSize);
  EXPECT_TRUE(IsAtEnd());
}

TEST_F(ExchangeTest, ANodeGetsItsReplyAndStays) {
  OpenAndWait();
  Receive(NamesFrame());
  exchange_->KeepNode(number_, kRegistration, Bytes("reply"), false);
  EXPECT_EQ(Read(), "reply");
  EXPECT_FALSE(IsAtEnd());
  EXPECT_FALSE(exchange_->has_unfinished());
  int keepalive = 0;
  socklen_t size = sizeof(keepalive);
  ASSERT_EQ(getsockopt(server_fd_, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &size), 0);
  EXPECT_EQ(keepalive, 1);
  const Event event = Receive("");
  EXPECT_EQ(event.kind, Kind::kNodeEnded);
  EXPECT_EQ(event.registration.slot, kRegistration.slot);
  EXPECT_EQ(event.registration.id, kRegistration.id);
  exchange_->Close(number_);
  EXPECT_TRUE(IsAtEnd());
}

TEST_F(ExchangeTest, ANodeThatSentMoreThanItsRequestEnds) {
  OpenAndWait();
  Receive(NamesFrame());
  exchange_->KeepNode(number_, kRegistration, Bytes("reply"), true);
  char byte;
  EXPECT_EQ(recv(server_fd_, &byte, 1, MSG_DONTWAIT), 0);  // what the pending read will report
  EXPECT_EQ(Receive("").kind, Kind::kNodeEnded);
  exchange_->Close(number_);
}

TEST_F(ExchangeTest, ANodeThatCannotHaveItsReplyEnds) {
  OpenAndWait();
  Receive(NamesFrame());
  client_ = OwnedFd();
  exchange_->KeepNode(number_, kRegistration, Bytes("reply"), false);
  EXPECT_EQ(StateOf(), State::kNode);
  EXPECT_EQ(Receive("").kind, Kind::kNodeEnded);
  exchange_->Close(number_);
}

TEST_F(ExchangeTest, ThereAreNoMoreConnectionsThanDescriptors) {
  for (uint32_t i = 0; i < kDescriptorsMax; ++i) {
    OwnedFd connection(dup(wake_fd_));
    ASSERT_TRUE(exchange_->AdoptNode(connection, kRegistration));
    EXPECT_FALSE(connection.valid());
  }
  OwnedFd connection(dup(wake_fd_));
  EXPECT_FALSE(exchange_->AdoptNode(connection, kRegistration));
  EXPECT_TRUE(connection.valid());
  const int fd = connection.Release();
  EXPECT_FALSE(exchange_->Open(fd).has_value());
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);  // closed
  EXPECT_EQ(statistics().connections_now, kDescriptorsMax);
}

TEST_F(ExchangeTest, TheGaugeIsTheMappersThatServes) {
  // What an earlier mapper has left there.
  statistics().connections_now.store(77);
  exchange_->StoreGauge();
  EXPECT_EQ(statistics().connections_now, 0u);
  OwnedFd connection(dup(wake_fd_));
  ASSERT_TRUE(exchange_->AdoptNode(connection, kRegistration));
  EXPECT_EQ(statistics().connections_now, 1u);
  // The successor has stored its own count meanwhile.
  shared_->has_successor.store(true);
  statistics().connections_now.store(77);
  OwnedFd late(dup(wake_fd_));
  ASSERT_TRUE(exchange_->AdoptNode(late, kRegistration));
  EXPECT_EQ(statistics().connections_now, 77u);
}

TEST_F(ExchangeTest, ARequestThatHasComeIsAnsweredThoughItsTimeIsOver) {
  OpenAndWait();
  exchange_->EndUnfinished(number_);
  EXPECT_FALSE(exchange_->has_unfinished());
  const Event event = Receive(NamesFrame());
  EXPECT_EQ(event.kind, Kind::kRequest);
  EXPECT_TRUE(event.is_draining);
  exchange_->SendAndClose(number_, Bytes("reply"));
  EXPECT_EQ(Read(), "reply");
}

TEST_F(ExchangeTest, APieceOfARequestIsWaitedForWithoutADeadlineWhenItsTimeIsOver) {
  OpenAndWait();
  exchange_->EndUnfinished(number_);
  EXPECT_EQ(Receive(NamesFrame().substr(0, 1)).kind, Kind::kNothing);
  EXPECT_EQ(StateOf(), State::kDraining);
  EXPECT_FALSE(exchange_->has_unfinished());
  EXPECT_EQ(Receive("").kind, Kind::kNothing);
  EXPECT_EQ(StateOf(), State::kFree);
}

// Nodes that have to wait for their names, and get them, or not.
void ExchangeTest::PostponeNodes() {
  // An event's body is in it.
  const std::string frame = NamesFrame();
  OpenAndWait();
  Event waiting = Receive(frame);
  Step(State::kPostponed, [&] { exchange_->Postpone(waiting); });
  EXPECT_FALSE(exchange_->has_unfinished());
  const Event again = exchange_->TakeUp(number_, waiting.has_excess, waiting.begin_ns);
  EXPECT_EQ(again.body.size(), frame.size() - protocol::kLengthSize);
  exchange_->Postpone(again);
  Step(State::kNode, [&] { exchange_->KeepNode(number_, kRegistration, Bytes("reply"), false); });
  Receive("");
  exchange_->Close(number_);
  OpenAndWait();
  waiting = Receive(frame);
  Step(State::kPostponed, [&] { exchange_->Postpone(waiting); });
  Step(State::kFree, [&] { exchange_->SendAndClose(number_, Bytes("refused")); });
  OpenAndWait();
  waiting = Receive(frame);
  Step(State::kPostponed, [&] { exchange_->Postpone(waiting); });
  Step(State::kWriting, [&] { SendLong(); });
  client_ = OwnedFd();
  Step(State::kFree, [&] { Write(); });
}

// Each block is one way through the table of transitions.
TEST_F(ExchangeTest, EveryRowOfTheTableIsTaken) {
  // A request that never comes.
  OpenAndWait();
  Step(State::kFree, [&] { Receive(""); });
  // One that comes too late.
  OpenAndWait();
  Step(State::kDraining, [&] { exchange_->EndUnfinished(number_); });
  Step(State::kFree, [&] { Receive(""); });
  // One that was there when its time was over, and whose reply is long.
  OpenAndWait();
  Step(State::kDraining, [&] { exchange_->EndUnfinished(number_); });
  Receive(NamesFrame());
  Step(State::kWriting, [&] { SendLong(); });
  client_ = OwnedFd();
  Step(State::kFree, [&] { Write(); });
  // The same for a list.
  OpenAndWait();
  Step(State::kDraining, [&] { exchange_->EndUnfinished(number_); });
  Receive(NamesFrame());
  Step(State::kAwaitingList, [&] { exchange_->AwaitList(number_); });
  Step(State::kFree, [&] { exchange_->SendAndClose(number_, Bytes("reply")); });
  // A long list, which is not taken in time.
  OpenAndWait();
  Receive(NamesFrame());
  Step(State::kAwaitingList, [&] { exchange_->AwaitList(number_); });
  EXPECT_FALSE(exchange_->has_unfinished());
  Step(State::kWriting, [&] { SendLong(); });
  EXPECT_TRUE(exchange_->has_unfinished());
  Step(State::kEnding, [&] { exchange_->EndUnfinished(number_); });
  Step(State::kFree, [&] { Write(); });
  // A long reply that is no list.
  OpenAndWait();
  Receive(NamesFrame());
  Step(State::kWriting,
       [&] { exchange_->SendAndClose(number_, Bytes(std::string(kLongSize, 'x'))); });
  client_ = OwnedFd();
  Step(State::kFree, [&] { Write(); });
  // A node.
  OpenAndWait();
  Receive(NamesFrame());
  Step(State::kNode, [&] { exchange_->KeepNode(number_, kRegistration, Bytes("reply"), false); });
  Receive("");
  Step(State::kFree, [&] { exchange_->Close(number_); });
  PostponeNodes();
  // A node that was handed over. It gets the number that was free last.
  OwnedFd connection(dup(wake_fd_));
  Step(State::kNode, [&] { exchange_->AdoptNode(connection, kRegistration); });
  Receive("");
  exchange_->Close(number_);

  std::set<std::pair<State, State>> table;
  for (const Transition& transition : kTransitions) {
    EXPECT_TRUE(table.insert({transition.from, transition.to}).second) << "a row is there twice";
  }
  EXPECT_EQ(seen_, table);
}

using ExchangeDeathTest = ExchangeTest;

TEST_F(ExchangeDeathTest, OtherTransitionsAreBugs) {
  OwnedFd connection(dup(wake_fd_));
  ASSERT_TRUE(exchange_->AdoptNode(connection, kRegistration));
  number_ = 0;
  ASSERT_EQ(Receive("").kind, Kind::kNodeEnded);
  EXPECT_DEATH(exchange_->AwaitList(number_), "kNextStates");
}

TEST_F(ExchangeDeathTest, ClosingWhileAnOperationIsPendingIsABug) {
  OpenAndWait();
  EXPECT_DEATH(exchange_->Close(number_), "pending");
}

}  // namespace
}  // namespace evermap
