// HandOver: a keeper gives a mapper that it has just started the connections that it holds, while
// that mapper serves already (mapper/adoption.h takes them). They go through a link of their own:
//
//   keeper -> mapper   kStore   connections, up to kNotifyFdsMax in a message
//                      kYours   these were all; the ready sets of the mapper that has died, to be closed
//
// The keeper keeps what it hands over, so that a mapper that dies in the middle has lost nothing. It
// sends a bounded number in a turn.
//
// Thread safety: belongs to the keeper's thread.
#ifndef EVERMAP_DAEMON_PROCESS_HAND_OVER_H_
#define EVERMAP_DAEMON_PROCESS_HAND_OVER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "registry/base/owned_fd.h"

namespace evermap {

class HandOver {
 public:
  // How many messages are sent in a turn: for 0.2 ms.
  static constexpr size_t kMessagesPerTurn = 8;
  static constexpr int64_t kFullPauseMs = 10;

  // Begins to send these connections through `link`, in place of what was under way, and after them the
  // sets, at most kNotifyFdsMax. The connections stay the caller's.
  void Begin(OwnedFd link, std::vector<int> connections, std::vector<OwnedFd> ready_sets);
  // Nothing more is sent.
  void End();
  bool is_under_way() const { return link_.valid(); }
  // When Continue() is to be called, MonotonicCoarseMs(); -1: never. A link that took no more at the
  // last call may have room when the mapper has taken some.
  int64_t wake_ms(int64_t now_ms) const {
    if (!is_under_way()) return -1;
    return is_full_ ? now_ms + kFullPauseMs : now_ms;
  }
  // Sends as much as goes in one turn, but for connections of which `is_held` is false by now.
  void Continue(absl::FunctionRef<bool(int connection)> is_held);

 private:
  OwnedFd link_;
  std::vector<int> connections_;  // that are to be sent yet
  std::vector<OwnedFd> ready_sets_;
  bool is_full_ = false;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_HAND_OVER_H_
