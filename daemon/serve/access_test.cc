#include "daemon/serve/access.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/host/tcp_pair_for_test.h"
#include "daemon/serve/serve_fixture_for_test.h"

namespace evermap {
namespace {

constexpr int kNoPeer = -1;  // of which the kernel tells nothing, as of a peer that is gone

TEST(VerbsTableTest, RowsAreThoseOfTheProtocol) {
  using Frame = std::array<std::byte, protocol::kFrameSizeMax>;
  Frame frame;
  const absl::Span<std::byte> out = absl::MakeSpan(frame);
  const std::vector<std::pair<Verb, std::function<size_t()>>> encoders = {
      {Verb::kAlive2, [&] { return protocol::EncodeAlive2Request({.name = "a"}, out); }},
      {Verb::kPort2, [&] { return protocol::EncodePort2Request("a", out); }},
      {Verb::kNames, [&] { return protocol::EncodeNamesRequest(out); }},
      {Verb::kDump, [&] { return protocol::EncodeDumpRequest(out); }},
      {Verb::kKill, [&] { return protocol::EncodeKillRequest(out); }},
      {Verb::kStop, [&] { return protocol::EncodeStopRequest("a", out); }},
  };
  ASSERT_EQ(encoders.size(), kVerbs.size());
  for (const auto& [verb, encode] : encoders) {
    const size_t size = encode();
    const auto body = absl::MakeConstSpan(frame).first(size).subspan(protocol::kLengthSize);
    EXPECT_EQ(static_cast<uint8_t>(body[0]), RowOf(verb).code) << RowOf(verb).name;
    const auto request = protocol::DecodeRequest(body);
    ASSERT_TRUE(request.has_value()) << RowOf(verb).name;
    EXPECT_EQ(VerbOf(*request), verb) << RowOf(verb).name;
  }
}

class AccessTest : public ServeTest {
 protected:
  // Whether the peer of `fd` has a right by these rules.
  bool Has(Right right, int fd, const std::string& rules = "", bool relaxed = false,
           const std::vector<Network>& allowed = {}) {
    std::vector<AccessRule> parsed;
    if (!rules.empty()) {
      auto result = ParseAccess("-access", rules);
      EXPECT_TRUE(result.ok()) << result.status();
      parsed = *std::move(result);
    }
    FoundUsers users;
    for (AccessRule& rule : parsed) EXPECT_TRUE(FindUsers(users, rule).ok());
    Serve({.relaxed_command_check = relaxed, .rights = Rights(parsed, allowed, relaxed)});
    return Access(*shared_).Has(right, fd);
  }
  int local() const { return peer_.server.get(); }

  const TcpPair peer_;
};

TEST_F(AccessTest, DefaultsAreThoseOfTheStockEpmd) {
  for (const RightRow& row : kRights) {
    EXPECT_EQ(Has(row.right, local()), row.right != Right::kStop) << row.verb;
    EXPECT_TRUE(Has(row.right, local(), "", /*relaxed=*/true)) << row.verb;
    const bool is_for_others =
        row.right == Right::kConnect || row.right == Right::kLookup || row.right == Right::kList;
    EXPECT_EQ(Has(row.right, kNoPeer), is_for_others) << row.verb;
    EXPECT_EQ(Has(row.right, kNoPeer, "", /*relaxed=*/true), is_for_others) << row.verb;
  }
}

TEST_F(AccessTest, ARuleReplacesTheDefaultOfItsVerbAlone) {
  EXPECT_FALSE(Has(Right::kList, kNoPeer, "list from host"));
  EXPECT_TRUE(Has(Right::kList, local(), "list from host"));
  EXPECT_TRUE(Has(Right::kLookup, kNoPeer, "list from host"));
  EXPECT_FALSE(Has(Right::kList, local(), "list from none"));
  EXPECT_TRUE(Has(Right::kStop, local(), "stop from loopback"));
  EXPECT_TRUE(Has(Right::kDump, kNoPeer, "dump from all"));
  EXPECT_FALSE(Has(Right::kStop, local(), "stop from none", /*relaxed=*/true));
}

TEST_F(AccessTest, Users) {
  const std::string own = "register from user:" + std::to_string(geteuid());
  EXPECT_TRUE(Has(Right::kRegister, local(), own));
  EXPECT_FALSE(Has(Right::kRegister, kNoPeer, own));
  EXPECT_FALSE(Has(Right::kRegister, local(), "register from user:64109"));
  EXPECT_TRUE(Has(Right::kRegister, local(), "register from user:64109; " + own));
  // Nobody is an unknown user.
  FoundUsers users;
  AccessRule rule = ParseAccess("-access", "list from user:no-such-user-here")->at(0);
  EXPECT_FALSE(FindUsers(users, rule).ok());
  EXPECT_EQ(rule.origins.users[0].uid, kUnknownUid);
  EXPECT_FALSE(rule.origins.HasUser(kUnknownUid));
}

TEST_F(AccessTest, AllowIsARuleOfConnect) {
  const std::vector<Network> elsewhere = {*Network::Parse("192.0.2.0/24")};
  EXPECT_TRUE(Has(Right::kConnect, local(), "", false, elsewhere));
  EXPECT_FALSE(Has(Right::kConnect, kNoPeer, "", false, elsewhere));
  EXPECT_TRUE(Has(Right::kConnect, kNoPeer));
  EXPECT_FALSE(Has(Right::kConnect, local(), "connect from 192.0.2.0/24"));
  EXPECT_TRUE(Has(Right::kConnect, local(), "connect from 192.0.2.0/24", false,
                  {*Network::Parse("127.0.0.0/8")}));
}

TEST_F(AccessTest, KillEndsTheMapperOnlyWithoutNodesOrWhenRelaxed) {
  EXPECT_TRUE(Access(*shared_).MayEndMapper(*registry_));
  ASSERT_EQ(registry_->Register({.name = "a", .port = 7}).outcome,
            RegisterResult::Outcome::kRegistered);
  EXPECT_FALSE(Access(*shared_).MayEndMapper(*registry_));
  Serve({.relaxed_command_check = true});
  EXPECT_TRUE(Access(*shared_).MayEndMapper(*registry_));
}

}  // namespace
}  // namespace evermap
