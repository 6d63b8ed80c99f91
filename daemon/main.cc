// `epmd`: finds out which role this process has (role.h), and plays it.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/command/check.h"
#include "daemon/command/daemonize.h"
#include "daemon/command/interactive.h"
#include "daemon/command/options.h"
#include "daemon/command/starter_service.h"
#include "daemon/custody/keeper_store.h"
#include "daemon/custody/notify_socket.h"
#include "daemon/custody/store.h"
#include "daemon/custody/words.h"
#include "daemon/host/address.h"
#include "daemon/host/log.h"
#include "daemon/host/own_program.h"
#include "daemon/mapper/mapper.h"
#include "daemon/process/inheritance.h"
#include "daemon/process/inherited_state.h"
#include "daemon/process/keeper.h"
#include "daemon/process/keeper_relief.h"
#include "daemon/process/needed_calls.h"
#include "daemon/process/pid_file.h"
#include "daemon/role.h"
#include "registry/location.h"
#include "registry/reader.h"
#include "registry/status.h"

namespace evermap {
namespace {

void Print(FILE* stream, std::string_view text) { fwrite(text.data(), 1, text.size(), stream); }

// True for exactly `epmd -daemon`, as erl calls it. A caller with other options wants a mapper with
// these, not the system's.
bool IsCalledAsByNodes(const std::vector<std::string>& arguments) {
  return arguments.size() == 2 && arguments[1] == "-daemon";
}

// Makes the relative paths of files absolute, in the options and in the arguments that later
// processes get: -daemon leaves the directory that they are relative to.
void MakePathsAbsolute(Options& options, std::vector<std::string>& arguments) {
  char* directory = getcwd(nullptr, 0);
  const auto make_absolute = [&](const char* option, std::string& path) {
    if (directory == nullptr || path.empty() || path[0] == '/') return;
    path = std::string(directory) + "/" + path;
    // Of several the last one counts.
    arguments.insert(arguments.end(), {option, path});
  };
  make_absolute("-registry", options.registry_path);
  make_absolute("-pidfile", options.pid_file);
  if (options.config_path != kNoConfig) make_absolute("-config", options.config_path);
  free(directory);
}

int Tell(const Options& options) {
  switch (options.command) {
    case Command::kHelp:
      Print(stdout, UsageText());
      return 0;
    case Command::kVersion:
      Print(stdout, VersionText());
      return 0;
    case Command::kCheck:
      return CheckSettings(options);
    default:
      break;
  }
  // The port may stand in a file.
  std::vector<std::string> lines = options.warnings;
  lines.insert(lines.end(), options.files.problems.begin(), options.files.problems.end());
  for (const std::string& line : lines) Print(stderr, absl::StrCat("epmd: ", line, "\n"));
  return RunInteractive(options);
}

// Whether a mapper runs that has a keeper, or is about to have one again.
bool HasMapperWithKeeper(const Options& options) {
  const std::string path =
      options.registry_path.empty() ? DefaultRegistryPath(options.port) : options.registry_path;
  std::string error;
  const std::unique_ptr<Reader> reader = Reader::Open(path, error);
  if (reader == nullptr) return false;
  const MapperStatus status = reader->view().mapper_status();
  return status.custody == kKeeperCustody && IsRunning(status);
}

// A process that serves in one way or another.
class Server {
 public:
  // `waiting`: the address of a socket at which somebody waits to hear that connections are accepted;
  // empty: nobody, or the mapper itself says so.
  Server(Options options, std::vector<std::string> arguments, Inheritance inherited,
         std::string waiting)
      : options_(std::move(options)),
        arguments_(std::move(arguments)),
        inherited_(std::move(inherited)),
        waiting_(std::move(waiting)) {}

  // Returns the exit code.
  int Run() {
    return Play(RoleNow(/*is_detached=*/false), [] {});
  }

 private:
  Role RoleNow(bool is_detached) const {
    return RoleOf(options_, inherited_,
                  {.has_notify_socket = getenv(variables::kNotifySocket) != nullptr,
                   .is_detached = is_detached});
  }

  // Calls `ready` when connections are accepted.
  int Play(Role role, absl::FunctionRef<void()> ready) {
    // Whatever was logged is tried before this process ends.
    const absl::Cleanup flush_log = [] { FlushLog(); };
    if (options_.daemon && role != Role::kStarter) {
      null_device_ = OpenNullDevice();
      // Whoever takes over from another serves all the same.
      const bool is_first = !inherited_.keeper.valid() && !inherited_.mapper.valid() &&
                            !inherited_.predecessor.valid();
      if (!null_device_.valid() && is_first) return 1;
    }
    // Signals are for the keeper then.
    const bool has_keeper = inherited_.keeper.valid();
    const auto on_ready = [&] {
      if (!has_keeper) pid_file_.Write(options_.pid_file);
      ready();
      if (!waiting_.empty()) SayReady(waiting_);
      if (!options_.daemon) return;
      // Who has started this process is still told what was logged so far.
      FlushLog();
      LetGoOfStandardStreams(std::move(null_device_));
      SetUpLog(LogTarget::kSyslog, options_.debug_level);
    };
    switch (role) {
      case Role::kStarter:
        return StartDaemon();
      case Role::kKeeper:
        ForbidNewPrivileges();
        return Ended(KeepMapper(on_ready));
      case Role::kMapper:
        ForbidNewPrivileges();
        StartLogThread();
        return Ended(RunMapper(options_, arguments_, std::move(inherited_), on_ready));
      case Role::kCommand:
        break;
    }
    assert(false);
    return 1;
  }

  int Ended(int code) {
    pid_file_.Remove();
    return code;
  }

  int Ended(const MapperEnd& end) {
    if (end.signal == 0) return Ended(end.exit_code);
    pid_file_.Remove();
    FlushLog();
    EndBySignal(end.signal);
    return end.exit_code;
  }

  // Its mask and disposition are this program's (startup.cc), not whoever's started it. Returns only
  // where a filter of system calls forbids it.
  static void EndBySignal(int signal_number) {
    signal(signal_number, SIG_DFL);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, signal_number);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    raise(signal_number);
  }

  int KeepMapper(absl::FunctionRef<void()> on_ready) {
    KeeperOptions keeper = {.port = options_.port, .is_daemon = options_.daemon};
    if (MayRelieve()) keeper.is_mapper_there = [this] { return HasMapperWithKeeper(options_); };
    return RunKeeper(arguments_, keeper, std::move(inherited_), on_ready);
  }

  // A node that starts `epmd -daemon` looks after nobody; a script that wants a pid file does. Who is
  // given sockets of its own does not need those of another.
  bool MayRelieve() const {
    return inherited_.listeners.empty() && (!options_.daemon || !options_.pid_file.empty());
  }

  // The processes that this one starts cannot gain privileges. prctl() cannot fail here.
  static void ForbidNewPrivileges() { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); }

  int StartDaemon() {
    const std::optional<Service> service = ServiceOfStarter();
    if (service.has_value()) {
      // A second mapper would only find that out a little later.
      if (IsMapperThere(options_.port)) return 0;
      if (IsCalledAsByNodes(arguments_) && StartMapperService(options_.port)) return 0;
    }
    return RunDetached([&](absl::FunctionRef<void()> ready) {
      if (service.has_value()) LeaveService(*service, options_.port);
      return Play(RoleNow(/*is_detached=*/true), ready);
    });
  }

  const Options options_;
  const std::vector<std::string> arguments_;
  Inheritance inherited_;
  const std::string waiting_;
  PidFile pid_file_;
  OwnedFd null_device_;  // of a daemon that does not serve yet
};

// Takes the NOTIFY_SOCKET of a reader that holds no descriptors out of the environment, and returns it:
// a process with such a reader needs a keeper, and its successors are none of that reader's business.
std::string TakeSocketOfNoStore() {
  const char* const variable = getenv(variables::kNotifySocket);
  if (variable == nullptr) return {};
  std::string address = variable;
  if (HoldsDescriptors(address, Store::kTellTimeout)) return {};
  unsetenv(variables::kNotifySocket);
  return address;
}

// Who was passed sockets serves their port, whatever the settings say: they may have been made when
// those were others. The mapper says so (mapper/configuration.h).
void KeepPortOf(const std::vector<OwnedFd>& listeners, Options& options) {
  std::vector<uint16_t> ports;
  for (const OwnedFd& listener : listeners) ports.push_back(PortOf(OwnAddress(listener.get())));
  if (ports.empty() || std::find(ports.begin(), ports.end(), options.port) != ports.end()) return;
  if (ports.front() == 0) return;
  options.port = ports.front();
  options.is_port_of_sockets = true;
}

int Serve(Options options, std::vector<std::string> arguments) {
  MakePathsAbsolute(options, arguments);
  setenv(kStartedWithVariable, StartedWith(options).c_str(), /*overwrite=*/1);
  // Without /proc it is only now that it can be told.
  OwnProgram();
  PutInheritedStateRight(InheritedDescriptors());
  if (const absl::Status status = TryNeededCalls(); !status.ok()) {
    Print(stderr, absl::StrCat("epmd: ", status.message(), "\n"));
    return 1;
  }
  SetUpLog(options.daemon ? LogTarget::kBoth : LogTarget::kStandardError, options.debug_level);
  absl::StatusOr<Inheritance> inherited = TakeInheritance();
  if (!inherited.ok()) {
    Log(Severity::kError, "%s", inherited.status().message());
    return 1;
  }
  KeepPortOf(inherited->listeners, options);
  const bool has_link =
      inherited->keeper.valid() || inherited->predecessor.valid() || inherited->mapper.valid();
  InheritRuntimeDirectory(has_link);
  // It is the socket of the service that has started this process, and says nothing of this one.
  if (options.daemon) unsetenv(variables::kNotifySocket);
  std::string waiting = has_link ? std::string() : TakeSocketOfNoStore();
  return Server(std::move(options), std::move(arguments), *std::move(inherited), std::move(waiting))
      .Run();
}

int Main(int argc, char** argv) {
  OpenStandardStreams();
  // A mapper that a keeper has started is executed as /proc/self/exe, and would be called "exe".
  prctl(PR_SET_NAME, "epmd");
  const absl::StatusOr<Options> options =
      ReadOptions(absl::MakeConstSpan(argv + 1, static_cast<size_t>(std::max(argc - 1, 0))),
                  [](const char* name) -> const char* { return getenv(name); });
  if (!options.ok()) {
    Print(stderr, std::string("epmd: ") + std::string(options.status().message()) + "\n");
    return 1;
  }
  // What was passed to a command is none of its business, and stays as it is.
  if (RoleOf(*options, {}, {}) == Role::kCommand) return Tell(*options);
  return Serve(*options, std::vector<std::string>(argv, argv + argc));
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
