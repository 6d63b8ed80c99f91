// Relief: a keeper takes the place of another, with all that is held and the link to the mapper,
// which does not notice.
//
// A supervisor (s6, runit, supervisord, a loop of a shell) knows one process: the keeper in the
// foreground. When that is killed the mapper lives on, and starts a keeper of its own, which no
// supervisor knows of: a *stray* one. The same happens to a keeper whose supervisor dies. The next
// keeper that a supervisor starts would find the port taken. It relieves the stray one instead.
//
//   newcomer -> keeper   kRelieve    what have you got?
//   keeper -> newcomer   kAttended   nothing for you: somebody looks after me
//                        kLater      nothing now: no mapper serves at the moment
//                        kStore      sockets (with kStoreName) or files, as many as go into a message;
//                                    each is answered by another kRelieve
//                        kMainPid    the mapper, and its link: that was all
//   newcomer -> keeper   kRelieved   the keeper ends; until then it has given nothing up
//
// They meet at an abstract address that has the user and the port in it, so in one network
// namespace, as mappers on one port do. Each asks the kernel for the other's user, since anybody can
// listen at such an address. Process ids are said, so the two must see the same ones: the keeper's
// own, which it says with the mapper's, must be what the kernel says of it. Two containers that share
// a network (a pod) do not relieve each other.
//
// Thread safety: none; a keeper has one thread.
#ifndef EVERMAP_DAEMON_PROCESS_KEEPER_RELIEF_H_
#define EVERMAP_DAEMON_PROCESS_KEEPER_RELIEF_H_

#include <sys/types.h>
#include <unistd.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "daemon/process/inheritance.h"
#include "registry/base/owned_fd.h"

namespace evermap {

// How long a newcomer waits for a keeper that is still to come: a mapper that has lost its keeper
// takes up to a second to start another.
inline constexpr absl::Duration kReliefPatience = absl::Seconds(5);
// Between two attempts to listen for newcomers: well within their patience.
inline constexpr int64_t kListenRetryMs = 500;

// What a keeper has. The descriptors are not owned.
struct Kept {
  std::vector<int> sockets;
  std::vector<int> files;
  std::vector<int> ready_sets;  // at most kReadySetsMax
  int link = -1;
  pid_t mapper_pid = 0;
};

// Where a keeper can be relieved.
class ReliefPost {
 public:
  // `is_stray`: nobody has ever attended this keeper. `is_daemon`: it has left its parent on purpose,
  // and nobody has to attend it.
  ReliefPost(uint16_t port, bool is_stray, bool is_daemon)
      : port_(port), is_stray_(is_stray), is_daemon_(is_daemon) {}

  // Begins to listen for newcomers of this user and the port, if it does not yet, and has epoll
  // report them. When somebody else listens there, which may be a keeper that is ending, it is tried
  // again.
  void Open(int epoll_fd);
  // When TryAgain() is to be called, MonotonicCoarseMs(); -1: never.
  int64_t wake_ms() const { return retry_ms_; }
  void TryAgain(int64_t now_ms);
  // What epoll reports; -1: not open.
  int fd() const { return listening_.get(); }
  // Whether somebody looks after this keeper. A supervisor that has died has left it to another
  // parent.
  bool IsAttended() const { return !is_stray_ && (is_daemon_ || getppid() == parent_pid_); }
  // Takes one newcomer, and gives it `kept` when this keeper is not attended, and `serves`: its mapper
  // serves. True when this keeper is relieved: it must not read from the link any more, and end. May
  // take a second for each message, while the keeper does nothing else.
  bool TakeNewcomer(bool serves, const Kept& kept);

 private:
  bool HandOver(int newcomer, const Kept& kept);

  const uint16_t port_;
  const bool is_stray_;
  const bool is_daemon_;
  const pid_t parent_pid_ = getppid();  // as this process began
  int epoll_fd_ = -1;                   // not owned
  OwnedFd listening_;
  int64_t retry_ms_ = -1;
};

// Relieves the keeper of a mapper of this user on `port`. Nothing when there is none, or it is
// attended. Where no keeper can be reached, or it has no mapper now, waits for one up to
// kReliefPatience as long as `is_mapper_there` says that it is to be expected. To be called before
// other threads start.
std::optional<Inheritance> RelieveKeeper(uint16_t port, absl::FunctionRef<bool()> is_mapper_there);

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_KEEPER_RELIEF_H_
