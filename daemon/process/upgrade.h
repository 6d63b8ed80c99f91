// An upgrade: one mapper hands all it has over to another, which it started itself.
//
//   successor -> predecessor   EVERMAP=prepared    it has checked itself and could take over
//   predecessor -> successor   FDSTORE=1           nodes' connections, several messages; first
//   while
//                                                  still serving, then, with all workers paused,
//                                                  the rest
//                              EVERMAP=yours       the registry is at rest and is the successor's
//   successor -> predecessor   READY=1             the commit
//   successor -> store         MAINPID=, READY=1   whom to look after from now on; before, it ends
//                                                  its watcher (launch.h)
//   successor -> predecessor   EVERMAP=serving     connections are accepted again
//   predecessor -> successor   FDSTORE=1           nodes that registered with requests left over
//
// Before the commit the predecessor gives nothing up: it has duplicates of all, and serves on when
// the successor dies, hangs or says STATUS= and exits. After it the predecessor never serves again:
// it answers the requests it has accepted, and ends. Whether there was a commit is decided when the
// successor has ended or said so: one that is given up is ended first and then heard. A successor
// whose predecessor is gone before the commit ends, since the store starts another mapper then; for
// the same reason it accepts nothing before the store was told of it. (INV-10)
//
// Connections wait in the listening sockets' queues from the pause to EVERMAP=serving: some
// milliseconds (INV-8).
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_PROCESS_UPGRADE_H_
#define EVERMAP_DAEMON_PROCESS_UPGRADE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/custody/custody.h"
#include "daemon/custody/store.h"
#include "daemon/process/launch.h"
#include "registry/base/owned_fd.h"
#include "registry/registry.h"

namespace evermap {

// How long a new program may take until it is prepared.
inline constexpr absl::Duration kPrepareTimeout = absl::Seconds(20);
// How long it may then take to commit. Connections wait meanwhile.
inline constexpr absl::Duration kCommitTimeout = absl::Seconds(5);
// How long the workers may take to pause.
inline constexpr absl::Duration kPauseTimeout = absl::Seconds(2);

// The predecessor's side.
class Upgrade {
 public:
  // What the mapper does for an upgrade.
  class Host {
   public:
    // Stops the workers; false when they did not within kPauseTimeout.
    virtual bool PauseWorkers() = 0;
    virtual void ResumeWorkers() = 0;

   protected:
    ~Host() = default;
  };

  // `arguments` are those that this process was started with, `listeners` its listening sockets.
  Upgrade(Host& host, Registry& registry, const Custody& custody, const Store& store,
          absl::Span<const int> listeners, const std::vector<std::string>& arguments);

  // Starts the new program: the one named in the file REGISTRY.upgrade, which is removed, or else
  // the file that this process was started from. Failures are logged and recorded.
  void Begin();
  bool is_under_way() const { return successor_.watcher > 0; }
  // To be polled for reading while it is under way.
  int link() const { return link_.get(); }
  int64_t deadline_ms() const { return deadline_ms_; }

  // REQUIRES: under way, and link() is readable or deadline_ms() is over. True when the successor
  // has committed: this mapper is to leave.
  bool Continue();
  // Ends the successor.
  void Cancel(const std::string& reason);

  // After the commit. Passes a node's connection on.
  void Pass(int fd) const;
  // Waits until the successor serves; false when it does not, so that the store has to start
  // another.
  bool AwaitServing();

 private:
  absl::Status HandOver();
  absl::Status SendConnections();
  void Fail(const std::string& reason);
  // Waits for the successor's end, kills it after `patience`, and returns how it ended.
  std::string End(absl::Duration patience);
  // Whether the successor, which has ended, had said so, and nobody had listened yet.
  bool HasCommitted();

  Host& host_;
  Registry& registry_;
  const Custody& custody_;
  const Store& store_;
  const absl::Span<const int> listeners_;
  const std::vector<std::string>& arguments_;

  std::string program_;
  Watched successor_;
  OwnedFd link_;
  int64_t deadline_ms_ = 0;
  bool is_prepared_ = false;            // the successor has said so; it is without its watcher then
  std::string reason_;                  // what the successor said
  absl::flat_hash_set<uint64_t> sent_;  // ids of registrations
  Registration found_ = {};
};

// The successor's side.
class Succession {
 public:
  explicit Succession(OwnedFd link) : link_(std::move(link)) {}

  int link() const { return link_.get(); }
  // Says that all is prepared, and waits until everything is this mapper's.
  absl::StatusOr<std::vector<OwnedFd>> TakeOver();
  absl::Status Commit();
  void SayServing();
  // Why this mapper gives up.
  void SayFailure(std::string_view reason);
  // After SayServing(): nodes' connections that came late; false when the predecessor is gone.
  bool TakeLate(absl::FunctionRef<void(OwnedFd)> take);

 private:
  absl::Status Say(std::string_view text);

  OwnedFd link_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_UPGRADE_H_
