// How epmdctl shows things, and its exit codes.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_OUTPUT_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "registry/base/clock.h"

namespace evermap {

inline constexpr int64_t kSecondNs = 1'000'000'000;

inline constexpr int kExitFailed = 1;
// No registry that can be read, or no mapper that answers.
inline constexpr int kExitNoRegistry = 2;
inline constexpr int kExitNotRunning = 3;

// ISO 8601, UTC, in seconds.
std::string TimeText(int64_t unix_ns);
nlohmann::json TimeOrNull(int64_t unix_ns);  // 0: null
// The same in milliseconds.
std::string TimeTextMs(int64_t unix_ns);
// Like "3 d 4 h"; two units, the largest first.
std::string DurationText(int64_t seconds);
// In three or four digits, like "12.3 us" or "262 ms".
std::string LatencyText(uint64_t ns);
// With a comma between thousands.
std::string GroupedText(uint64_t number);

// `text` without control characters, which would do things to a terminal.
std::string Printable(std::string_view text);

// Columns that `text` takes on a terminal, if none of its characters is wide: its code points.
size_t Columns(std::string_view text);
// `text` cut or filled with spaces to `columns`.
std::string Fitted(std::string_view text, size_t columns);

// Columns of the terminal that standard output is; SIZE_MAX where it is none.
size_t OutputColumns();
// `text` in lines of at most `columns`, broken between words where that can be.
std::vector<std::string> Wrapped(std::string_view text, size_t columns);

// Colours, where they are wanted: standard output is a terminal that has some (TERM), and NO_COLOR
// is not set (no-color.org). Otherwise the text as it is.
class Style {
 public:
  explicit Style(bool coloured) : coloured_(coloured) {}
  static Style OfStandardOutput();

  std::string Good(std::string_view text) const { return In("32", text); }
  std::string Warning(std::string_view text) const { return In("33", text); }
  std::string Bad(std::string_view text) const { return In("31", text); }
  std::string Strong(std::string_view text) const { return In("1", text); }
  std::string Faint(std::string_view text) const { return In("2", text); }

 private:
  std::string In(std::string_view code, std::string_view text) const;

  bool coloured_;
};

void PrintJson(const nlohmann::json& value);
// On one line.
std::string JsonLine(const nlohmann::json& value);
// Prints a line and hands it on at once. False when nobody takes it.
bool PrintLine(const std::string& line);

// Prints one line on standard error.
void PrintError(const std::string& message);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_OUTPUT_H_
