// Bytes of strangers as text. Abseil's escaping, which the logs had before, is the reference of
// Escaped().
#include "registry/base/text.h"

#include <gtest/gtest.h>

#include <cerrno>
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
  EXPECT_EQ(Escaped("h\u00e4st\xff"), "h\u00e4st\xff");
}

TEST(Text, EscapedDigitIsNotTakenForPartOfTheEscapeBefore) {
  EXPECT_EQ(Escaped("\x1b\x66\x31g"), "\\x1b\\x66\\x31g");
  EXPECT_EQ(Escaped("\nf"), "\\nf");
}

TEST(Text, EscapedIsWhatAbseilSays) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string bytes = {static_cast<char>(first), static_cast<char>(second)};
      ASSERT_EQ(Escaped(bytes), absl::Utf8SafeCHexEscape(bytes)) << first << " " << second;
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    std::string bytes(random() % 100, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 2 == 0 ? random() : random() % 64);
    ASSERT_EQ(Escaped(bytes), absl::Utf8SafeCHexEscape(bytes));
  }
}

TEST(Text, QuoteIsEscapedBetweenQuotes) {
  EXPECT_EQ(Quote(""), "''");
  EXPECT_EQ(Quote("it's"), "'it\\'s'");
}

TEST(Text, PrintableHasNoControlCharacters) {
  EXPECT_EQ(Printable(std::string_view("a\0b\nc\x1b[31m\x7f~", 12)), "a?b?c?[31m?~");
  EXPECT_EQ(Printable("h\u00e4st"), "h\u00e4st");
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
