#include "tools/epmdctl/upgrade_command.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "registry/base/text.h"
#include "registry/reader.h"
#include "registry/status.h"
#include "registry/upgrade_request.h"
#include "tools/epmdctl/host/tell_mapper.h"
#include "tools/epmdctl/status_command.h"
#include "tools/epmdctl/view/output.h"

namespace evermap {
namespace {

using Outcome = UpgradeStatus::Outcome;

// `path` made absolute, but with its symbolic links, which may lead elsewhere after the next
// package. Empty when there is no current directory.
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

int TellOutcome(const UpgradeStatus& upgrade, bool json) {
  if (json) {
    PrintJson(ToJson(upgrade));
  } else if (upgrade.outcome == Outcome::kSucceeded) {
    std::printf("%s\n", upgrade.text.empty() ? "upgraded" : upgrade.text.c_str());
  } else {
    PrintError("the upgrade failed, and the mapper goes on as before: " + upgrade.text);
  }
  return upgrade.outcome == Outcome::kSucceeded ? 0 : kExitFailed;
}

// What the mapper says of itself and of its upgrades.
struct Told {
  MapperStatus mapper;
  UpgradeStatus upgrade;
};

// False, and why, when the registry cannot be read now.
bool Read(CurrentRegistry& registry, Told& told, std::string& error) {
  return registry.Read(
      [&told](const RegistryView& view) {
        told.mapper = view.mapper_status();
        told.upgrade = view.upgrade_status();
      },
      error);
}

// Leaves the name of `binary`, unless that is empty, beside the registry; empty, or what went
// wrong.
std::string RequestBinary(const std::string& registry_path, const std::string& binary) {
  if (binary.empty()) return "";
  const std::string complaint = BinaryComplaint(binary);
  if (!complaint.empty()) return Printable(binary) + ": " + complaint;
  const std::string absolute = AbsolutePath(binary);
  if (absolute.empty()) return "there is no current directory; give an absolute path";
  return WriteUpgradeRequest(registry_path, absolute);
}

// Waits until an upgrade after `before` has come to an outcome, which `last` holds then. Empty, or
// why there is none.
std::string AwaitOutcome(CurrentRegistry& registry, const Told& before, int timeout_s, Told& last) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  last = before;
  while (std::chrono::steady_clock::now() < deadline) {
    poll(nullptr, 0, kTellPollMs);
    // Asked before the status is read: the mapper may write to it until it has ended.
    const bool has_ended = !IsRunning(before.mapper);
    std::string error;
    // A failed upgrade gives a migrated registry its name back, and for a moment there is none to
    // be read. The next attempt finds it.
    if (!Read(registry, last, error)) continue;
    const bool has_begun = last.upgrade.number > before.upgrade.number;
    if (has_begun &&
        (last.upgrade.outcome == Outcome::kSucceeded || last.upgrade.outcome == Outcome::kFailed)) {
      return "";
    }
    if (has_ended && !has_begun) {
      return "the mapper, process " + std::to_string(before.mapper.pid) +
             ", has ended before it began the upgrade; see its log, and ask again";
    }
  }
  const std::string waited = "no outcome after " + std::to_string(timeout_s) + " s";
  if (!IsRunning(last.mapper)) {
    return waited + ": the mapper does not run any more; see its log";
  }
  if (last.upgrade.number > before.upgrade.number) {
    return waited + ": the upgrade still runs; see epmdctl status and the mapper's log";
  }
  return waited + ": the mapper has not begun; see its log";
}

}  // namespace

int Upgrade(CurrentRegistry& registry, const std::string& binary, int timeout_s, bool json) {
  Told before;
  std::string error;
  if (!Read(registry, before, error)) {
    PrintError(error);
    return kExitNoRegistry;
  }
  if (!IsRunning(before.mapper)) {
    PrintError(registry.path() + ": its mapper does not run; start it instead");
    return kExitNotRunning;
  }
  error = RequestBinary(registry.path(), binary);
  if (!error.empty()) return Fail(error);
  Told last;
  error = TellMapper(registry.path(), before.mapper, SIGHUP);
  if (error.empty()) error = AwaitOutcome(registry, before, timeout_s, last);
  if (error.empty()) return TellOutcome(last.upgrade, json);
  // A request that no mapper has taken must not surprise the next upgrade.
  if (!binary.empty()) RemoveUpgradeRequest(registry.path());
  return Fail(error);
}

}  // namespace evermap
