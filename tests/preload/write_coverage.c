// Linked into all programs of the coverage build (tools/project/coverage), whose counters gcc would write
// only at a regular end: has them written also before _exit, abort, and a signal that a process
// sends itself.
//
// Whoever kills a process from outside asks it with the signal WRITE_COVERAGE_SIGNAL to write its
// counters and kill itself: the coverage build's Python does (tools/project/coverage). A program that puts
// all signals right (daemon/process/inherited_state.h) leaves that one.
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void __gcov_dump(void);
void __real__exit(int code) __attribute__((noreturn));
void __real_abort(void) __attribute__((noreturn));
int __real_raise(int number);
int __real_sigaction(int number, const struct sigaction* action, struct sigaction* before);

void __wrap__exit(int code) {
  __gcov_dump();
  __real__exit(code);
}

void __wrap_abort(void) {
  __gcov_dump();
  __real_abort();
}

int __wrap_raise(int number) {
  if (number != SIGSTOP) __gcov_dump();
  return __real_raise(number);
}

int __wrap_sigaction(int number, const struct sigaction* action, struct sigaction* before) {
  return number == WRITE_COVERAGE_SIGNAL ? 0 : __real_sigaction(number, action, before);
}

static void WriteAndDie(int number) {
  (void)number;
  __gcov_dump();
  kill(getpid(), SIGKILL);
}

__attribute__((constructor)) static void ListenForEnd(void) {
  struct sigaction action = {.sa_handler = WriteAndDie};
  sigfillset(&action.sa_mask);
  __real_sigaction(WRITE_COVERAGE_SIGNAL, &action, NULL);
}
