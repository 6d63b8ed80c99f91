#include "bench/load/traffic.h"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "daemon/wire/protocol.h"

namespace evermap::bench {
namespace {

using Bytes = std::vector<std::byte>;

NodeSet TwoNodes() {
  NodeSet set;
  set.nodes().resize(2);
  set.nodes()[0].name = "hare";
  set.nodes()[0].port = 1111;
  set.nodes()[1].name = "hedgehog";
  set.nodes()[1].port = 2222;
  return set;
}

Bytes Port2(const protocol::NodeDescription& node) {
  Bytes reply(protocol::kPort2ReplySizeMax);
  reply.resize(protocol::EncodePort2Reply(node, absl::MakeSpan(reply)));
  return reply;
}

Bytes Port2Unknown() {
  Bytes reply(protocol::kPort2ReplySizeMax);
  reply.resize(protocol::EncodePort2Unknown(absl::MakeSpan(reply)));
  return reply;
}

Bytes Names(uint16_t mapper_port, const std::vector<std::pair<std::string, uint16_t>>& nodes) {
  Bytes reply(protocol::kPortHeaderSize);
  protocol::EncodePortHeader(mapper_port, absl::MakeSpan(reply));
  std::string text;
  for (const auto& [name, port] : nodes) protocol::AppendNamesLine(name, port, text);
  for (const char c : text) reply.push_back(static_cast<std::byte>(c));
  return reply;
}

// The name asked for in slot 0.
std::string NameAsked(const Asker& asker) {
  const auto request = protocol::DecodeRequest(asker.frame(0).subspan(protocol::kLengthSize));
  if (const auto* lookup = std::get_if<protocol::Port2Request>(&*request)) {
    return std::string(lookup->name);
  }
  return std::string(std::get<protocol::Alive2Request>(*request).node.name);
}

TEST(Traffic, JudgesALookupByEverythingTheNodeHasRegistered) {
  const NodeSet nodes = TwoNodes();
  const Traffic traffic(nodes, {.known = 1}, {});
  Asker asker(traffic, 0, 1);
  asker.Choose(0);
  const std::string name = NameAsked(asker);
  const uint16_t port = name == "hare" ? 1111 : 2222;

  EXPECT_EQ(asker.Judge(0, Port2({.port = port, .name = name}), false), std::nullopt);
  EXPECT_EQ(asker.Judge(0, Port2({.port = port, .name = name}), true), Outcome::kCorrect);
  const uint16_t other_port = port + 1;
  EXPECT_EQ(asker.Judge(0, Port2({.port = other_port, .name = name}), true), Outcome::kWrongNode);
  EXPECT_EQ(asker.Judge(0, Port2({.port = port, .name = "fox"}), true), Outcome::kWrongNode);
  EXPECT_EQ(asker.Judge(0, Port2({.port = port, .node_type = 72, .name = name}), true),
            Outcome::kWrongNode);
  EXPECT_EQ(asker.Judge(0, Port2({.port = port, .name = name, .extra = "x"}), true),
            Outcome::kWrongNode);
  EXPECT_EQ(asker.Judge(0, Port2Unknown(), true), Outcome::kNotFound);
  EXPECT_EQ(asker.Judge(0, {}, true), Outcome::kEmpty);
  EXPECT_EQ(asker.Judge(0, Bytes{std::byte{'?'}}, true), Outcome::kMalformed);
  Bytes cut = Port2({.port = port, .name = name});
  cut.resize(7);
  EXPECT_EQ(asker.Judge(0, cut, true), Outcome::kMalformed);
}

TEST(Traffic, ANameThatNobodyHasMustNotBeFound) {
  const NodeSet nodes = TwoNodes();
  const Traffic traffic(nodes, {.unknown = 1}, {});
  Asker asker(traffic, 0, 1);
  asker.Choose(0);
  EXPECT_EQ(asker.Judge(0, Port2Unknown(), true), Outcome::kCorrect);
  EXPECT_EQ(asker.Judge(0, Port2({.port = 1, .name = NameAsked(asker)}), true), Outcome::kFound);
}

TEST(Traffic, NamesMustHaveAllNodesWithTheirPorts) {
  const NodeSet nodes = TwoNodes();
  const Traffic traffic(nodes, {.names = 1}, {.mapper_port = 4369});
  Asker asker(traffic, 0, 1);
  asker.Choose(0);
  const Bytes right = Names(4369, {{"hare", 1111}, {"stranger", 1}, {"hedgehog", 2222}});
  EXPECT_EQ(asker.Judge(0, right, false), std::nullopt);
  EXPECT_EQ(asker.Judge(0, right, true), Outcome::kCorrect);
  EXPECT_EQ(asker.Judge(0, Names(4369, {{"hare", 1111}}), true), Outcome::kMissingNode);
  EXPECT_EQ(asker.Judge(0, Names(4369, {{"hare", 1111}, {"hedgehog", 1}}), true),
            Outcome::kMissingNode);
  EXPECT_EQ(asker.Judge(0, Names(4370, {{"hare", 1111}, {"hedgehog", 2222}}), true),
            Outcome::kMalformed);
  EXPECT_EQ(asker.Judge(0, right, true), Outcome::kCorrect);
}

TEST(Traffic, ARegistrationIsAnsweredWithoutTheEndOfTheConnection) {
  const NodeSet nodes;
  const Traffic traffic(nodes, {.registrations = 1}, {});
  Asker asker(traffic, 0, 1);
  asker.Choose(0);
  Bytes reply(protocol::kAlive2ReplySizeMax);
  reply.resize(protocol::EncodeAlive2Reply(6, 77, absl::MakeSpan(reply)));
  EXPECT_EQ(asker.Judge(0, reply, false), Outcome::kCorrect);
  EXPECT_EQ(asker.Judge(0, absl::MakeConstSpan(reply).first(3), false), std::nullopt);
  EXPECT_EQ(asker.Judge(0, absl::MakeConstSpan(reply).first(3), true), Outcome::kCut);
  EXPECT_EQ(asker.Judge(0, {}, true), Outcome::kEmpty);
  Bytes refusal(protocol::kAlive2ReplySizeMax);
  refusal.resize(protocol::EncodeAlive2Refusal(6, absl::MakeSpan(refusal)));
  EXPECT_EQ(asker.Judge(0, refusal, false), Outcome::kRefused);
}

TEST(Traffic, ASlotRegistersItsNamesInTurn) {
  const NodeSet nodes;
  const Traffic traffic(nodes, {.registrations = 1}, {.names_per_slot = 3});
  Asker asker(traffic, 0, 2);
  std::vector<std::string> asked;
  for (int i = 0; i < 4; ++i) {
    asker.Choose(0);
    asked.push_back(NameAsked(asker));
  }
  EXPECT_NE(asked[0], asked[1]);
  EXPECT_NE(asked[1], asked[2]);
  EXPECT_EQ(asked[0], asked[3]);
}

TEST(Traffic, KindsComeInTheirShares) {
  const NodeSet nodes = TwoNodes();
  const Traffic traffic(nodes, {.known = 6, .unknown = 3, .registrations = 1}, {});
  Asker asker(traffic, 0, 1);
  std::map<RequestKind, int> count;
  for (int i = 0; i < 10'000; ++i) {
    asker.Choose(0);
    ++count[asker.kind(0)];
  }
  EXPECT_NEAR(count[RequestKind::kKnown], 6000, 300);
  EXPECT_NEAR(count[RequestKind::kUnknown], 3000, 300);
  EXPECT_NEAR(count[RequestKind::kRegister], 1000, 200);
  EXPECT_EQ(count[RequestKind::kNames], 0);
}

}  // namespace
}  // namespace evermap::bench
