// The mapper's log: to standard error in the foreground, to syslog (which the journal reads) as a
// daemon.
//
//   Log(Severity::kWarning, "registry %s is full", path);
//
// Thread safety: SetUpLog() before threads start; the rest at any time. Each call writes one line.
// What clients have sent goes through Escaped() (registry/base/text.h) first, so that nobody can
// forge a line.
#ifndef EVERMAP_DAEMON_HOST_LOG_H_
#define EVERMAP_DAEMON_HOST_LOG_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "registry/base/text.h"  // IWYU pragma: export (Escaped)

namespace evermap {

enum class Severity : uint8_t {
  kError,
  kWarning,
  kNotice,
  kRegistrations,  // -d: nodes that come and go, and refusals
  kRequests,       // -d -d: every request
  kConnections,    // -d -d -d: every connection
};

enum class LogTarget : uint8_t { kStandardError, kSyslog, kBoth };

// `debug_level` is the number of -d options: without them, severities below kNotice are dropped.
void SetUpLog(LogTarget target, int debug_level);
bool IsLogged(Severity severity);
// Writes `line` whatever its severity is; Log() asks IsLogged() before.
void LogLine(Severity severity, std::string_view line);

// Writes one line, if IsLogged(). The arguments are evaluated in any case: ask IsLogged() before
// when they cost something.
template <typename... Args>
void Log(Severity severity, const absl::FormatSpec<Args...>& format, const Args&... args) {
  if (IsLogged(severity)) LogLine(severity, absl::StrFormat(format, args...));
}

// Lets one event a second through, so that a flood of events does not become a flood of lines.
class LogLimiter {
 public:
  // True for the first call in a second; `suppressed` is then how many calls before it got false.
  bool Allow(uint64_t& suppressed);

 private:
  std::atomic<int64_t> next_ms_{0};
  std::atomic<uint64_t> suppressed_{0};
};

// As Log(), at most once a second for each limiter, with the number of lines left out.
template <typename... Args>
void LogLimited(LogLimiter& limiter, Severity severity, const absl::FormatSpec<Args...>& format,
                const Args&... args) {
  uint64_t suppressed = 0;
  if (!IsLogged(severity) || !limiter.Allow(suppressed)) return;
  std::string line = absl::StrFormat(format, args...);
  if (suppressed > 0) {
    absl::StrAppendFormat(&line, " (and %d more since the last line)", suppressed);
  }
  LogLine(severity, line);
}

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_LOG_H_
