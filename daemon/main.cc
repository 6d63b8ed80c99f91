#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "daemon/command/daemonize.h"
#include "daemon/command/interactive.h"
#include "daemon/command/options.h"
#include "daemon/command/starter_service.h"
#include "daemon/host/log.h"
#include "daemon/mapper/mapper.h"
#include "daemon/process/inheritance.h"
#include "daemon/process/keeper.h"

namespace evermap {
namespace {

void Print(FILE* stream, std::string_view text) { fwrite(text.data(), 1, text.size(), stream); }

// What a starter left open is none of the mapper's business, and would keep, say, a pipe open on
// which somebody waits for its end.
void CloseOtherDescriptors() { close_range(STDERR_FILENO + 1 + InheritedDescriptors(), ~0u, 0); }

// Descriptors 0 to 2 must be taken, or a socket would get one of them.
void OpenStandardStreams() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

// Whether this process is to be a keeper for the mapper that it starts.
bool WantsKeeper(const Options& options) {
  // A starter's NOTIFY_SOCKET is not that of a daemon.
  return !options.no_keeper && (options.daemon || getenv("NOTIFY_SOCKET") == nullptr);
}

// Who wants more than a mapper gets his own.
bool IsCalledAsByNodes(const std::vector<std::string>& arguments) {
  return arguments.size() == 2 && arguments[1] == "-daemon";
}

int Serve(Options options, std::vector<std::string> arguments) {
  // A path that was relative to the starter's directory still is after -daemon left it.
  if (!options.registry_path.empty() && options.registry_path[0] != '/') {
    char* directory = getcwd(nullptr, 0);
    if (directory != nullptr) {
      options.registry_path = std::string(directory) + "/" + options.registry_path;
      // The last one counts.
      arguments.insert(arguments.end(), {"-registry", options.registry_path});
    }
    free(directory);
  }
  CloseOtherDescriptors();
  SetUpLog(options.daemon ? LogTarget::kBoth : LogTarget::kStandardError, options.debug_level);
  absl::StatusOr<Inheritance> inherited = TakeInheritance();
  if (!inherited.ok()) {
    Log(Severity::kError, "%s", inherited.status().message());
    return 1;
  }
  if (options.daemon) unsetenv("NOTIFY_SOCKET");
  const bool is_mapper = inherited->keeper.valid() || inherited->predecessor.valid();
  const bool is_keeper = inherited->mapper.valid() || (!is_mapper && WantsKeeper(options));
  const bool is_detached = is_mapper || inherited->mapper.valid();
  const auto run = [&](absl::FunctionRef<void()> ready) {
    // What it starts, mappers and keepers, is never more than it is itself. Fails nowhere.
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const auto on_ready = [&] {
      ready();
      if (!options.daemon) return;
      LetGoOfStandardStreams();
      SetUpLog(LogTarget::kSyslog, options.debug_level);
    };
    return is_keeper ? RunKeeper(arguments, *std::move(inherited), on_ready)
                     : RunMapper(options, arguments, *std::move(inherited), on_ready);
  };
  if (!options.daemon || is_detached) return run([] {});
  const std::optional<Service> service = ServiceOfStarter();
  if (service.has_value()) {
    // A second mapper; it would only say the same a little later.
    if (IsMapperThere(options.port)) return 0;
    if (IsCalledAsByNodes(arguments) && StartMapperService(options.port)) return 0;
  }
  return RunDetached([&](absl::FunctionRef<void()> ready) {
    if (service.has_value()) LeaveService(*service, options.port);
    return run(ready);
  });
}

int Main(int argc, char** argv) {
  OpenStandardStreams();
  // A mapper that a keeper started would be called after the file that it was started from.
  prctl(PR_SET_NAME, "epmd");
  const absl::StatusOr<Options> options =
      ParseOptions(absl::MakeConstSpan(argv + 1, static_cast<size_t>(std::max(argc - 1, 0))),
                   [](const char* name) -> const char* { return getenv(name); });
  if (!options.ok()) {
    Print(stderr, std::string("epmd: ") + std::string(options.status().message()) + "\n");
    return 1;
  }
  switch (options->command) {
    case Command::kHelp:
      Print(stdout, UsageText());
      return 0;
    case Command::kVersion:
      Print(stdout, VersionText());
      return 0;
    case Command::kServe:
      return Serve(*options, std::vector<std::string>(argv, argv + argc));
    default:
      return RunInteractive(*options);
  }
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
