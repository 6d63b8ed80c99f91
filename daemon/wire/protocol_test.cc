#include "daemon/wire/protocol.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>
#include <string>
#include <variant>
#include <vector>

namespace evermap::protocol {
namespace {

using Frame = std::vector<std::byte>;

absl::Span<const std::byte> Bytes(std::string_view text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}
absl::Span<const std::byte> Body(const Frame& frame) {
  return absl::MakeConstSpan(frame).subspan(kLengthSize);
}
template <typename Encode>
Frame Encoded(Encode encode) {
  Frame frame(kFrameSizeMax);
  frame.resize(encode(absl::MakeSpan(frame)));
  return frame;
}

TEST(ProtocolTest, FramesAreInspected) {
  EXPECT_EQ(InspectFrame({}), FrameState::kIncomplete);
  EXPECT_EQ(InspectFrame(Bytes(std::string("\0", 1))), FrameState::kIncomplete);
  EXPECT_EQ(InspectFrame(Bytes(std::string("\0\1", 2))), FrameState::kIncomplete);
  EXPECT_EQ(InspectFrame(Bytes(std::string("\0\1n", 3))), FrameState::kComplete);
  EXPECT_EQ(InspectFrame(Bytes(std::string("\0\1nn", 4))), FrameState::kMalformed);
  EXPECT_EQ(InspectFrame(Bytes(std::string("\0\0", 2))), FrameState::kMalformed);
  const auto announced = [](size_t size) {
    return std::string{static_cast<char>(size >> 8), static_cast<char>(size)};
  };
  EXPECT_EQ(InspectFrame(Bytes(announced(kBodySizeMax))), FrameState::kIncomplete);
  EXPECT_EQ(InspectFrame(Bytes(announced(kBodySizeMax + 1))), FrameState::kMalformed);
  EXPECT_EQ(InspectFrame(Bytes(announced(kBodySizeMax) + std::string(kBodySizeMax, 'n'))),
            FrameState::kComplete);
}

TEST(ProtocolTest, Alive2RequestsComeThrough) {
  for (const size_t name_size : std::initializer_list<size_t>{1, 32, 255}) {
    for (const size_t extra_size : std::initializer_list<size_t>{0, 1, 1020}) {
      const std::string name(name_size, 'n');
      const std::string extra(extra_size, '\xff');
      const Frame frame = Encoded([&](absl::Span<std::byte> out) {
        return EncodeAlive2Request({.port = 4711,
                                    .node_type = kNodeTypeHidden,
                                    .protocol = 1,
                                    .highest_version = 6,
                                    .lowest_version = 5,
                                    .name = name,
                                    .extra = extra},
                                   out);
      });
      EXPECT_EQ(InspectFrame(frame), FrameState::kComplete);
      const auto request = DecodeRequest(Body(frame));
      ASSERT_TRUE(request.has_value());
      const auto* alive2 = std::get_if<Alive2Request>(&*request);
      ASSERT_NE(alive2, nullptr);
      EXPECT_TRUE(alive2->acceptable);
      EXPECT_EQ(alive2->node.port, 4711);
      EXPECT_EQ(alive2->node.node_type, kNodeTypeHidden);
      EXPECT_EQ(alive2->node.protocol, 1);
      EXPECT_EQ(alive2->node.highest_version, 6);
      EXPECT_EQ(alive2->node.lowest_version, 5);
      EXPECT_EQ(alive2->node.name, name);
      EXPECT_EQ(alive2->node.extra, extra);
    }
  }
}

TEST(ProtocolTest, WhatANodeMayNotBeCalledIsRefused) {
  std::string many;
  for (int i = 0; i < 256; ++i) many += "\xc3\xa4";
  for (const std::string& name :
       {std::string("\xff"), std::string("\xc0\x80"), std::string(256, 'a'),
        std::string("\xed\xa0\x80"), many, std::string("b at port 1\nname c"),
        std::string("\x1b[2J"), std::string("a\x7f"), std::string("a\u009b"),
        std::string("a\u2028z")}) {
    const Frame frame = Encoded(
        [&](absl::Span<std::byte> out) { return EncodeAlive2Request({.name = name}, out); });
    const auto request = DecodeRequest(Body(frame));
    ASSERT_TRUE(request.has_value());
    EXPECT_FALSE(std::get<Alive2Request>(*request).acceptable);
  }
}

TEST(ProtocolTest, ShortenedRequestsAreNoRequests) {
  const Frame frame = Encoded([](absl::Span<std::byte> out) {
    return EncodeAlive2Request({.name = "name", .extra = "extra"}, out);
  });
  for (size_t size = 0; size < Body(frame).size(); ++size) {
    EXPECT_FALSE(DecodeRequest(Body(frame).first(size)).has_value()) << size;
  }
}

TEST(ProtocolTest, NamesOfLookups) {
  const auto name_of = [](const std::string& name) -> std::optional<std::string> {
    const std::string body = "z" + name;
    const auto request = DecodeRequest(Bytes(body));
    if (!request.has_value()) return std::nullopt;
    return std::string(std::get<Port2Request>(*request).name);
  };
  EXPECT_EQ(name_of("rabbit"), "rabbit");
  EXPECT_EQ(name_of(std::string("rabbit\0", 7)), "rabbit");
  EXPECT_EQ(name_of(std::string("rab\0bit", 7)), std::nullopt);
  EXPECT_EQ(name_of(""), std::nullopt);
  EXPECT_EQ(name_of("\xff"), std::nullopt);
  EXPECT_EQ(name_of(std::string(254, 'a')), std::string(254, 'a'));
  EXPECT_EQ(name_of(std::string(255, 'a')), std::nullopt);
}

TEST(ProtocolTest, RepliesComeThrough) {
  std::array<std::byte, kPort2ReplySizeMax> out;
  for (const uint16_t version : std::initializer_list<uint16_t>{5, 6}) {
    const size_t size = EncodeAlive2Reply(version, 1'795'000'000, absl::MakeSpan(out));
    EXPECT_EQ(Alive2ReplySize(out[0]), size);
    const auto reply = DecodeAlive2Reply(absl::MakeConstSpan(out.data(), size));
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply->result, 0);
    EXPECT_EQ(reply->creation, version >= 6 ? 1'795'000'000 : 1'795'000'000 % 3 + 1);
    const size_t refusal = EncodeAlive2Refusal(version, absl::MakeSpan(out));
    const auto refused = DecodeAlive2Reply(absl::MakeConstSpan(out.data(), refusal));
    ASSERT_TRUE(refused.ok());
    EXPECT_EQ(refused->result, 1);
    EXPECT_EQ(refused->creation, kRefusedCreation);
  }
  const std::string name(kNameSizeMax, 'n');
  const std::string extra(kExtraSizeMax, 'e');
  const size_t size =
      EncodePort2Reply({.port = 1, .name = name, .extra = extra}, absl::MakeSpan(out));
  EXPECT_EQ(size, kPort2ReplySizeMax);
  const auto found = DecodePort2Reply(absl::MakeConstSpan(out.data(), size));
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->result, 0);
  EXPECT_EQ(found->node.name, name);
  EXPECT_EQ(found->node.extra, extra);
  const size_t unknown = EncodePort2Unknown(absl::MakeSpan(out));
  const auto not_found = DecodePort2Reply(absl::MakeConstSpan(out.data(), unknown));
  ASSERT_TRUE(not_found.ok());
  EXPECT_NE(not_found->result, 0);
}

TEST(ProtocolTest, NamesRepliesComeThrough) {
  std::string text(kPortHeaderSize, '\0');
  EncodePortHeader(4369, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), text.size()));
  AppendNamesLine("hare", 5000, text);
  AppendNamesLine("odd at port 7", 65535, text);
  EXPECT_EQ(text.substr(4), "name hare at port 5000\nname odd at port 7 at port 65535\n");
  const auto reply = DecodeNamesReply(Bytes(text));
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply->mapper_port, 4369u);
  ASSERT_EQ(reply->entries.size(), 2u);
  EXPECT_EQ(reply->entries[1].name, "odd at port 7");
  EXPECT_EQ(reply->entries[1].port, 65535);
  EXPECT_FALSE(DecodeNamesReply(Bytes("abc")).ok());
}

// Such names are refused, but an earlier mapper may have registered them.
TEST(ProtocolTest, ListsHaveNoControlCharactersOfNames) {
  const std::string name = "b at port 1\nname c\x1b";
  std::string text;
  AppendNamesLine(name, 2, text);
  EXPECT_EQ(text, "name b at port 1?name c? at port 2\n");
  for (const auto append : {AppendDumpLineActive, AppendDumpLineOld}) {
    text.clear();
    append(name, 2, 3, text);
    EXPECT_NE(text.find("<b at port 1?name c?>"), std::string::npos) << text;
  }
  text.clear();
  AppendDumpLineOrphaned(name, 2, text);
  EXPECT_NE(text.find("<b at port 1?name c?>"), std::string::npos) << text;
}

TEST(ProtocolTest, AnyBytesMayBeDecoded) {
  std::mt19937 random(1);
  for (int i = 0; i < 200'000; ++i) {
    std::string body(1 + random() % 40, '\0');
    for (char& c : body) c = static_cast<char>(random() % 4 == 0 ? random() % 256 : random() % 8);
    if (i % 2 == 0) body[0] = "xzndks"[random() % 6];
    // A copy of exactly its size, so that the address sanitizer sees reads beyond it.
    const std::vector<std::byte> exact(Bytes(body).begin(), Bytes(body).end());
    (void)DecodeRequest(exact);
    (void)DecodeAlive2Reply(exact);
    (void)DecodePort2Reply(exact);
    (void)DecodeNamesReply(exact);
    (void)InspectFrame(exact);
  }
}

}  // namespace
}  // namespace evermap::protocol
