// The mapper's log: to standard error in the foreground, to syslog (which the journal reads) as a
// daemon.
//
//   Log(Severity::kWarning, "registry %s is full", path);
//
// A reader of the log may stand still: a pipe that nobody empties, a journal that hangs, a slow
// disk. No client waits for it. In a process that has called StartLogThread(), which is a mapper, a
// line goes into a queue of kLogLinesMax, from which a thread of its own writes it. What finds the
// queue full is dropped, and a line says how many were when there is room again.
//
// The other processes have no such thread: a starter, which lives for a moment and tells whoever
// has called it what is wrong, and a keeper, which says a line when a mapper has ended and must be
// able to work where no second thread is permitted. These write each line themselves, but wait at
// most kLogWaitMs for its reader, and then drop it.
//
// Thread safety: SetUpLog() and StartLogThread() belong to the main thread; the rest at any time.
// Each call writes one line. What clients have sent goes through Escaped() (registry/base/text.h)
// first, so that nobody can forge a line.
#ifndef EVERMAP_DAEMON_HOST_LOG_H_
#define EVERMAP_DAEMON_HOST_LOG_H_

#include <atomic>
#include <cstddef>
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

// Lines that wait for the log's thread.
inline constexpr size_t kLogLinesMax = 1024;
// The longest line, in bytes; the rest of a longer one is left out. With the time in front of it,
// it is below what a pipe takes as a whole (PIPE_BUF, 4096).
inline constexpr size_t kLogLineSizeMax = 4000;
// How long a process without the thread waits for the reader of a line.
inline constexpr int kLogWaitMs = 100;
// How long a process that ends waits until its lines are written.
inline constexpr int64_t kLogFlushMs = 500;

// `debug_level` is the number of -d options: without them, severities below kNotice are dropped.
void SetUpLog(LogTarget target, int debug_level);
// From any thread.
void SetLogLevel(int debug_level);
// Lets a thread of its own write the log from now on. A process that is forked later has no such
// thread, and must not log before it executes a program.
void StartLogThread();
// Waits until what was logged before is written, at most kLogFlushMs.
void FlushLog();
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
