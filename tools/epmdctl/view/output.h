// How epmdctl shows times, numbers and tables, and its exit codes.
#ifndef EVERMAP_TOOLS_EPMDCTL_VIEW_OUTPUT_H_
#define EVERMAP_TOOLS_EPMDCTL_VIEW_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "registry/base/clock.h"
#include "registry/base/text.h"  // IWYU pragma: export (Printable)

namespace evermap {

inline constexpr int kExitFailed = 1;
// There is no registry that can be read, or no mapper answers.
inline constexpr int kExitNoRegistry = 2;
inline constexpr int kExitNotRunning = 3;

// A time as in ISO 8601, in UTC, with seconds.
std::string TimeText(int64_t unix_ns);
nlohmann::json TimeOrNull(int64_t unix_ns);  // 0: null
// The same with milliseconds.
std::string TimeTextMs(int64_t unix_ns);
// Like "3 d 4 h"; two units, the largest first.
std::string DurationText(int64_t seconds);
// A latency in three or four digits, like "12.3 us" or "262 ms".
std::string LatencyText(uint64_t ns);
// A number with a comma between thousands.
std::string GroupedText(uint64_t number);

// Columns that `text` takes on a terminal, which is the number of its code points. Wide characters
// are not known, and count as one column.
size_t Columns(std::string_view text);
// `text` cut or filled with spaces to `columns`.
std::string Fitted(std::string_view text, size_t columns);

// Columns of the terminal on standard output; SIZE_MAX where that is no terminal.
size_t OutputColumns();
// `text` in lines of at most `columns`, broken between words; a longer word has a line of its own.
std::vector<std::string> Wrapped(std::string_view text, size_t columns);

// Colours text where colours are wanted: standard output is a terminal that has them (TERM), and
// NO_COLOR is not set (no-color.org). Elsewhere the text stays as it is.
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
// The value as JSON on one line.
std::string JsonLine(const nlohmann::json& value);
// Prints a line and flushes it. False when it cannot be written.
bool PrintLine(const std::string& line);

// Prints one line on standard error.
void PrintError(const std::string& message);
// The exit code of a command that has written all it had to: `exit_code`, or kExitFailed, and a line
// that says so, when that could not be written.
int AfterOutput(int exit_code);
// The same for what ends a command; returns kExitFailed.
int Fail(const std::string& message);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_EPMDCTL_VIEW_OUTPUT_H_
