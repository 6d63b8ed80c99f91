// The successor's side of an upgrade: a mapper that takes all over from the mapper that has started
// it. predecessor.h describes the conversation, and what must hold in it.
//
//   Successor successor(link);
//   absl::StatusOr<std::vector<OwnedFd>> connections = successor.ReceiveConnections();
//   ... the registry is this mapper's now: restore the registrations ...
//   successor.Commit();      // the predecessor will never serve again
//   ... tell the store, accept connections ...
//   successor.SayServing();
//   ... whenever link() is readable, until it is false: successor.TakeLate(take);
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_PROCESS_SUCCESSOR_H_
#define EVERMAP_DAEMON_PROCESS_SUCCESSOR_H_

#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class Successor {
 public:
  // `link` leads to the predecessor.
  explicit Successor(OwnedFd link) : link_(std::move(link)) {}

  // Whether the predecessor has its end of the link.
  bool PredecessorLives() const;
  // To be polled for reading after SayServing().
  int link() const { return link_.get(); }

  // The files of the predecessor's claim to the registry, which are its first message.
  absl::StatusOr<std::vector<OwnedFd>> ReceiveFiles();
  // Says that this process could take over, and waits until everything is its own: returns the
  // nodes' connections. The registry is at rest then and belongs to this process. An error: the
  // predecessor serves on, or is gone, and this process is to end.
  absl::StatusOr<std::vector<OwnedFd>> ReceiveConnections();
  // From success on the predecessor never serves again. An error: it did not hear that, and this
  // process is to end.
  absl::Status Commit();
  // Connections are accepted again. The predecessor ends also when it does not hear that.
  void SayServing();
  // Says, instead of Commit(), why this process gives up. `reason` is one line; a long one is cut.
  void SayFailure(std::string_view reason);
  // After SayServing(): `take` gets each connection of a node that has registered with a request
  // that the predecessor had still accepted. False when the predecessor is gone.
  bool TakeLate(absl::FunctionRef<void(OwnedFd)> take);

 private:
  absl::Status Say(std::string_view word);

  OwnedFd link_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_SUCCESSOR_H_
