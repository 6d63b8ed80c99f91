#include "daemon/serve/verbs.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/host/tcp_pair_for_test.h"
#include "daemon/serve/serve_fixture_for_test.h"

namespace evermap {
namespace {

using Then = Reply::Then;

// The verbs look at this number for nothing but to ask who the peer is, and of this one the kernel
// does not tell: it counts as a peer on another host.
constexpr int kRemote = -1;

std::string Text(const Reply& reply) {
  return {reinterpret_cast<const char*>(reply.bytes.data()), reply.bytes.size()};
}

class VerbsTest : public ServeTest {
 protected:
  void SetUp() override {
    ServeTest::SetUp();
    Make({.port = 4369});
  }

  void Make(ServeOptions options) {
    Serve(std::move(options));
    registrar_.emplace(*registry_, *custody_, reservations_, statistics());
    access_.emplace(*shared_);
    verbs_.emplace(*shared_, *registrar_, *access_, statistics(), [] {});
  }

  int local() const { return peer_.server.get(); }

  Reply Answer(const protocol::Request& request, int fd) {
    return verbs_->Answer({.fd = fd}, request);
  }
  Reply Alive2(std::string_view name, uint16_t highest_version = 6) {
    return Answer(
        protocol::Alive2Request{
            .node = {.port = 7, .highest_version = highest_version, .name = name}},
        local());
  }

  void ExpectRefused(const Reply& reply) {
    EXPECT_EQ(reply.then, Then::kClose);
    const auto decoded = protocol::DecodeAlive2Reply(reply.bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_NE(decoded->result, 0);
    EXPECT_EQ(decoded->creation, protocol::kRefusedCreation);
  }
  // Closed without a reply.
  void ExpectNothing(const Reply& reply) {
    EXPECT_EQ(reply.then, Then::kClose);
    EXPECT_TRUE(reply.bytes.empty());
  }

  const TcpPair peer_;
  std::optional<Registrar> registrar_;
  std::optional<Access> access_;
  std::optional<Verbs> verbs_;
};

TEST_F(VerbsTest, Alive2KeepsTheConnection) {
  const Reply reply = Alive2("a");
  ASSERT_EQ(reply.then, Then::kKeepNode);
  const auto decoded = protocol::DecodeAlive2Reply(reply.bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->result, 0);
  Registration found;
  ASSERT_TRUE(registry_->Lookup("a", found));
  EXPECT_EQ(reply.registration.id, found.id);
  EXPECT_EQ(reply.registration.slot, found.slot);
  EXPECT_EQ(decoded->creation, found.creation);
  EXPECT_EQ(statistics().alive2_registered, 1u);
}

TEST_F(VerbsTest, Alive2OfAnOldNodeGetsTheShortReply) {
  EXPECT_EQ(Text(Alive2("a", 5))[0], 'y');
  EXPECT_EQ(Text(Alive2("b", 6))[0], 'v');
}

TEST_F(VerbsTest, Alive2IsRefusedATakenName) {
  ASSERT_EQ(Alive2("a").then, Then::kKeepNode);
  ExpectRefused(Alive2("a"));
  EXPECT_EQ(statistics().alive2_refused, 1u);
}

TEST_F(VerbsTest, Alive2IsRefusedWhatIsNotAcceptable) {
  ExpectRefused(
      Answer(protocol::Alive2Request{.node = {.name = "a"}, .acceptable = false}, local()));
  EXPECT_EQ(registry_->live_count(), 0u);
}

TEST_F(VerbsTest, Alive2IsRefusedForLackOfDescriptors) {
  for (uint32_t i = 0; i < kCapacity; ++i) ASSERT_TRUE(custody_->Reserve());
  ExpectRefused(Alive2("a"));
  EXPECT_EQ(statistics().refused_descriptors, 1u);
  EXPECT_EQ(statistics().alive2_refused, 1u);
}

TEST_F(VerbsTest, Alive2IsRefusedByAFullRegistry) {
  for (const char* name : {"a", "b", "c", "d"}) {
    ASSERT_EQ(registry_->Register({.name = name, .port = 7}).outcome,
              RegisterResult::Outcome::kRegistered);
  }
  ExpectRefused(Alive2("e"));
  EXPECT_EQ(statistics().refused_registry_full, 1u);
}

TEST_F(VerbsTest, Alive2IsRefusedAReservedName) {
  static_cast<void>(reservations_.Read("-reserve", "a=no-such-user-anywhere", users_));
  ExpectRefused(Alive2("a"));
  ASSERT_EQ(Alive2("b").then, Then::kKeepNode);
}

TEST_F(VerbsTest, Alive2WithAnEmptyNameIsMalformed) {
  ExpectNothing(Alive2(""));
  EXPECT_EQ(statistics().closed_malformed, 1u);
}

TEST_F(VerbsTest, Alive2OfADrainingConnectionRegistersNothing) {
  ExpectNothing(verbs_->Answer({.fd = local(), .is_draining = true},
                               protocol::Alive2Request{.node = {.port = 7, .name = "a"}}));
  EXPECT_EQ(registry_->live_count(), 0u);
  EXPECT_EQ(statistics().alive2_refused, 0u);
}

TEST_F(VerbsTest, Port2TellsWhatTheNodeSaid) {
  ASSERT_EQ(registry_
                ->Register({.name = "a",
                            .extra = "more",
                            .port = 1234,
                            .node_type = protocol::kNodeTypeHidden,
                            .highest_version = 6,
                            .lowest_version = 5})
                .outcome,
            RegisterResult::Outcome::kRegistered);
  const Reply reply = Answer(protocol::Port2Request{"a"}, kRemote);
  EXPECT_EQ(reply.then, Then::kClose);
  const auto decoded = protocol::DecodePort2Reply(reply.bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->result, 0);
  EXPECT_EQ(decoded->node.name, "a");
  EXPECT_EQ(decoded->node.extra, "more");
  EXPECT_EQ(decoded->node.port, 1234);
  EXPECT_EQ(decoded->node.node_type, protocol::kNodeTypeHidden);
  EXPECT_EQ(statistics().port2_found, 1u);
}

TEST_F(VerbsTest, Port2SaysThatANameIsUnknown) {
  const Reply reply = Answer(protocol::Port2Request{"a"}, kRemote);
  EXPECT_EQ(reply.then, Then::kClose);
  const auto decoded = protocol::DecodePort2Reply(reply.bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_NE(decoded->result, 0);
  EXPECT_EQ(statistics().port2_unknown, 1u);
}

TEST_F(VerbsTest, ListsAreAnsweredLater) {
  const Reply names = Answer(protocol::NamesRequest{}, kRemote);
  EXPECT_EQ(names.then, Then::kListLater);
  EXPECT_EQ(names.list, List::kNames);
  const Reply dump = Answer(protocol::DumpRequest{}, local());
  EXPECT_EQ(dump.then, Then::kListLater);
  EXPECT_EQ(dump.list, List::kDump);
  EXPECT_EQ(statistics().names, 1u);
  EXPECT_EQ(statistics().dump, 1u);
}

TEST_F(VerbsTest, KillEndsAMapperWithoutNodes) {
  const Reply reply = Answer(protocol::KillRequest{}, local());
  EXPECT_EQ(reply.then, Then::kStopMapper);
  EXPECT_EQ(Text(reply), protocol::kKillReplyOk);
  EXPECT_FALSE(reply.stop_reason.empty());
}

TEST_F(VerbsTest, KillIsRefusedWhileNodesAreRegistered) {
  ASSERT_EQ(Alive2("a").then, Then::kKeepNode);
  const Reply reply = Answer(protocol::KillRequest{}, local());
  EXPECT_EQ(reply.then, Then::kClose);
  EXPECT_EQ(Text(reply), protocol::kKillReplyRefused);
  Make({.relaxed_command_check = true});
  EXPECT_EQ(Answer(protocol::KillRequest{}, local()).then, Then::kStopMapper);
}

TEST_F(VerbsTest, StopEndsARegistrationWhenChecksAreRelaxed) {
  ASSERT_EQ(Alive2("a").then, Then::kKeepNode);
  ExpectNothing(Answer(protocol::StopRequest{"a"}, local()));
  EXPECT_EQ(statistics().stop_refused, 1u);
  EXPECT_EQ(statistics().closed_malformed, 0u);
  EXPECT_EQ(statistics().stop, 0u);
  Make({.relaxed_command_check = true, .rights = Rights({}, {}, true)});
  EXPECT_EQ(Text(Answer(protocol::StopRequest{"a"}, local())), protocol::kStopReplyStopped);
  EXPECT_EQ(Text(Answer(protocol::StopRequest{"a"}, local())), protocol::kStopReplyUnknown);
  EXPECT_EQ(registry_->live_count(), 0u);
}

TEST_F(VerbsTest, WhoMayNotRegisterHereIsToldSo) {
  std::vector<AccessRule> rules = *ParseAccess("-access", "register from none");
  Make({.rights = Rights(rules, {}, false)});
  ExpectRefused(Alive2("a"));
  EXPECT_EQ(statistics().alive2_not_local, 1u);
  EXPECT_EQ(statistics().alive2_refused, 0u);  // which counts what is refused to those who may
  EXPECT_EQ(registry_->live_count(), 0u);
  // A name that has rules of its own is for whom these say.
  ASSERT_TRUE(reservations_.Read("-reserve", absl::StrCat("b=", geteuid()), users_).ok());
  EXPECT_EQ(Alive2("b").then, Then::kKeepNode);
}

TEST_F(VerbsTest, OthersGetNoReplyToWhatOnlyThisHostMayAsk) {
  Make({.relaxed_command_check = true});
  ExpectNothing(Answer(protocol::Alive2Request{.node = {.port = 7, .name = "a"}}, kRemote));
  EXPECT_EQ(statistics().alive2_not_local, 1u);
  EXPECT_EQ(statistics().closed_malformed, 0u);
  ExpectNothing(Answer(protocol::DumpRequest{}, kRemote));
  ExpectNothing(Answer(protocol::KillRequest{}, kRemote));
  ExpectNothing(Answer(protocol::StopRequest{"a"}, kRemote));
  EXPECT_EQ(statistics().dump_refused, 1u);
  EXPECT_EQ(statistics().kill_refused, 1u);
  EXPECT_EQ(statistics().stop_refused, 1u);
  EXPECT_EQ(statistics().closed_malformed, 0u);
  EXPECT_EQ(registry_->live_count(), 0u);
}

TEST_F(VerbsTest, MalformedBytesGetNoReply) {
  ExpectNothing(verbs_->AnswerMalformed({.fd = kRemote}));
  EXPECT_EQ(statistics().closed_malformed, 1u);
}

}  // namespace
}  // namespace evermap
