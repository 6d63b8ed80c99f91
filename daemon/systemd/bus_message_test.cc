// D-Bus messages against bytes written down from the specification, and against damage.
#include "daemon/systemd/bus_message.h"

#include <bit>
#include <random>
#include <string>
#include <string_view>

#include "gtest/gtest.h"

namespace evermap {
namespace {

using namespace std::string_view_literals;

TEST(BusMessageTest, ValuesLieWhereTheSpecificationHasThem) {
  if (std::endian::native != std::endian::little) GTEST_SKIP() << "the bytes are little endian";
  BusWriter writer;
  writer.Byte(7);
  writer.Uint32(0x01020304);
  writer.String("ab");
  writer.Signature("as");
  const BusWriter::Array array = writer.BeginArray(8);
  writer.Uint32(5);
  writer.EndArray(array);
  EXPECT_EQ(writer.bytes(),
            "\x07\0\0\0\x04\x03\x02\x01"
            "\x02\0\0\0ab\0\x02"
            "as\0\0\x04\0\0\0"
            "\x05\0\0\0"sv);
}

TEST(BusMessageTest, WhatFillsUpBeforeTheFirstElementIsNotCounted) {
  if (std::endian::native != std::endian::little) GTEST_SKIP() << "the bytes are little endian";
  BusWriter writer;
  writer.EndArray(writer.BeginArray(8));
  EXPECT_EQ(writer.bytes(), "\0\0\0\0\0\0\0\0"sv);
}

TEST(BusMessageTest, ACall) {
  if (std::endian::native != std::endian::little) GTEST_SKIP() << "the bytes are little endian";
  BusWriter arguments;
  arguments.String("x");
  EXPECT_EQ(EncodeCall({.destination = "d",
                        .path = "/p",
                        .interface = "i",
                        .member = "m",
                        .signature = "s",
                        .arguments = arguments.bytes()},
                       9),
            "l\x01\0\x01"
            "\x06\0\0\0"
            "\x09\0\0\0"
            "\x47\0\0\0"
            "\x01\x01o\0\x02\0\0\0/p\0\0\0\0\0\0"
            "\x02\x01s\0\x01\0\0\0i\0\0\0\0\0\0\0"
            "\x03\x01s\0\x01\0\0\0m\0\0\0\0\0\0\0"
            "\x06\x01s\0\x01\0\0\0d\0\0\0\0\0\0\0"
            "\x08\x01g\0\x01s\0\0"
            "\x01\0\0\0x\0"sv);
}

TEST(BusMessageTest, TheReadersValuesAreTheWriters) {
  BusWriter writer;
  writer.Byte(1);
  const BusWriter::Array array = writer.BeginArray(4);
  for (const char* text : {"", "one", "four"}) writer.String(text);
  writer.EndArray(array);
  writer.Signature("(uo)");
  writer.Align(8);
  writer.Uint32(77);
  BusReader reader(writer.bytes());
  EXPECT_EQ(reader.Byte(), 1);
  const size_t end = reader.BeginArray(4);
  std::string texts;
  while (reader.ok() && reader.position() < end) texts.append(reader.String()).append(",");
  EXPECT_EQ(texts, ",one,four,");
  EXPECT_EQ(reader.Signature(), "(uo)");
  reader.Align(8);
  EXPECT_EQ(reader.Uint32(), 77u);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.Uint32(), 0u);
  EXPECT_FALSE(reader.ok());
}

TEST(BusMessageTest, AStringThatIsLongerThanItsMessage) {
  for (const std::string_view bytes : {"\xff\xff\xff\xff"sv, "\5\0\0\0abc\0"sv, "\3\0\0\0abcd"sv,
                                       "\3\0\0\0abc"sv, "\3\0\0"sv, ""sv}) {
    BusReader reader(bytes);
    EXPECT_EQ(reader.String(), "");
    EXPECT_FALSE(reader.ok());
  }
}

// A call has all that a reply has but the serial number of what it replies to.
std::string SomeMessage() {
  BusWriter arguments;
  arguments.String("/org/freedesktop/systemd1/unit/epmd_2eservice");
  return EncodeCall({.destination = "destination",
                     .path = "/path",
                     .interface = "interface",
                     .member = "member",
                     .signature = "s",
                     .arguments = arguments.bytes()},
                    3);
}

TEST(BusMessageTest, AMessageIsReadBack) {
  const std::string bytes = SomeMessage();
  EXPECT_EQ(BusMessageSize(bytes.substr(0, kBusPrefixSize)), bytes.size());
  const auto message = DecodeBusMessage(bytes);
  ASSERT_TRUE(message.has_value());
  EXPECT_EQ(message->type, BusMessageType::kCall);
  EXPECT_EQ(message->signature, "s");
  EXPECT_EQ(message->reply_serial, 0u);
  EXPECT_EQ(BusReader(message->body).String(), "/org/freedesktop/systemd1/unit/epmd_2eservice");
}

TEST(BusMessageTest, AMessageThatIsTooLongOrOfAnotherKindIsRefused) {
  std::string prefix = SomeMessage().substr(0, kBusPrefixSize);
  EXPECT_TRUE(BusMessageSize(prefix).has_value());
  for (const size_t damaged : {0u, 3u, 7u, 15u}) {
    std::string bad = prefix;
    bad[damaged] = 'B';
    EXPECT_FALSE(BusMessageSize(bad).has_value()) << damaged;
  }
}

TEST(BusMessageTest, DamageIsNoticedOrHarmless) {
  std::mt19937 random(1);
  const std::string whole = SomeMessage();
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = whole;
    for (unsigned i = random() % 4; i < 4; ++i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    // Copied to memory of its own, so that sanitizers see what is read beyond it.
    const std::string exact(bytes);
    const auto message = DecodeBusMessage(exact);
    if (!message.has_value()) {
      ++refused;
      continue;
    }
    EXPECT_LE(message->body.size(), exact.size());
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace evermap
