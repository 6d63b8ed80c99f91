#include "registry/base/text.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace evermap {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

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

// Bytes of the control character at the beginning of `bytes`, which is not empty; 0 when there is
// none.
size_t ControlSize(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char first = byte(0);
  if (first < 0x20 || first == 0x7f) return 1;
  if (first == 0xc2 && bytes.size() >= 2) return byte(1) >= 0x80 && byte(1) <= 0x9f ? 2 : 0;
  if (first != 0xe2 || bytes.size() < 3) return 0;
  const bool is_line_or_direction = byte(1) == 0x80 && byte(2) >= 0xa8 && byte(2) <= 0xae;
  const bool is_isolation = byte(1) == 0x81 && byte(2) >= 0xa6 && byte(2) <= 0xa9;
  return is_line_or_direction || is_isolation ? 3 : 0;
}

}  // namespace

std::string ErrorText(int error) {
  char buffer[128];
  // The GNU variant, which may return a constant instead of filling the buffer.
  return strerror_r(error, buffer, sizeof(buffer));
}

bool HasControls(std::string_view bytes) {
  for (; !bytes.empty(); bytes.remove_prefix(1)) {
    // Nearly all are printable ASCII, and each line of NAMES asks.
    if (bytes[0] >= 0x20 && bytes[0] < 0x7f) continue;
    if (ControlSize(bytes) > 0) return true;
  }
  return false;
}

std::string Escaped(std::string_view bytes) {
  static constexpr char kHexDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size());
  bool after_hex = false;
  while (!bytes.empty()) {
    const char letter = ShortEscapeOf(bytes[0]);
    const size_t valid_size = SequenceSize(bytes);
    const bool is_shown = valid_size > 0 && ControlSize(bytes) == 0;
    const bool is_hex = letter == '\0' && (!is_shown || (after_hex && IsHexDigit(bytes[0])));
    const std::string_view shown = bytes.substr(0, std::max<size_t>(valid_size, 1));
    if (letter != '\0') {
      text += {'\\', letter};
    } else if (is_hex) {
      for (const char c : shown) {
        const auto byte = static_cast<unsigned char>(c);
        text += {'\\', 'x', kHexDigits[byte >> 4], kHexDigits[byte & 0xf]};
      }
    } else {
      text += shown;
    }
    after_hex = is_hex;
    bytes.remove_prefix(shown.size());
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
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const size_t valid_size = SequenceSize(bytes);
    const std::string_view shown = bytes.substr(0, std::max<size_t>(valid_size, 1));
    if (valid_size > 0 && ControlSize(bytes) == 0) {
      text += shown;
    } else {
      text += '?';
    }
    bytes.remove_prefix(shown.size());
  }
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

std::string_view NumberAsAtoi(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\n\v\f\r"), text.size()));
  if (text.starts_with('+')) text.remove_prefix(1);
  return text.substr(0, text.find_first_not_of("0123456789"));
}

}  // namespace evermap
