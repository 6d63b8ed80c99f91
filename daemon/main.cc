#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "daemon/daemonize.h"
#include "daemon/interactive.h"
#include "daemon/log.h"
#include "daemon/mapper.h"
#include "daemon/options.h"

namespace evermap {
namespace {

constexpr int kDescriptorsFromSystemd = 3;

void Print(FILE* stream, std::string_view text) { fwrite(text.data(), 1, text.size(), stream); }

// What a starter left open is none of the mapper's business, and would keep, say, a pipe open on
// which somebody waits for its end.
void CloseInheritedDescriptors(const Options& options) {
  unsigned first = STDERR_FILENO + 1;
  if (options.systemd) {
    const char* count = getenv("LISTEN_FDS");
    first = kDescriptorsFromSystemd + static_cast<unsigned>(std::max(0, count ? atoi(count) : 0));
  }
  close_range(first, ~0u, 0);
}

// Descriptors 0 to 2 must be taken, or a socket would get one of them.
void OpenStandardStreams() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) close(fd);
}

int Serve(Options options) {
  // A path that was relative to the starter's directory still is after -daemon left it.
  if (!options.registry_path.empty() && options.registry_path[0] != '/') {
    char* directory = getcwd(nullptr, 0);
    if (directory != nullptr)
      options.registry_path = std::string(directory) + "/" + options.registry_path;
    free(directory);
  }
  CloseInheritedDescriptors(options);
  SetUpLog(LogTarget::kStandardError, options.debug_level);
  if (!options.daemon) {
    return RunMapper(options, [] {});
  }
  return RunDetached([&](absl::FunctionRef<void()> ready) {
    return RunMapper(options, [&] {
      ready();
      SetUpLog(LogTarget::kSyslog, options.debug_level);
    });
  });
}

int Main(int argc, char** argv) {
  OpenStandardStreams();
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
      return Serve(*options);
    default:
      return RunInteractive(*options);
  }
}

}  // namespace
}  // namespace evermap

int main(int argc, char** argv) { return evermap::Main(argc, argv); }
