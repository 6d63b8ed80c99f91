#include "tools/epmdctl/upgrade_command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "registry/base/owned_fd.h"
#include "registry/base/text.h"
#include "registry/reader.h"
#include "registry/status.h"
#include "tools/epmdctl/status_command.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

using Outcome = UpgradeStatus::Outcome;

// An upgrade takes some ten to some hundred milliseconds.
constexpr int kPollMs = 10;

int Fail(const std::string& message) {
  PrintError(message);
  return kExitFailed;
}

// Absolute, with symbolic links as they are: where they lead may change with the next package.
// Empty when there is no current directory.
std::string AbsolutePath(const std::string& path) {
  if (path.front() == '/') return path;
  const std::unique_ptr<char, decltype(&std::free)> directory(getcwd(nullptr, 0), &std::free);
  return directory == nullptr ? "" : std::string(directory.get()) + "/" + path;
}

// What is wrong with a binary; empty when nothing is.
std::string BinaryComplaint(const std::string& path) {
  struct stat file;
  if (stat(path.c_str(), &file) != 0) return ErrorText(errno);
  if (!S_ISREG(file.st_mode)) return "is not a regular file";
  if (access(path.c_str(), X_OK) != 0) return "may not be executed: " + ErrorText(errno);
  return "";
}

// Puts `content` into a new file at `path`, for the owner of the registry, at once as a whole;
// empty, or what went wrong.
std::string WriteRequest(const std::string& registry_path, const std::string& path,
                         const std::string& content) {
  const std::string temporary = path + "." + std::to_string(getpid());
  unlink(temporary.c_str());
  const OwnedFd fd(
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.valid()) return temporary + ": cannot be created: " + ErrorText(errno);
  struct stat registry;
  std::string complaint;
  if (write(fd.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size())) {
    complaint = temporary + ": cannot be written: " + ErrorText(errno);
  } else if (stat(registry_path.c_str(), &registry) != 0 ||
             (registry.st_uid != geteuid() &&
              fchown(fd.get(), registry.st_uid, registry.st_gid) != 0)) {
    complaint = temporary + ": cannot be given to the mapper's user: " + ErrorText(errno);
  } else if (rename(temporary.c_str(), path.c_str()) != 0) {
    complaint = path + ": cannot be named: " + ErrorText(errno);
  }
  if (!complaint.empty()) unlink(temporary.c_str());
  return complaint;
}

// Sends SIGHUP to the mapper, and to no other process that got its pid.
std::string SendHangup(const MapperStatus& mapper) {
  const OwnedFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, static_cast<pid_t>(mapper.pid), 0)));
  if (!pidfd.valid()) {
    return "the mapper, process " + std::to_string(mapper.pid) +
           ", cannot be reached: " + ErrorText(errno);
  }
  if (!IsRunning(mapper)) {
    return "the mapper, process " + std::to_string(mapper.pid) + ", has just ended";
  }
  if (syscall(SYS_pidfd_send_signal, pidfd.get(), SIGHUP, nullptr, 0) != 0) {
    return "the mapper, process " + std::to_string(mapper.pid) +
           ", cannot be told: " + ErrorText(errno) +
           (errno == EPERM ? "; run as its user or as root" : "");
  }
  return "";
}

int Report(const UpgradeStatus& upgrade, bool json) {
  if (json) {
    PrintJson(ToJson(upgrade));
  } else if (upgrade.outcome == Outcome::kSucceeded) {
    std::printf("%s\n", upgrade.text.empty() ? "upgraded" : upgrade.text.c_str());
  } else {
    PrintError("the upgrade failed, and the mapper goes on as before: " + upgrade.text);
  }
  return upgrade.outcome == Outcome::kSucceeded ? 0 : kExitFailed;
}

}  // namespace

int Upgrade(CurrentRegistry& registry, const std::string& binary, int timeout_s, bool json) {
  MapperStatus mapper;
  UpgradeStatus before;
  const auto read = [&](const RegistryView& view) {
    mapper = view.mapper_status();
    before = view.upgrade_status();
  };
  std::string error;
  if (!registry.Read(read, error)) {
    PrintError(error);
    return kExitNoRegistry;
  }
  if (!IsRunning(mapper)) {
    PrintError(registry.path() + ": its mapper does not run; start it instead");
    return kExitNotRunning;
  }
  const std::string request_path = registry.path() + ".upgrade";
  if (!binary.empty()) {
    const std::string complaint = BinaryComplaint(binary);
    if (!complaint.empty()) return Fail(Printable(binary) + ": " + complaint);
    const std::string absolute = AbsolutePath(binary);
    if (absolute.empty()) return Fail("there is no current directory; give an absolute path");
    error = WriteRequest(registry.path(), request_path, absolute);
    if (!error.empty()) return Fail(error);
  }
  error = SendHangup(mapper);
  if (!error.empty()) {
    if (!binary.empty()) unlink(request_path.c_str());
    return Fail(error);
  }

  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  const MapperStatus asked = mapper;
  UpgradeStatus upgrade;
  while (std::chrono::steady_clock::now() < deadline) {
    poll(nullptr, 0, kPollMs);
    // Before what it has noted is read, since it may note more until it ends.
    const bool has_ended = !IsRunning(asked);
    // It cannot be read while it is put back under its name; the next time will do.
    if (!registry.Read(
            [&](const RegistryView& view) {
              upgrade = view.upgrade_status();
              mapper = view.mapper_status();
            },
            error)) {
      continue;
    }
    if (upgrade.number > before.number &&
        (upgrade.outcome == Outcome::kSucceeded || upgrade.outcome == Outcome::kFailed)) {
      return Report(upgrade, json);
    }
    if (has_ended && upgrade.number <= before.number) {
      // Nobody knows of the request any more.
      if (!binary.empty()) unlink(request_path.c_str());
      return Fail("the mapper, process " + std::to_string(asked.pid) +
                  ", has ended before it began the upgrade; see its log, and ask again");
    }
  }
  // A request that was not taken up must not surprise the next one.
  if (!binary.empty()) unlink(request_path.c_str());
  const std::string waited = "no outcome after " + std::to_string(timeout_s) + " s";
  if (!IsRunning(mapper)) return Fail(waited + ": the mapper does not run any more; see its log");
  if (upgrade.number > before.number) {
    return Fail(waited + ": the upgrade still runs; see epmdctl status and the mapper's log");
  }
  return Fail(waited + ": the mapper has not begun; see its log");
}

}  // namespace evermap
