// The notifier: tells the readers of the registry that something has changed in it, so that nobody has
// to poll.
//
// Telling is touching the registry's file (Registry::TellReaders()), which costs about a microsecond, and
// a wake-up for each reader that watches it (registry/watch.h). So that this is no request's affair, a
// thread that serves nobody does it: at once after a change that follows a quiet time, and at most once
// in kTellMs. While nothing changes that thread sleeps. A worker has work with it only when it sleeps: it
// wakes it, after its replies.
//
// Invariants:
//   1. After each change, a reader that looks at the registry when it is told sees that change. A change
//      is followed by TellIfChanged(), in the thread that made it or, when that dies, by the first
//      notice of the next mapper.
//   2. A notice never waits for a change, nor a change for a notice.
//
// Thread safety: Tell() and TellIfChanged() may be called from any thread, also before Start(); all else
// belongs to the main thread.
#ifndef EVERMAP_DAEMON_SERVE_NOTIFIER_H_
#define EVERMAP_DAEMON_SERVE_NOTIFIER_H_

#include <atomic>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "daemon/host/thread.h"
#include "registry/base/owned_fd.h"
#include "registry/reader.h"
#include "registry/registry.h"

namespace evermap {

// The least time between two notices.
inline constexpr int64_t kTellMs = 1;

class Notifier {
 public:
  // `registry` outlives this. Nobody is told before Start().
  explicit Notifier(Registry& registry) : registry_(registry) {}
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;
  // Tells what has not been told yet, and ends the thread.
  ~Notifier();

  // Begins with a notice: an earlier mapper may have died before its last one.
  // kUnavailable: there is no thread or no descriptor for it; readers have to poll then, and the
  // registry says so.
  absl::Status Start();

  // A notice follows, after kTellMs at the latest.
  void Tell();
  // The same if the set of registrations, or the state of one, is not what it was at the last notice. Two
  // loads when it is.
  void TellIfChanged() {
    // Who finds its change counted here knows that the notice is yet to come, or came after the change.
    const uint64_t told = told_generation_.load(std::memory_order_acquire);
    if (registry_.view().generation() != told) Tell();
  }

 private:
  enum class State : uint8_t {
    kAwake,   // nothing is to be told, but it will be looked for before the thread sleeps
    kTold,    // a notice is to follow
    kAsleep,  // the thread waits for wake_fd_, or is about to
  };

  void Run();
  void TellReaders();
  // Waits until the state is another.
  void Sleep();

  Registry& registry_;
  std::atomic<State> state_{State::kAwake};
  std::atomic<uint64_t> told_generation_{0};
  std::atomic<bool> stops_{false};
  bool has_failed_ = false;  // and that has been said
  OwnedFd wake_fd_;
  std::optional<Thread> thread_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_NOTIFIER_H_
