// Startup: how a mapper comes to serve, in stages. The mapper (mapper.h) calls one after the other,
// and the first error ends the start:
//
//   Prepare()      everything that can fail while an earlier mapper still serves undisturbed:
//                  options, listening sockets, store, registry, event loops
//   TakeOver()     a successor gets the connections, and the registry at rest
//   MakeWorkers()  custody and workers, whose threads wait: a mapper that says it serves has them
//   Commit()       a successor says that it serves from now on: the predecessor never serves again
//   Announce()     the store is told which process is the mapper
//
// Each stage fills its part of Parts. Fail() undoes what a failed start has done.
//
// Thread safety: belongs to the main thread, before there are others.
#ifndef EVERMAP_DAEMON_MAPPER_STARTUP_H_
#define EVERMAP_DAEMON_MAPPER_STARTUP_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/command/options.h"
#include "daemon/custody/custody.h"
#include "daemon/custody/keeper_store.h"
#include "daemon/custody/store.h"
#include "daemon/host/address.h"
#include "daemon/host/thread.h"
#include "daemon/loop/loop.h"
#include "daemon/mapper/configuration.h"
#include "daemon/process/inheritance.h"
#include "daemon/process/successor.h"
#include "daemon/serve/worker.h"
#include "registry/activity.h"
#include "registry/base/owned_fd.h"
#include "registry/registry.h"

namespace evermap {

// What a mapper consists of, in the order in which it is made: a member may use those above it.
struct Parts {
  // This mapper's side of an upgrade, while its predecessor is there; nothing when it took over
  // from nobody.
  std::optional<Successor> successor;
  // Through which the connections of an earlier mapper come, if they are not here already.
  OwnedFd connections_link;
  uint32_t descriptors_max = 0;  // RLIMIT_NOFILE
  SourceLimit sources;
  std::vector<OwnedFd> sockets;          // that listen
  std::vector<int> listeners;            // their numbers
  bool listeners_are_inherited = false;  // an earlier mapper, or systemd, has made them
  std::unique_ptr<Store> store;
  KeeperStore* keeper = nullptr;  // the store, when this mapper replaces it if it dies
  std::unique_ptr<Claim> claim;
  Registry* registry = nullptr;              // the claim's
  OwnedFd signal_fd;                         // a signalfd of SIGTERM, SIGINT and SIGHUP
  OwnedFd stop_fd;                           // woken when this mapper is to end
  OwnedFd custody_fd;                        // woken when there are new connections in custody
  std::unique_ptr<Activity> activity;        // null where it cannot be told
  OwnedFd disputes_fd;                       // woken when a name is in dispute
  std::vector<std::unique_ptr<Loop>> loops;  // until each is a worker's
  std::string loop_reason;                   // their kind, and why that one
  std::optional<Custody> custody;
  std::optional<Shared> shared;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<Thread> threads;  // one for each worker, until JoinWorkers()
};

// Ends the workers that are there. REQUIRES: the phase says so.
void JoinWorkers(Parts& parts);
// Those of the workers' loops.
std::vector<int> ReadySets(const Parts& parts);

class Startup {
 public:
  // `configuration` and `parts` outlive this.
  Startup(Configuration& configuration, Inheritance inherited, Parts& parts);

  // Fills everything down to `loops`, but for the registry when a successor would migrate it: then
  // it is only checked. kAlreadyExists: another process listens on the port. Each message is one
  // line that says what is wrong and the way out.
  absl::Status Prepare();
  // The connections that this mapper is to watch, but for those that come behind. Takes as long as a predecessor needs to hand them
  // over; migrates the registry when it is of an older layout.
  absl::StatusOr<std::vector<OwnedFd>> TakeOver();
  // Fills all from custody on. `handed_over`: how many connections TakeOver() returned.
  // `request_stop`: see Shared. Of the workers there are as many as threads are to be had.
  // kFailedPrecondition: the limit of descriptors leaves none for nodes. kUnavailable: there is no
  // thread.
  absl::Status MakeWorkers(size_t handed_over, void (*request_stop)(std::string_view reason));
  // Says to the predecessor, if there is one, that this mapper serves from now on. If there is
  // none, puts listening sockets that are new into the store, to be sent.
  absl::Status Commit();
  // Says to the store that this process is the mapper, and has it hold the claim to the registry.
  // kAborted: it starts another one.
  absl::Status Announce();
  // Writes into the registry which mapper serves, and how the upgrade went, if there was one.
  void Record();

  // After an error of one of these: says it, to the predecessor as well, and gives the registry
  // back. Returns this process's exit code: 0 when there is a mapper already.
  int Fail(const absl::Status& error);

 private:
  void SlowDownSystemd() const;
  // Whether a mapper answers on the port: then this one is not needed, whatever is wrong with it.
  bool IsServedAlready() const;
  absl::Status TakeListeners();
  std::string RegistryPath() const;
  // What the claim to the registry at `path` asks for.
  Claim::Options ClaimOptions(std::string path) const;
  absl::StatusOr<bool> MustBeAtRest() const;
  absl::Status ReceiveFiles();
  absl::Status OpenRegistry();
  // Makes the claim at the usual path, or at the next that works.
  absl::StatusOr<std::unique_ptr<Claim>> ClaimUsual();
  absl::Status MakeWakeFds();
  absl::Status MakeLoops();
  absl::Status StartThreads();

  Configuration& configuration_;
  const Options& options_;  // those of the configuration
  Inheritance inherited_;
  Parts& parts_;
  const bool was_started_by_keeper_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_STARTUP_H_
