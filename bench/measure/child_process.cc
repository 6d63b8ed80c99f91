#include "bench/measure/child_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <random>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/measure/process_usage.h"
#include "registry/base/file_text.h"
#include "registry/base/owned_fd.h"

namespace evermap::bench {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(5);
constexpr size_t kLogTailSize = 1000;
// Ports for servers lie below the kernel's usual range for outgoing connections, so that no
// connection of the load takes one meanwhile.
constexpr int kPortFirst = 20000;
constexpr int kPortLast = 32000;
constexpr int kPortAttemptsMax = 100;
constexpr int kExecFailed = 127;

std::vector<std::string> CleanEnvironment() {
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view variable = *entry;
    if (absl::StartsWith(variable, "ERL_") || absl::StartsWith(variable, "LISTEN_") ||
        absl::StartsWith(variable, "NOTIFY_SOCKET=")) {
      continue;
    }
    kept.emplace_back(variable);
  }
  return kept;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

absl::Status PinToCore(int core) {
  if (core < 0 || core >= CPU_SETSIZE) {
    return absl::InvalidArgumentError(absl::StrCat("no core can have the number ", core));
  }
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(static_cast<size_t>(core), &cores);
  if (sched_setaffinity(0, sizeof cores, &cores) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot run on core ", core));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint16_t> FreePort() {
  std::random_device seed;
  std::uniform_int_distribution<int> any_port(kPortFirst, kPortLast);
  for (int attempt = 0; attempt < kPortAttemptsMax; ++attempt) {
    const auto port = static_cast<uint16_t>(any_port(seed));
    const absl::StatusOr<Endpoint> endpoint = Endpoint::Parse("127.0.0.1", port);
    if (!endpoint.ok()) return endpoint.status();
    const OwnedFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!probe.valid()) return absl::ErrnoToStatus(errno, "no socket");
    if (bind(probe.get(), endpoint->address(), endpoint->size()) == 0) return port;
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no free port found between ", kPortFirst, " and ", kPortLast));
}

absl::StatusOr<ChildProcess> ChildProcess::Start(const Options& options) {
  std::vector<std::string> command = options.command;
  if (command.empty()) return absl::InvalidArgumentError("no command to start");
  std::vector<std::string> environment = CleanEnvironment();
  environment.insert(environment.end(), options.variables.begin(), options.variables.end());
  const std::vector<char*> arguments = Pointers(command);
  const std::vector<char*> variables = Pointers(environment);
  const OwnedFd log(
      open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", options.log_path));
  }
  const OwnedFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null.valid()) return absl::ErrnoToStatus(errno, "cannot read /dev/null");

  const int input = options.standard_input == kNoFd ? null.get() : options.standard_input;
  const int output = options.standard_output == kNoFd ? log.get() : options.standard_output;

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot fork");
  if (pid == 0) {
    const bool ready = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
                       dup2(input, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0 &&
                       dup2(log.get(), STDERR_FILENO) >= 0 &&
                       (options.core == kAnyCore || PinToCore(options.core).ok());
    if (ready) execve(arguments[0], arguments.data(), variables.data());
    _exit(kExecFailed);
  }
  return ChildProcess(pid, options.log_path);
}

bool ChildProcess::HasEnded() {
  if (pid_ == 0) return true;
  if (waitpid(pid_, nullptr, WNOHANG) == 0) return false;
  pid_ = 0;
  return true;
}

ChildProcess::~ChildProcess() {
  if (HasEnded()) return;
  const std::vector<pid_t> tree = ProcessTree(pid_);
  // What a keeper that had to be killed leaves behind.
  const absl::Cleanup end_descendants = [&tree] {
    for (size_t i = 1; i < tree.size(); ++i) kill(tree[i], SIGKILL);
  };
  kill(pid_, SIGTERM);
  const absl::Time deadline = absl::Now() + kEndTimeout;
  while (absl::Now() < deadline) {
    if (HasEnded()) return;
    absl::SleepFor(kPollPause);
  }
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::Status ChildProcess::WaitUntilAnswers(const Endpoint& endpoint) {
  const absl::Time deadline = absl::Now() + kStartTimeout;
  std::string problem;
  while (absl::Now() < deadline) {
    if (HasEnded()) {
      problem = "ended instead of serving";
      break;
    }
    const absl::StatusOr<OwnedFd> connection = Connect(endpoint);
    if (connection.ok()) return absl::OkStatus();
    problem = std::string(connection.status().message());
    absl::SleepFor(kPollPause);
  }
  const std::string log = FileText(log_path_);
  return absl::UnavailableError(
      absl::StrCat("the mapper for ", endpoint.text(), ": ", problem, "; its log ends with:\n",
                   log.size() > kLogTailSize ? log.substr(log.size() - kLogTailSize) : log));
}

}  // namespace evermap::bench
