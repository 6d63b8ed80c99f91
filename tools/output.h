// How epmdctl shows things, and its exit codes.
#ifndef EVERMAP_TOOLS_OUTPUT_H_
#define EVERMAP_TOOLS_OUTPUT_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace evermap {

inline constexpr int kExitFailed = 1;
inline constexpr int kExitNoRegistry = 2;
inline constexpr int kExitNotRunning = 3;

// ISO 8601, UTC, in seconds.
std::string TimeText(int64_t unix_ns);

// `text` without control characters, which would do things to a terminal.
std::string Printable(std::string_view text);

void PrintJson(const nlohmann::json& value);

// Prints one line on standard error.
void PrintError(const std::string& message);

}  // namespace evermap

#endif  // EVERMAP_TOOLS_OUTPUT_H_
