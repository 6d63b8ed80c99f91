#include "daemon/command/daemonize.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "daemon/host/log.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Logs what failed, with errno, and returns the exit code for that.
int Fail(const char* what) {
  Log(Severity::kError, "-daemon: %s: %s", what, ErrorText(errno));
  return 1;
}

// The exit code that the new process reports; 1 when it has died before it reported any.
int AwaitReport(int report_fd) {
  uint8_t code = 1;
  ssize_t got;
  do {
    got = read(report_fd, &code, sizeof(code));
  } while (got < 0 && errno == EINTR);
  return got == sizeof(code) ? code : 1;
}

// Tells the process that waits in AwaitReport(); 0 to 255, as exit(3) takes of `code`.
void Report(int report_fd, int code) {
  const uint8_t byte = static_cast<uint8_t>(code);
  ssize_t written;
  do {
    written = write(report_fd, &byte, sizeof(byte));
  } while (written < 0 && errno == EINTR);
  // A failure means that the reader has died, so no process waits for the code.
}

}  // namespace

OwnedFd OpenNullDevice() {
  OwnedFd fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) fd = OwnedFd(open("/", O_PATH | O_CLOEXEC));
  if (!fd.valid()) Fail("no /dev/null");
  return fd;
}

void LetGoOfStandardStreams(OwnedFd null_device) {
  if (!null_device.valid()) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null_device.get(), fd);
  if (null_device.get() <= STDERR_FILENO) null_device.Release();
}

int RunDetached(absl::FunctionRef<int(absl::FunctionRef<void()> ready)> serve) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Fail("no pipe");
  const pid_t first = fork();
  if (first < 0) return Fail("cannot fork");
  if (first > 0) {
    close(ends[1]);
    const int code = AwaitReport(ends[0]);
    close(ends[0]);
    waitpid(first, nullptr, 0);
    return code;
  }
  close(ends[0]);
  // Only the leader of a session can get a terminal. The process that serves is a child of the
  // leader, so that it never gets one again.
  if (setsid() < 0) _exit(Fail("no session"));
  const pid_t second = fork();
  if (second < 0) _exit(Fail("cannot fork"));
  if (second > 0) _exit(0);
  if (chdir("/") != 0) _exit(Fail("cannot go to /"));
  bool reported = false;
  const int code = serve([&] {
    Report(ends[1], 0);
    close(ends[1]);
    reported = true;
  });
  if (!reported) Report(ends[1], code);
  exit(code);
}

}  // namespace evermap
