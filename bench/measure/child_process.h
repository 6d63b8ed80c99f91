// A mapper or a node as a process: started for a measurement, and ended with the bench.
#ifndef EVERMAP_BENCH_MEASURE_CHILD_PROCESS_H_
#define EVERMAP_BENCH_MEASURE_CHILD_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/load/endpoint.h"

namespace evermap::bench {

inline constexpr int kAnyCore = -1;
inline constexpr int kNoFd = -1;

// Keeps the calling thread, and the processes that it starts from now on, to one core.
absl::Status PinToCore(int core);

// A port on 127.0.0.1 on which nothing listens now. Another process may take it before the caller.
absl::StatusOr<uint16_t> FreePort();

// A child process that is ended when this object is destroyed, or when the bench is killed.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> command = {};
    std::string log_path = {};  // gets its standard output and error
    int core = kAnyCore;
    std::vector<std::string> variables = {};  // of its environment, NAME=VALUE
    // Descriptors of the caller that become its standard input and output, in place of nothing and
    // of the log.
    int standard_input = kNoFd;
    int standard_output = kNoFd;
  };

  // The child inherits neither the variables ERL_... nor sockets that were passed to the caller
  // (LISTEN_...), because both would change how a mapper serves or a node starts.
  static absl::StatusOr<ChildProcess> Start(const Options& options);
  ChildProcess(ChildProcess&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), log_path_(std::move(other.log_path_)) {}
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();

  // Returns when the server accepts connections. kUnavailable, with the end of its log, when it
  // ends before or does not accept within kStartTimeout.
  absl::Status WaitUntilAnswers(const Endpoint& endpoint);

  pid_t pid() const { return pid_; }

  static constexpr absl::Duration kStartTimeout = absl::Seconds(30);
  static constexpr absl::Duration kEndTimeout = absl::Seconds(5);

 private:
  ChildProcess(pid_t pid, std::string log_path) : pid_(pid), log_path_(std::move(log_path)) {}
  bool HasEnded();

  pid_t pid_ = 0;  // 0: none, or reaped
  std::string log_path_;
};

}  // namespace evermap::bench

#endif  // EVERMAP_BENCH_MEASURE_CHILD_PROCESS_H_
