#include "tools/output.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>

namespace evermap {

std::string TimeText(int64_t unix_ns) {
  const time_t seconds = unix_ns / 1'000'000'000;
  tm utc = {};
  char text[32] = "";
  if (gmtime_r(&seconds, &utc) != nullptr) strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

std::string Printable(std::string_view text) {
  std::string printable(text);
  for (char& c : printable) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return printable;
}

void PrintJson(const nlohmann::json& value) {
  // Names are any bytes; what is no UTF-8 is shown as the replacement character.
  const std::string text = value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  std::printf("%s\n", text.c_str());
}

void PrintError(const std::string& message) {
  std::fprintf(stderr, "epmdctl: %s\n", message.c_str());
}

}  // namespace evermap
