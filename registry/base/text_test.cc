// Bytes of strangers as text. Abseil's escaping is the reference of Escaped() for ASCII, and undoes it
// for all bytes.
#include "registry/base/text.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <random>
#include <string>

#include "absl/strings/escaping.h"

namespace evermap {
namespace {

TEST(Text, ErrorsHaveNames) { EXPECT_EQ(ErrorText(ENOENT), "No such file or directory"); }

TEST(Text, EscapedStaysOnOneLine) {
  EXPECT_EQ(Escaped(""), "");
  EXPECT_EQ(Escaped("rabbit@hare"), "rabbit@hare");
  EXPECT_EQ(Escaped("a\nb\r\t\"'\\"), "a\\nb\\r\\t\\\"\\'\\\\");
  EXPECT_EQ(Escaped(std::string_view("\0\x1b\x7f", 3)), "\\x00\\x1b\\x7f");
  EXPECT_EQ(Escaped("h\u00e4st\xff"), "h\u00e4st\\xff");
}

TEST(Text, EscapedDigitIsNotTakenForPartOfTheEscapeBefore) {
  EXPECT_EQ(Escaped("\x1b\x66\x31g"), "\\x1b\\x66\\x31g");
  EXPECT_EQ(Escaped("\nf"), "\\nf");
}

TEST(Text, EscapedIsWhatAbseilSaysOfAscii) {
  for (int first = 0; first < 0x80; ++first) {
    for (int second = 0; second < 0x80; ++second) {
      const std::string bytes = {static_cast<char>(first), static_cast<char>(second)};
      ASSERT_EQ(Escaped(bytes), absl::Utf8SafeCHexEscape(bytes)) << first << " " << second;
    }
  }
}

TEST(Text, EscapedLosesNothingAndHasNoControls) {
  std::mt19937 random(1);
  for (int i = 0; i < 10'000; ++i) {
    std::string bytes(random() % 100, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 2 == 0 ? random() : random() % 64);
    if (i % 2 == 0) bytes += "\u009b\u202e\u00e4";
    const std::string escaped = Escaped(bytes);
    ASSERT_FALSE(HasControls(escaped)) << escaped;
    ASSERT_EQ(ValidUtf8(escaped), escaped);
    std::string back;
    ASSERT_TRUE(absl::CUnescape(escaped, &back)) << escaped;
    ASSERT_EQ(back, bytes);
  }
}

// By number, as Unicode defines them, and every other character that UTF-8 has is none.
TEST(Text, ControlsAreTheseAndNoOthers) {
  for (uint32_t code = 0; code <= 0x10ffff; ++code) {
    if (code >= 0xd800 && code <= 0xdfff) continue;  // surrogates
    std::string text;
    if (code < 0x80) {
      text = {static_cast<char>(code)};
    } else if (code < 0x800) {
      text = {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
    } else if (code < 0x10000) {
      text = {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
              static_cast<char>(0x80 | (code & 0x3f))};
    } else {
      text = {static_cast<char>(0xf0 | code >> 18), static_cast<char>(0x80 | (code >> 12 & 0x3f)),
              static_cast<char>(0x80 | (code >> 6 & 0x3f)),
              static_cast<char>(0x80 | (code & 0x3f))};
    }
    const bool is_control = code < 0x20 || (code >= 0x7f && code <= 0x9f) ||
                            (code >= 0x2028 && code <= 0x202e) ||
                            (code >= 0x2066 && code <= 0x2069);
    ASSERT_EQ(HasControls(text), is_control) << code;
    ASSERT_EQ(HasControls("a" + text + "b"), is_control) << code;
    ASSERT_EQ(Printable("a" + text + "b"), is_control ? "a?b" : "a" + text + "b") << code;
  }
}

TEST(Text, QuoteIsEscapedBetweenQuotes) {
  EXPECT_EQ(Quote(""), "''");
  EXPECT_EQ(Quote("it's"), "'it\\'s'");
}

TEST(Text, PrintableHasNoControlCharacters) {
  EXPECT_EQ(Printable(std::string_view("a\0b\nc\x1b[31m\x7f~", 12)), "a?b?c?[31m?~");
  EXPECT_EQ(Printable("h\u00e4st"), "h\u00e4st");
  EXPECT_EQ(Printable("\x9b\x33m\u009b\u2028\xe2\x80"), "?3m????");
}

TEST(Text, ValidUtf8ReplacesWhatIsNotValid) {
  EXPECT_EQ(ValidUtf8("häst\u20ac\U0001f407"), "häst\u20ac\U0001f407");
  EXPECT_EQ(ValidUtf8("\xed\xa0\x80"), "\ufffd\ufffd\ufffd");  // a surrogate
  EXPECT_EQ(ValidUtf8("\xc1\xbf"), "\ufffd\ufffd");            // an overlong form
  EXPECT_EQ(ValidUtf8("\xf4\x90\x80\x80").size(), 4 * 3u);     // above U+10FFFF
  EXPECT_EQ(ValidUtf8("cut \xf0\x9f\x90"), "cut \ufffd\ufffd\ufffd");
  EXPECT_EQ(ValidUtf8(""), "");
}

}  // namespace
}  // namespace evermap
