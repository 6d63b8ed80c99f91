#include "daemon/host/log.h"

#include <syslog.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "registry/base/clock.h"

namespace evermap {
namespace {

LogTarget g_target = LogTarget::kStandardError;
int g_debug_level = 0;

int SyslogPriority(Severity severity) {
  switch (severity) {
    case Severity::kError:
      return LOG_ERR;
    case Severity::kWarning:
      return LOG_WARNING;
    case Severity::kNotice:
      return LOG_NOTICE;
    case Severity::kRegistrations:
      return LOG_INFO;
    case Severity::kRequests:
    case Severity::kConnections:
      return LOG_DEBUG;
  }
  return LOG_DEBUG;
}

void WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDERR_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    // A log that cannot be written cannot say so either.
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void SetUpLog(LogTarget target, int debug_level) {
  g_target = target;
  g_debug_level = debug_level;
  if (target != LogTarget::kStandardError) openlog("epmd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

bool IsLogged(Severity severity) {
  return static_cast<int>(severity) <= static_cast<int>(Severity::kNotice) + g_debug_level;
}

void LogLine(Severity severity, std::string_view line) {
  if (g_target != LogTarget::kStandardError) {
    syslog(SyslogPriority(severity), "%.*s", static_cast<int>(line.size()), line.data());
  }
  if (g_target == LogTarget::kSyslog) return;
  const time_t now = time(nullptr);
  tm local;
  char stamp[32] = "";
  if (localtime_r(&now, &local) != nullptr) {
    strftime(stamp, sizeof(stamp), "%a %b %e %H:%M:%S %Y", &local);
  }
  // The line is one write, so that lines of several threads do not mix.
  WriteAll(absl::StrFormat("epmd: %s: %s\n", stamp, line));
}

bool LogLimiter::Allow(uint64_t& suppressed) {
  constexpr int64_t kIntervalMs = 1000;
  const int64_t now_ms = MonotonicCoarseMs();
  int64_t next_ms = next_ms_.load(std::memory_order_relaxed);
  if (now_ms < next_ms ||
      !next_ms_.compare_exchange_strong(next_ms, now_ms + kIntervalMs, std::memory_order_relaxed)) {
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace evermap
