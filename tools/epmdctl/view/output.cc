#include "tools/epmdctl/view/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

namespace evermap {
namespace {

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

// Debian's absl::string_view is not std::string_view.
absl::string_view Viewed(std::string_view text) { return {text.data(), text.size()}; }

std::string TimeIn(int64_t unix_ns, const char* format) {
  const time_t seconds = unix_ns / kNsPerSecond;
  tm utc = {};
  char text[32] = "";
  if (gmtime_r(&seconds, &utc) != nullptr) strftime(text, sizeof(text), format, &utc);
  return text;
}

// Names may hold any bytes. Those that are not UTF-8 are shown as the replacement character, and all
// beyond ASCII by their numbers, so that a terminal finds nothing in it to act upon.
std::string Dump(const nlohmann::json& value, int indent) {
  return value.dump(indent, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string TimeText(int64_t unix_ns) { return TimeIn(unix_ns, "%Y-%m-%dT%H:%M:%SZ"); }

nlohmann::json TimeOrNull(int64_t unix_ns) {
  return unix_ns == 0 ? nlohmann::json() : nlohmann::json(TimeText(unix_ns));
}

std::string TimeTextMs(int64_t unix_ns) {
  return TimeIn(unix_ns, "%Y-%m-%dT%H:%M:%S") +
         absl::StrFormat(".%03dZ", unix_ns % kNsPerSecond / kNsPerMs);
}

std::string DurationText(int64_t seconds) {
  constexpr struct {
    int64_t seconds;
    const char* name;
  } kUnits[] = {{86400, " d"}, {3600, " h"}, {60, " min"}, {1, " s"}};
  std::string text;
  int units = 0;
  for (const auto& unit : kUnits) {
    if (units == 0 && seconds < unit.seconds && unit.seconds > 1) continue;
    if (!text.empty()) text += " ";
    text += std::to_string(seconds / unit.seconds) + unit.name;
    seconds %= unit.seconds;
    if (++units == 2) break;
  }
  return text;
}

std::string LatencyText(uint64_t ns) {
  const double us = static_cast<double>(ns) / 1000;
  if (us < 100) return absl::StrFormat("%.1f us", us);
  if (us < 1000) return absl::StrFormat("%.0f us", us);
  if (us < 100'000) return absl::StrFormat("%.1f ms", us / 1000);
  return absl::StrFormat("%.0f ms", us / 1000);
}

std::string GroupedText(uint64_t number) {
  const std::string digits = std::to_string(number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

size_t Columns(std::string_view text) {
  size_t columns = 0;
  for (const char c : text) columns += IsContinuation(c) ? 0 : 1;
  return columns;
}

std::string Fitted(std::string_view text, size_t columns) {
  size_t size = 0;
  size_t taken = 0;
  while (size < text.size() && (taken < columns || IsContinuation(text[size]))) {
    if (!IsContinuation(text[size])) ++taken;
    ++size;
  }
  return std::string(text.substr(0, size)) + std::string(columns - taken, ' ');
}

size_t OutputColumns() {
  winsize window = {};
  const bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0;
  return is_known ? window.ws_col : std::numeric_limits<size_t>::max();
}

std::vector<std::string> Wrapped(std::string_view text, size_t columns) {
  std::vector<std::string> lines = {""};
  for (const std::string& word : std::vector<std::string>(absl::StrSplit(Viewed(text), ' '))) {
    std::string& line = lines.back();
    if (!line.empty() && Columns(line) + 1 + Columns(word) > columns) {
      lines.emplace_back(word);
    } else {
      if (!line.empty()) line.push_back(' ');
      line += word;
    }
  }
  return lines;
}

Style Style::OfStandardOutput() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  const bool wanted = no_color == nullptr || *no_color == '\0';
  const bool capable = term != nullptr && std::string_view(term) != "dumb";
  return Style(wanted && capable && isatty(STDOUT_FILENO) == 1);
}

std::string Style::In(std::string_view code, std::string_view text) const {
  std::string styled(text);
  if (!coloured_) return styled;
  return absl::StrFormat("\x1b[%sm%s\x1b[0m", std::string(code), styled);
}

void PrintJson(const nlohmann::json& value) { std::printf("%s\n", Dump(value, 2).c_str()); }

std::string JsonLine(const nlohmann::json& value) { return Dump(value, -1); }

bool PrintLine(const std::string& line) {
  return std::printf("%s\n", line.c_str()) >= 0 && std::fflush(stdout) == 0;
}

void PrintError(const std::string& message) {
  std::fprintf(stderr, "epmdctl: %s\n", message.c_str());
}

int AfterOutput(int exit_code) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return exit_code;
  PrintError("standard output cannot be written");
  return exit_code == 0 ? kExitFailed : exit_code;
}

int Fail(const std::string& message) {
  PrintError(message);
  return kExitFailed;
}

}  // namespace evermap
