#include "daemon/serve/access.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>
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

TEST(AccessTest, PeersOnThisHostMayAskForAllButStop) {
  const TcpPair peer;
  const ServeOptions options;
  const Access access(options);
  for (const VerbRow& row : kVerbs) {
    EXPECT_EQ(access.MayAsk(row.verb, peer.server.get()), row.verb != Verb::kStop) << row.name;
  }
}

TEST(AccessTest, PeersOnThisHostMayAskForStopWhenChecksAreRelaxed) {
  const TcpPair peer;
  const ServeOptions options = {.relaxed_command_check = true};
  const Access access(options);
  for (const VerbRow& row : kVerbs) {
    EXPECT_TRUE(access.MayAsk(row.verb, peer.server.get())) << row.name;
  }
}

TEST(AccessTest, OthersMayOnlyLookUp) {
  const ServeOptions options = {.relaxed_command_check = true};
  const Access access(options);
  for (const VerbRow& row : kVerbs) {
    EXPECT_EQ(access.MayAsk(row.verb, kNoPeer),
              row.verb == Verb::kPort2 || row.verb == Verb::kNames)
        << row.name;
  }
}

TEST(AccessTest, EverybodyMayConnectWithoutAllow) {
  const ServeOptions options;
  EXPECT_TRUE(Access(options).MayConnect(kNoPeer));
}

TEST(AccessTest, ThisHostAndTheNetworksOfAllowMayConnect) {
  const TcpPair peer;
  ServeOptions options = {.allowed = {*Network::Parse("192.0.2.0/24")}};
  const Access access(options);
  EXPECT_TRUE(access.MayConnect(peer.server.get()));
  EXPECT_FALSE(access.MayConnect(kNoPeer));
  options.allowed.push_back(*Network::Parse("127.0.0.0/8"));
  EXPECT_TRUE(access.MayConnect(peer.server.get()));
}

class AccessKillTest : public ServeTest {};

TEST_F(AccessKillTest, EndsTheMapperOnlyWithoutNodesOrWhenRelaxed) {
  const ServeOptions strict;
  const ServeOptions relaxed = {.relaxed_command_check = true};
  EXPECT_TRUE(Access(strict).MayEndMapper(*registry_));
  ASSERT_EQ(registry_->Register({.name = "a", .port = 7}).outcome,
            RegisterResult::Outcome::kRegistered);
  EXPECT_FALSE(Access(strict).MayEndMapper(*registry_));
  EXPECT_TRUE(Access(relaxed).MayEndMapper(*registry_));
}

}  // namespace
}  // namespace evermap
