#include "tools/upgrade_command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

// glibc 2.36's header does not say that its functions are C's.
extern "C" {
#include <sys/pidfd.h>
}

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "registry/reader.h"
#include "registry/segment.h"
#include "registry/status.h"

namespace evermap {
namespace {

using std::chrono::steady_clock;

constexpr int kExitFailed = 1;
constexpr int kExitNoRegistry = 2;
constexpr std::chrono::milliseconds kPollPause{2};
// Longer than an upgrade may take by itself (kPrepareTimeout and those after it in
// daemon/upgrade.h): the mapper is to say what went wrong, not this command.
constexpr std::chrono::seconds kOutcomeTimeout{60};
// How long a mapper may be gone before another one has said that it is there.
constexpr std::chrono::seconds kAbsenceMax{2};

int Fail(const std::string& reason) {
  std::fprintf(stderr, "epmdctl: %s\n", reason.c_str());
  return kExitFailed;
}

// Where the mapper looks for what it is to upgrade to. It believes only a file of its own user or
// of root's that nobody else may write to. Returns an errno.
int RequestProgram(const std::string& registry_path, const std::string& program) {
  const std::string path = registry_path + ".upgrade";
  const std::string unfinished = path + "." + std::to_string(getpid());
  unlink(unfinished.c_str());
  const OwnedFd fd(
      open(unfinished.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
  // The umask must not decide whether the mapper can read it.
  if (!fd.valid() || fchmod(fd.get(), 0644) != 0) return errno;
  errno = EIO;  // when less is written than there is
  const bool is_written =
      write(fd.get(), program.data(), program.size()) == static_cast<ssize_t>(program.size()) &&
      rename(unfinished.c_str(), path.c_str()) == 0;
  const int error = is_written ? 0 : errno;
  if (error != 0) unlink(unfinished.c_str());
  return error;
}

// Follows the registry when another file takes its place.
class Status {
 public:
  explicit Status(std::string path) : path_(std::move(path)) { Open(); }
  bool is_open() const { return reader_ != nullptr; }
  const std::string& error() const { return error_; }

  // REQUIRES: is_open().
  const RegistryView& view() {
    if (reader_->view().superseded()) Open();
    return reader_->view();
  }

 private:
  void Open() {
    std::unique_ptr<Reader> opened = Reader::Open(path_, error_);
    // A new file that is not there yet will be.
    if (opened != nullptr) reader_ = std::move(opened);
  }

  const std::string path_;
  std::string error_;
  std::unique_ptr<Reader> reader_;
};

// Waits until the upgrade after number `before` has an outcome.
int AwaitOutcome(Status& status, uint64_t before) {
  const steady_clock::time_point start = steady_clock::now();
  steady_clock::time_point last_seen = start;
  while (true) {
    const steady_clock::time_point now = steady_clock::now();
    const UpgradeStatus upgrade = status.view().upgrade_status();
    if (upgrade.number != before) {
      if (upgrade.outcome == UpgradeStatus::Outcome::kSucceeded) {
        std::printf("upgraded: %s\n", upgrade.text.c_str());
        return 0;
      }
      if (upgrade.outcome == UpgradeStatus::Outcome::kFailed) {
        return Fail("the upgrade failed, the mapper serves on: " + upgrade.text);
      }
    }
    if (IsRunning(status.view().mapper_status())) last_seen = now;
    if (now > last_seen + kAbsenceMax) return Fail("the mapper ended before it was upgraded");
    if (now > start + kOutcomeTimeout) {
      return Fail("the mapper has not said within 60 s how the upgrade went; see its log");
    }
    std::this_thread::sleep_for(kPollPause);
  }
}

}  // namespace

int UpgradeMapper(const std::string& registry_path, const std::string& program) {
  Status status(registry_path);
  if (!status.is_open()) {
    std::fprintf(stderr, "epmdctl: %s\n", status.error().c_str());
    return kExitNoRegistry;
  }
  const MapperStatus mapper = status.view().mapper_status();
  const UpgradeStatus last = status.view().upgrade_status();
  // Its id could be another process's by now, but not once there is a descriptor for it and it is
  // still seen to be the mapper.
  const OwnedFd process(pidfd_open(static_cast<pid_t>(mapper.pid), 0));
  if (!process.valid() || !IsRunning(mapper)) return Fail("the mapper is not running");
  if (last.outcome == UpgradeStatus::Outcome::kRunning && last.unix_ns > mapper.started_unix_ns) {
    return Fail("an upgrade is under way already");
  }
  if (!program.empty()) {
    // It is named from where the mapper stands.
    const std::unique_ptr<char, decltype(&free)> path(realpath(program.c_str(), nullptr), free);
    if (path == nullptr) return Fail(program + ": " + ErrorText(errno));
    const int error = RequestProgram(registry_path, path.get());
    if (error != 0) {
      return Fail(registry_path + ".upgrade: cannot be written: " + ErrorText(error) +
                  "; run this as root or as the mapper's user");
    }
  }
  if (pidfd_send_signal(process.get(), SIGHUP, nullptr, 0) != 0) {
    return Fail("the mapper cannot be told: " + ErrorText(errno) +
                "; run this as root or as the mapper's user");
  }
  return AwaitOutcome(status, last.number);
}

}  // namespace evermap
