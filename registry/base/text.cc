#include "registry/base/text.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace evermap {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

bool IsHexDigit(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// The letter after the backslash where C has one for `c`, else '\0'.
char ShortEscapeOf(char c) {
  switch (c) {
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    case '\t':
      return 't';
    case '"':
    case '\'':
    case '\\':
      return c;
    default:
      return '\0';
  }
}

// Bytes of the valid sequence of UTF-8 at the beginning of `bytes`, which is not empty; 0 when
// there is none.
size_t SequenceSize(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || bytes.size() < size) return 0;
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) {
    return 0;
  }
  return size;
}

}  // namespace

std::string ErrorText(int error) {
  char buffer[128];
  // The GNU variant, which may return a constant instead of filling the buffer.
  return strerror_r(error, buffer, sizeof(buffer));
}

std::string Escaped(std::string_view bytes) {
  static constexpr char kHexDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size());
  bool after_hex = false;
  for (const char c : bytes) {
    const char letter = ShortEscapeOf(c);
    const bool is_hex = letter == '\0' && (IsControl(c) || (after_hex && IsHexDigit(c)));
    if (letter != '\0') {
      text += {'\\', letter};
    } else if (is_hex) {
      const auto byte = static_cast<unsigned char>(c);
      text += {'\\', 'x', kHexDigits[byte >> 4], kHexDigits[byte & 0xf]};
    } else {
      text += c;
    }
    after_hex = is_hex;
  }
  return text;
}

std::string Quote(std::string_view bytes) {
  // Not "'" + Escaped(): gcc 12 warns of a copy in std::string::insert() that cannot happen.
  std::string text(1, '\'');
  text += Escaped(bytes);
  text += '\'';
  return text;
}

std::string Printable(std::string_view bytes) {
  std::string text(bytes);
  std::replace_if(text.begin(), text.end(), IsControl, '?');
  return text;
}

std::string ValidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t size = SequenceSize(bytes);
    text += size > 0 ? bytes.substr(0, size) : kReplacement;
    bytes.remove_prefix(std::max<size_t>(size, 1));
  }
  return text;
}

}  // namespace evermap
