// The inbox of a worker: connections of nodes that another thread hands over to it.
//
// Thread safety: Put() may be called from any thread; the rest belongs to the worker.
#ifndef EVERMAP_DAEMON_SERVE_INBOX_H_
#define EVERMAP_DAEMON_SERVE_INBOX_H_

#include <atomic>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "daemon/serve/mutex.h"
#include "registry/base/owned_fd.h"
#include "registry/registration.h"

namespace evermap {

class Inbox {
 public:
  // The connection that keeps `registration` alive, and is in custody already.
  struct Node {
    OwnedFd connection;
    RegistrationRef registration;
  };

  // Returns whether the inbox was empty, so that the worker is to be woken.
  bool Put(Node node) {
    const MutexLock lock(mutex_);
    nodes_.push_back(std::move(node));
    return !has_any_.exchange(true, std::memory_order_acq_rel);
  }

  // Costs no lock, so that a worker can ask in every turn of its loop.
  bool has_any() const { return has_any_.load(std::memory_order_acquire); }

  // Empties the inbox.
  std::vector<Node> TakeAll() {
    const MutexLock lock(mutex_);
    has_any_.store(false, std::memory_order_release);
    return std::exchange(nodes_, {});
  }

 private:
  Mutex mutex_;
  std::vector<Node> nodes_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> has_any_{false};  // is changed under mutex_, read without
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_INBOX_H_
