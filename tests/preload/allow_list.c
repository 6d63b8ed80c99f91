// Puts programs named epmd* under the unit's system-call allow list, when they start: a library to
// be preloaded into all that a test runs. tests/trust/allow_list.py writes the filter.
//
// ALLOW_LIST: a file with the filter, as seccomp(2) takes it. Who runs under it leaves a byte in
// ALLOW_LIST.used. What a program starts inherits the filter, as in the unit.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// BPF_MAXINSNS, which the kernel does not exceed.
static struct sock_filter instructions[4096];

static void Fail(const char* what) {
  fprintf(stderr, "allow_list: %s: %s\n", what, strerror(errno));
  _exit(70);
}

// Not open(), which tests/preload/inject_faults.c lets fail in what is tested.
static int Open(const char* path, int flags) {
  return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC);
}

__attribute__((constructor)) static void Install(void) {
  const char* path = getenv("ALLOW_LIST");
  const char* name = program_invocation_short_name;
  // The load generator is no part of the unit.
  if (path == NULL || strncmp(name, "epmd", 4) != 0 || strcmp(name, "epmd-bench") == 0) return;
  const int fd = Open(path, O_RDONLY);
  const ssize_t size = fd < 0 ? -1 : read(fd, instructions, sizeof(instructions));
  if (size <= 0) Fail(path);
  close(fd);
  char used[PATH_MAX];
  snprintf(used, sizeof(used), "%s.used", path);
  const int used_fd = Open(used, O_WRONLY | O_APPEND);
  if (used_fd < 0 || write(used_fd, "+", 1) != 1) Fail(used);
  close(used_fd);
  const struct sock_fprog program = {(unsigned short)((size_t)size / sizeof(instructions[0])),
                                     instructions};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0) {
    Fail("prctl");
  }
}
