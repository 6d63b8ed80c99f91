#include "daemon/host/thread.h"

#include <signal.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

void* Run(void* argument) {
  const std::unique_ptr<std::function<void()>> body(static_cast<std::function<void()>*>(argument));
  (*body)();
  return nullptr;
}

// All signals but those that an instruction of the thread itself causes.
sigset_t SentSignals() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
    sigdelset(&signals, signal);
  }
  return signals;
}

}  // namespace

absl::StatusOr<Thread> Thread::Start(const char* name, std::function<void()> body) {
  auto owned = std::make_unique<std::function<void()>>(std::move(body));
  const sigset_t blocked = SentSignals();
  sigset_t before;
  // A thread begins with the mask of the one that makes it. These calls cannot fail.
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  pthread_t thread;
  const int error = pthread_create(&thread, nullptr, Run, owned.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) {
    return absl::UnavailableError(
        absl::StrCat("no thread: ", ErrorText(error),
                     " (ulimit -u, TasksMax=, pids.max, or a filter of system calls)"));
  }
  static_cast<void>(owned.release());
  // It fails only for names that are too long.
  pthread_setname_np(thread, name);
  return Thread(thread);
}

void Thread::Join() {
  assert(is_there_);
  pthread_join(thread_, nullptr);
  is_there_ = false;
}

void Thread::Detach() {
  assert(is_there_);
  pthread_detach(thread_);
  is_there_ = false;
}

}  // namespace evermap
