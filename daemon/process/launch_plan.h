// What a new process needs between fork(2) and execve(2), made before: in a child of a process with
// several threads only what signal-safety(7) lists is allowed, so the child may neither allocate
// nor take a lock.
//
//   LaunchPlan plan(launch);
//   if (fork() == 0) plan.ExecuteOrExit();
//
// Invariants:
//   1. After construction no member changes its size; the texts of environment_ and arguments_ stay
//      where envp_ and argv_ point.
//   2. The last two variables of environment_ are the watcher's and the process's own id, with room
//      for any number, since both are known only in the child.
//   3. sources_[i] is the descriptor that is to get number kFirst + i. place_[n] is the i with
//      sources_[i] == n, or -1, for each n that some descriptor is to get.
#ifndef EVERMAP_DAEMON_PROCESS_LAUNCH_PLAN_H_
#define EVERMAP_DAEMON_PROCESS_LAUNCH_PLAN_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "daemon/custody/words.h"
#include "daemon/process/launch.h"

namespace evermap {

class LaunchPlan {
 public:
  // The number of the first descriptor that is passed.
  static constexpr int kFirst = variables::kPassedFdsStart;

  explicit LaunchPlan(const Launch& launch);
  LaunchPlan(const LaunchPlan&) = delete;
  LaunchPlan& operator=(const LaunchPlan&) = delete;

  // One more than the highest number of a descriptor that is passed; at least kFirst.
  unsigned sources_end() const;

  // The methods below use only what signal-safety(7) allows.

  // The process that watches the one that is executed (watcher.h); 0, as at first: none.
  void SetWatcher(pid_t pid);
  // Puts the descriptors on their numbers, closes all others above them and executes the program.
  // Returns an errno when that failed; the descriptors are in disorder then.
  int Execute(bool unblocks_signals);
  // The rest of a child's life: Execute(), or else word on the first link, and the end.
  [[noreturn]] void ExecuteOrExit();

 private:
  void Place(const Launch& launch);
  void FillEnvironment(const Launch& launch);
  // Puts sources_[i] on its number; returns an errno.
  int PutOnItsNumber(size_t i);
  void SayNotExecuted(int error) const;

  std::string program_;
  std::string otherwise_;
  std::vector<int> sources_;
  std::vector<int> place_;
  int first_link_ = -1;  // its place in sources_; -1: none
  std::vector<std::string> arguments_;
  std::vector<std::string> environment_;
  std::vector<char*> argv_;
  std::vector<char*> envp_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_PROCESS_LAUNCH_PLAN_H_
