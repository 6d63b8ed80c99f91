// Lets one line a minute through for each key (a name, an address), so that neither somebody who tries
// again and again nor a health check fills a disk, and the first event of each is told at once.
//
//   LogLimited(shared.log_refused, name, Severity::kWarning, "node %s is refused", Escaped(name));
//
// Thread safety: any thread, without a lock. Of several that meet in an entry some may be told that
// should not have been.
// Bounds: kKeysMax keys in an interval, whoever asks. Those beyond are left out, and counted with the
// lines that are left out of the next key.
#ifndef EVERMAP_DAEMON_HOST_KEYED_LIMITER_H_
#define EVERMAP_DAEMON_HOST_KEYED_LIMITER_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_format.h"
#include "daemon/host/log.h"

namespace evermap {

class KeyedLimiter {
 public:
  static constexpr size_t kKeysMax = 256;
  static constexpr int64_t kIntervalMs = 60'000;

  // Whether the next event of this key will be let through.
  bool WouldAllow(std::string_view key) const;
  // True for the first event of this key in an interval; `suppressed` is then how many got false.
  bool Allow(std::string_view key, uint64_t& suppressed);

 private:
  // How many places in a row are looked at for a key.
  static constexpr size_t kProbes = 8;

  struct Entry {
    std::atomic<uint64_t> hash{0};  // 0: nobody's
    std::atomic<int64_t> next_ms{0};
    std::atomic<uint64_t> suppressed{0};
  };

  std::array<Entry, kKeysMax> entries_;
  std::atomic<uint64_t> left_out_{0};  // of keys that had no place
};

// As Log(), at most once in an interval for each key, with the number of lines left out. The line is
// made only if it is let through.
inline void LogLimited(KeyedLimiter& limiter, std::string_view key, Severity severity,
                       absl::FunctionRef<std::string()> make_line) {
  uint64_t suppressed = 0;
  if (!IsLogged(severity) || !limiter.Allow(key, suppressed)) return;
  std::string line = make_line();
  if (suppressed > 0) {
    absl::StrAppendFormat(&line, " (and %d more since the last line)", suppressed);
  }
  LogLine(severity, line);
}

// The same with a format, whose arguments cost little.
template <typename... Args>
void LogLimited(KeyedLimiter& limiter, std::string_view key, Severity severity,
                const absl::FormatSpec<Args...>& format, const Args&... args) {
  LogLimited(limiter, key, severity, [&] { return absl::StrFormat(format, args...); });
}

}  // namespace evermap

#endif  // EVERMAP_DAEMON_HOST_KEYED_LIMITER_H_
