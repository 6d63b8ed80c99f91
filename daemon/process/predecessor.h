// An upgrade, and the predecessor's side of it: a mapper that starts its successor and hands all it
// has over to it. successor.h is the other side, custody/words.h has the words.
//
//   predecessor -> successor   kFiles      the files of the claim to the registry
//   successor -> predecessor   kTakesFiles its program knows of such files
//   successor -> predecessor   kPrepared   it has checked itself and could take over
//   predecessor -> successor   kStore      nodes' connections, in several messages: first while the
//                                          workers still serve, then, with all of them paused, the
//                                          rest
//                              kYours      the registry is at rest and is the successor's
//   successor -> predecessor   kReady      the commit
//   successor -> store         kMainPid, kReady   the mapper to look after from now on; before it
//                                          says so it ends its watcher (watcher.h)
//   successor -> predecessor   kServing    connections are accepted again
//   predecessor -> successor   kStore      nodes that registered with requests which were accepted
//                                          before the pause
//
// A program of release 0.1.0 takes no files, and gives up when it finds the registry in a layout that it
// does not know. It is then started once more, with a copy in its layout at the path
// (registry/migrate_down.h).
//
// What holds (tests/models/upgrade.pml checks it):
//
//   1. Before the commit the predecessor gives nothing up: it hands out duplicates, and serves on
//      when the successor dies, hangs, or says kFailure and exits.
//   2. After the commit the predecessor never serves again: it answers the requests that it has
//      accepted, and ends.
//   3. Whether there was a commit is decided only when the successor has said so or has ended. A
//      successor that is given up is therefore ended first, and then its last messages are read.
//      One that does not end when it is killed, as a process that waits for a disk does not, is
//      waited for no longer than kKillPatience: it can say nothing more then.
//   4. A successor whose predecessor is gone before the commit ends, since the store starts another
//      mapper then. For the same reason it accepts nothing before the store was told of it.
//      (INV-10)
//   5. From the pause to kServing, some milliseconds, connections wait in the queues of the
//      listening sockets, which stay open in at least one process (INV-8).
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_PROCESS_PREDECESSOR_H_
#define EVERMAP_DAEMON_PROCESS_PREDECESSOR_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "daemon/custody/custody.h"
#include "daemon/custody/notify.h"
#include "daemon/custody/store.h"
#include "daemon/process/launch.h"
#include "daemon/process/watcher.h"
#include "registry/base/owned_fd.h"
#include "registry/claim.h"
#include "registry/migrate_down.h"
#include "registry/registry.h"

namespace evermap {

// How long a successor may take until it is prepared.
inline constexpr absl::Duration kPrepareTimeout = absl::Seconds(20);
// How long it may then take to commit, while connections wait.
inline constexpr absl::Duration kCommitTimeout = absl::Seconds(5);
// How long a successor that was killed may take to end, while connections wait.
inline constexpr absl::Duration kKillPatience = absl::Seconds(1);
// How long the workers may take to pause.
inline constexpr absl::Duration kPauseTimeout = absl::Seconds(2);

class Predecessor {
 public:
  // What the mapper does for an upgrade.
  class Host {
   public:
    // Stops the workers; false when they did not stop within kPauseTimeout.
    virtual bool PauseWorkers() = 0;
    virtual void ResumeWorkers() = 0;

   protected:
    ~Host() = default;
  };

  // All arguments must live as long as this. `arguments` are those that this process was started
  // with, `listeners` are its listening sockets.
  Predecessor(Host& host, Claim& claim, const Custody& custody, Store& store,
              absl::Span<const int> listeners, const std::vector<std::string>& arguments);

  // Starts a successor: the program that epmdctl has asked for (registry/upgrade_request.h), or
  // else the file that this process was started from. A failure is logged and recorded.
  void Begin();
  // Whether there is a successor that has not committed.
  bool is_under_way() const { return successor_.watcher > 0; }
  // To be polled for reading while an upgrade is under way, until deadline_ms().
  int link() const { return link_.get(); }
  // By when the successor must be prepared, MonotonicCoarseMs().
  int64_t deadline_ms() const { return deadline_ms_; }

  // Goes on when link() is readable or the deadline has passed. May take as long as kCommitTimeout
  // and kPauseTimeout together. True when the successor has committed: this mapper is to leave.
  // REQUIRES: is_under_way().
  bool Continue();
  // Ends the successor, if there is one; the upgrade has failed for `reason`.
  void Cancel(const std::string& reason);

  // After the commit: passes on the connection of a node that has registered here since.
  void Pass(int fd) const;
  // Nothing more is passed on: the successor need not wait for the end of this process to know that.
  void EndPassing() { link_ = OwnedFd(); }
  // After the commit: waits until the successor serves. False when it does not come to that, so
  // that the store has to start another mapper.
  bool AwaitServing();

 private:
  absl::Status StartSuccessor();
  // After the end of a successor, for which `reason` was: starts it once more with a registry in its
  // layout, if its program is an older one; else the upgrade has failed.
  void StartOlderOrFail(const std::string& reason);
  // What the successor says until it is prepared. True when it is.
  bool IsPrepared(const Notification& message);
  void SendFiles() const;
  absl::Status HandOver();
  absl::Status SendConnections();
  absl::Status SendBatch(std::vector<OwnedFd>& batch);
  absl::Status AwaitCommit();
  // The hand-over went wrong. True when the successor has committed all the same.
  bool GiveUp(const absl::Status& status);
  void Fail(const std::string& reason);
  // Ends the successor: waits up to `patience` for its end, kills it then, and returns why it
  // ended. If it has not ended after kKillPatience, the link takes no messages any more.
  std::string End(absl::Duration patience);
  // Whether the successor has ended within `patience`.
  bool HasEnded(absl::Duration patience) const;
  // Whether the successor, which has ended, had committed with a message that was not read yet.
  bool HasCommitted();

  Host& host_;
  Claim& claim_;
  Registry& registry_;
  const Custody& custody_;
  Store& store_;
  const absl::Span<const int> listeners_;
  const std::vector<std::string>& arguments_;
  const std::string own_program_;

  std::string program_;  // of the successor
  Watched successor_;
  OwnedFd link_;
  int64_t deadline_ms_ = 0;
  // The successor has said that it is prepared, and has ended its watcher before that.
  bool is_prepared_ = false;
  // Its program knows of the files of a claim. One of 0.1.0 does not, and neither must its store.
  bool takes_files_ = false;
  // It has said by itself why it gives up, so it is a mapper.
  bool has_given_up_ = false;
  // Is at the path for a successor of 0.1.0, until it commits or the upgrade has failed.
  std::unique_ptr<DownCopy> down_copy_;
  std::string reason_;                  // why the successor gives up, as it said
  absl::flat_hash_set<uint64_t> sent_;  // ids of the registrations whose connections it has
  Registration found_ = {};             // scratch, as a registration has 2 KiB
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_PREDECESSOR_H_
