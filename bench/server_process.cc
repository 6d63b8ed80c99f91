#include "bench/server_process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"

namespace evermap::bench {
namespace {

constexpr absl::Duration kPollPause = absl::Milliseconds(5);
constexpr size_t kLogTailSize = 1000;
// Below the kernel's usual range for outgoing connections, so that none of ours takes it meanwhile.
constexpr int kPortFirst = 20000;
constexpr int kPortLast = 32000;
constexpr int kPortAttemptsMax = 100;
constexpr int kExecFailed = 127;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The fields of /proc/PID/stat after the command name, which may itself contain spaces and
// brackets.
absl::StatusOr<uint64_t> CpuNsFromStat(pid_t pid) {
  constexpr size_t kUserTicksField = 11;
  constexpr size_t kKernelTicksField = 12;
  const std::string stat = ReadFile(absl::StrCat("/proc/", pid, "/stat"));
  const size_t name_end = stat.rfind(") ");
  if (name_end == std::string::npos) {
    return absl::NotFoundError(absl::StrCat("there is no process ", pid));
  }
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(name_end + 2), ' ');
  uint64_t user_ticks = 0;
  uint64_t kernel_ticks = 0;
  const int64_t ticks_per_s = sysconf(_SC_CLK_TCK);
  if (fields.size() <= kKernelTicksField || ticks_per_s <= 0 ||
      !absl::SimpleAtoi(fields[kUserTicksField], &user_ticks) ||
      !absl::SimpleAtoi(fields[kKernelTicksField], &kernel_ticks)) {
    return absl::InternalError(absl::StrCat("/proc/", pid, "/stat is not understood"));
  }
  return (user_ticks + kernel_ticks) * 1'000'000'000 / static_cast<uint64_t>(ticks_per_s);
}

std::vector<std::string> CleanEnvironment() {
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const absl::string_view variable = *entry;
    if (absl::StartsWith(variable, "ERL_EPMD_") || absl::StartsWith(variable, "LISTEN_") ||
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

absl::StatusOr<uint64_t> ProcessCpuNs(pid_t pid) {
  const std::string tasks = absl::StrCat("/proc/", pid, "/task");
  DIR* directory = opendir(tasks.c_str());
  if (directory == nullptr) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot read ", tasks));
  }
  const absl::Cleanup close_directory = [directory] { closedir(directory); };
  uint64_t sum_ns = 0;
  bool any = false;
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    // Nanoseconds on a core, nanoseconds waiting for one, number of turns.
    const std::string schedstat = ReadFile(absl::StrCat(tasks, "/", entry->d_name, "/schedstat"));
    const std::vector<absl::string_view> fields =
        absl::StrSplit(absl::string_view(schedstat.data(), schedstat.size()), ' ');
    uint64_t thread_ns = 0;
    // A thread that ended since it was listed has none.
    if (!absl::SimpleAtoi(fields[0], &thread_ns)) continue;
    sum_ns += thread_ns;
    any = any || thread_ns > 0;
  }
  return any ? absl::StatusOr<uint64_t>(sum_ns) : CpuNsFromStat(pid);
}

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
    const UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!probe.valid()) return absl::ErrnoToStatus(errno, "no socket");
    if (bind(probe.get(), endpoint->address(), endpoint->size()) == 0) return port;
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("no free port found between ", kPortFirst, " and ", kPortLast));
}

absl::StatusOr<ServerProcess> ServerProcess::Start(const Options& options) {
  std::vector<std::string> command = options.command;
  if (command.empty()) return absl::InvalidArgumentError("no command to start");
  std::vector<std::string> environment = CleanEnvironment();
  const std::vector<char*> arguments = Pointers(command);
  const std::vector<char*> variables = Pointers(environment);
  const UniqueFd log(
      open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.valid()) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", options.log_path));
  }
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null.valid()) return absl::ErrnoToStatus(errno, "cannot read /dev/null");

  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ErrnoToStatus(errno, "cannot fork");
  if (pid == 0) {
    const bool ready = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
                       dup2(null.get(), STDIN_FILENO) >= 0 && dup2(log.get(), STDOUT_FILENO) >= 0 &&
                       dup2(log.get(), STDERR_FILENO) >= 0 &&
                       (options.core == kAnyCore || PinToCore(options.core).ok());
    if (ready) execve(arguments[0], arguments.data(), variables.data());
    _exit(kExecFailed);
  }
  return ServerProcess(pid, options.log_path);
}

bool ServerProcess::HasEnded() {
  if (pid_ == 0) return true;
  if (waitpid(pid_, nullptr, WNOHANG) == 0) return false;
  pid_ = 0;
  return true;
}

ServerProcess::~ServerProcess() {
  if (HasEnded()) return;
  kill(pid_, SIGTERM);
  const absl::Time deadline = absl::Now() + kEndTimeout;
  while (absl::Now() < deadline) {
    if (HasEnded()) return;
    absl::SleepFor(kPollPause);
  }
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::Status ServerProcess::WaitUntilAnswers(const Endpoint& endpoint) {
  const absl::Time deadline = absl::Now() + kStartTimeout;
  std::string problem;
  while (absl::Now() < deadline) {
    if (HasEnded()) {
      problem = "ended instead of serving";
      break;
    }
    const absl::StatusOr<UniqueFd> connection = Connect(endpoint);
    if (connection.ok()) return absl::OkStatus();
    problem = std::string(connection.status().message());
    absl::SleepFor(kPollPause);
  }
  const std::string log = ReadFile(log_path_);
  return absl::UnavailableError(
      absl::StrCat("the mapper for ", endpoint.text(), ": ", problem, "; its log ends with:\n",
                   log.size() > kLogTailSize ? log.substr(log.size() - kLogTailSize) : log));
}

}  // namespace evermap::bench
