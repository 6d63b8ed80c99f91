#include "daemon/host/log.h"

#include <paths.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <ctime>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/log_queue.h"
#include "daemon/host/thread.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

constexpr int kWithoutEnd = -1;

struct Line {
  Severity severity = Severity::kError;
  time_t time = 0;
  std::string text;
};

// Lines that are written one after the other before it is said how many were dropped meanwhile.
constexpr uint64_t kLinesBetweenDropped = kLogLinesMax;

// What the thread that writes has, and those that log share with it. It is made once and never
// destroyed: the thread may stand still in the middle of a line when the process ends.
struct Writer {
  LogQueue<Line, kLogLinesMax> queue;
  std::atomic<uint64_t> written{0};  // lines of the queue
};

std::atomic<LogTarget> g_target{LogTarget::kStandardError};
std::atomic<int> g_debug_level{0};
Writer* g_writer = nullptr;
// Of syslog; -1 where it is not logged to.
int g_syslog_fd = -1;
// Lines that were dropped in a process without a writer.
std::atomic<uint64_t> g_not_taken{0};

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

// Whether `fd` takes bytes, or says an error, within `wait_ms` (-1: without end).
bool IsTaking(int fd, int wait_ms) {
  pollfd polled = {fd, POLLOUT, 0};
  int ready;
  do {
    ready = poll(&polled, 1, wait_ms);
  } while (ready < 0 && errno == EINTR);
  return ready != 0;
}

std::string TimeText(const Line& line, const char* format) {
  tm local;
  char text[32] = "";
  if (localtime_r(&line.time, &local) != nullptr) strftime(text, sizeof(text), format, &local);
  return text;
}

// Returns whether the line was taken. A log that cannot be written cannot say so either: that
// counts as taken.
bool WriteToStandardError(const Line& line, int wait_ms) {
  if (!IsTaking(STDERR_FILENO, wait_ms)) return false;
  // The line is one write, so that lines of several processes do not mix.
  const std::string text =
      absl::StrFormat("epmd: %s: %s\n", TimeText(line, "%a %b %e %H:%M:%S %Y"), line.text);
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = write(STDERR_FILENO, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    rest.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// The socket of syslog. When it is not there yet, or has become another one, a later line connects
// anew.
bool ConnectToSyslog() {
  const sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = _PATH_LOG};
  return connect(g_syslog_fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// As WriteToStandardError(). syslog(3) would wait without end for a journal that hangs, so this
// says itself what that says.
bool WriteToSyslog(const Line& line, int wait_ms) {
  if (g_syslog_fd < 0) return true;
  const std::string text =
      absl::StrFormat("<%d>%sepmd[%d]: %s", LOG_DAEMON | SyslogPriority(line.severity),
                      TimeText(line, "%h %e %T "), getpid(), line.text);
  const auto send_now = [&text] {
    return send(g_syslog_fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
  };
  while (IsTaking(g_syslog_fd, wait_ms)) {
    if (send_now()) return true;
    if (errno == EAGAIN || errno == EINTR) continue;
    return !ConnectToSyslog() || send_now() || errno != EAGAIN;
  }
  return false;
}

bool Write(const Line& line, int wait_ms) {
  const LogTarget target = g_target.load(std::memory_order_relaxed);
  const bool has_syslog = target == LogTarget::kStandardError || WriteToSyslog(line, wait_ms);
  return (target == LogTarget::kSyslog || WriteToStandardError(line, wait_ms)) && has_syslog;
}

void SayDropped(uint64_t dropped, int wait_ms) {
  if (dropped == 0) return;
  Write({.severity = Severity::kWarning,
         .time = time(nullptr),
         .text = absl::StrFormat(
             "%d lines of the log are left out: its reader did not take them in time", dropped)},
        wait_ms);
}

// Of a process without a writer.
void WriteSoon(const Line& line) {
  if (!Write(line, kLogWaitMs)) {
    g_not_taken.fetch_add(1, std::memory_order_relaxed);
  } else {
    SayDropped(g_not_taken.exchange(0, std::memory_order_relaxed), kLogWaitMs);
  }
}

// Writes what is in the queue, and how many lines were dropped. Returns whether there may be more.
bool WriteQueued(Writer& writer) {
  uint64_t count = 0;
  for (; count < kLinesBetweenDropped; ++count) {
    const std::optional<Line> line = writer.queue.Take();
    if (!line.has_value()) break;
    Write(*line, kWithoutEnd);
    writer.written.fetch_add(1, std::memory_order_release);
  }
  SayDropped(writer.queue.TakeDropped(), kWithoutEnd);
  return count == kLinesBetweenDropped;
}

void WriteForEver(Writer& writer) {
  while (true) {
    const int seen = writer.queue.puts();
    if (!WriteQueued(writer)) writer.queue.AwaitPut(seen);
  }
}

}  // namespace

void SetUpLog(LogTarget target, int debug_level) {
  SetLogLevel(debug_level);
  if (target != LogTarget::kStandardError && g_syslog_fd < 0) {
    // Where there is no syslog, nobody can be told.
    g_syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ConnectToSyslog();
  }
  g_target.store(target, std::memory_order_relaxed);
}

void SetLogLevel(int debug_level) { g_debug_level.store(debug_level, std::memory_order_relaxed); }

void StartLogThread() {
  assert(g_writer == nullptr);
  auto* const writer = new Writer();
  absl::StatusOr<Thread> thread = Thread::Start("epmd-log", [writer] { WriteForEver(*writer); });
  if (!thread.ok()) {
    // Lines are written as before.
    delete writer;
    return;
  }
  thread->Detach();
  g_writer = writer;
}

void FlushLog() {
  if (g_writer == nullptr) return;
  const uint64_t wanted = g_writer->queue.put_in_all();
  const int64_t deadline_ms = MonotonicCoarseMs() + kLogFlushMs;
  while (g_writer->written.load(std::memory_order_acquire) < wanted &&
         MonotonicCoarseMs() < deadline_ms) {
    absl::SleepFor(absl::Milliseconds(1));
  }
}

bool IsLogged(Severity severity) {
  return static_cast<int>(severity) <=
         static_cast<int>(Severity::kNotice) + g_debug_level.load(std::memory_order_relaxed);
}

void LogLine(Severity severity, std::string_view line) {
  Line made = {.severity = severity,
               .time = time(nullptr),
               .text = std::string(line.substr(0, kLogLineSizeMax))};
  if (g_writer != nullptr) {
    // What is dropped is counted.
    g_writer->queue.Put(std::move(made));
  } else {
    WriteSoon(made);
  }
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
