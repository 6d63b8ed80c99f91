// The mapper: the main thread of the process that serves.
//
// It starts (startup.h), has the workers serve (serve/worker.h), and does meanwhile what is not
// anybody's request: it has connections stored (custody/deposits.h), finds out about nodes
// (names/inquiry.h), looks after what an earlier mapper left (adoption.h, leftovers.h), replaces
// a keeper that died, puts back a registry that has lost its path (publication.h), and hands over to
// a successor (process/predecessor.h). It has the control flow: these units return to it, and reach it
// only through the functions that it has given them (MakeUnits()).
//
// Thread safety: belongs to the main thread.
#ifndef EVERMAP_DAEMON_MAPPER_MAPPER_H_
#define EVERMAP_DAEMON_MAPPER_MAPPER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "daemon/command/options.h"
#include "daemon/custody/deposits.h"
#include "daemon/host/sock_diag.h"
#include "daemon/host/timers.h"
#include "daemon/mapper/adoption.h"
#include "daemon/mapper/configuration.h"
#include "daemon/mapper/idle_exit.h"
#include "daemon/mapper/leftovers.h"
#include "daemon/mapper/publication.h"
#include "daemon/mapper/reload.h"
#include "daemon/mapper/restoration.h"
#include "daemon/mapper/startup.h"
#include "daemon/names/inquiry.h"
#include "daemon/process/inheritance.h"
#include "daemon/process/predecessor.h"
#include "daemon/serve/lookout.h"
#include "daemon/serve/phase.h"
#include "registry/registration.h"

namespace evermap {

// How a mapper ends.
struct MapperEnd {
  // 0 after SIGTERM, SIGINT, a KILL request or the commit of an upgrade, and when another mapper has
  // the port; 1 after one line that says what is wrong.
  int exit_code = 0;
  // Not 0: the process is to end by this signal, which has told it to end. Where the store goes on
  // holding what it has, who looks after this process has to tell a stranger's signal, after which it
  // is started again, from a KILL request, after which it is not.
  int signal = 0;
};

// Serves until SIGTERM, SIGINT, a KILL request or the commit of an upgrade (SIGHUP). `arguments`
// are those of this process, with which a successor or a keeper is started. Calls `on_ready`
// once, when connections are accepted. REQUIRES: no other threads. One call per process.
MapperEnd RunMapper(const Options& options, const std::vector<std::string>& arguments,
                    Inheritance inherited, absl::FunctionRef<void()> on_ready);

class Mapper final : private Predecessor::Host {
 public:
  // `arguments` outlive this.
  Mapper(Options options, const std::vector<std::string>& arguments, Inheritance inherited);
  ~Mapper() = default;
  Mapper(const Mapper&) = delete;
  Mapper& operator=(const Mapper&) = delete;

  // RunMapper().
  MapperEnd Run(absl::FunctionRef<void()> on_ready);

 private:
  // Each is followed by the next, but that a mapper either hands over or leaves.
  enum class Stage : uint8_t {
    kStarting,     // nothing is accepted yet
    kServing,      // the workers serve
    kHandingOver,  // a successor is the mapper: what is still registered here is passed on to it
    kLeaving,      // the mapper ends, and no process takes over from it
  };

  absl::Status Start(absl::FunctionRef<void()> on_ready);
  void MakeUnits();
  // Has all workers look anew for connections that wait to be accepted.
  void AcceptAnew();
  void StartLookout();
  void StartNotifier();
  // Returns when the stage is not kServing any more.
  void Serve();
  // Polls once, and deals with what has happened.
  void Turn();
  // Answers SIGHUP with an upgrade or a reload; false when another signal has told the mapper to end.
  bool OnSignals();
  // Goes to kLeaving, because the mapper was told to end.
  void EndAsTold();
  // Takes what the predecessor passes on.
  void OnPredecessor();
  // The connections of an earlier mapper that were handed over, or passed on late, were looked at.
  void OnAdopted();
  // Begins the upgrade that was asked for.
  void BeginUpgrade();
  // Deals with what the successor says, or with the end of its time. Goes to kHandingOver when it
  // has committed.
  void ContinueUpgrade();
  void CancelUpgrade(const std::string& reason);
  // Passes on to the units what the workers have registered.
  void TakeNew();
  // Plans that another keeper is started, when this mapper has one and it is gone.
  void PlanKeeper();
  // Starts a keeper, and has it hold everything.
  void ReplaceKeeper();
  // Ends the workers, and leaves nothing behind that is not stored or passed on. False when no
  // mapper serves after this one although one should.
  bool Leave();
  // How this process ends after it has handed over: when the store knows who is the mapper now.
  MapperEnd AwaitSuccession();

  bool PauseWorkers() override;
  void ResumeWorkers() override { SetPhase(Phase::kServing); }
  void SetPhase(Phase phase);

  Configuration configuration_;
  const Options& options_;  // those of the configuration
  const std::vector<std::string>& arguments_;
  Stage stage_ = Stage::kStarting;
  Parts parts_;
  Startup startup_;

  Timers timers_;
  Timer gather_;                   // new connections in custody gather until then
  Timer keeper_start_;             // a keeper that died is replaced
  Timer upgrade_deadline_;         // the successor's time is over
  bool is_upgrade_asked_ = false;  // and waits for the end of adoption_
  int ending_signal_ = 0;          // that has told the mapper to end
  int64_t keeper_started_ms_;      // MonotonicCoarseMs() when this mapper last started a keeper
  // From here on made by MakeUnits().
  std::optional<Inquiry> inquiry_;
  std::optional<Deposits> deposits_;
  std::optional<Restoration> restoration_;
  std::optional<Leftovers> leftovers_;
  std::optional<Adoption> adoption_;
  std::optional<Predecessor> predecessor_;
  std::optional<Publication> publication_;
  std::optional<Lookout> lookout_;
  // /proc would cost more with each socket of the host.
  SocketQuery disputes_query_{SocketQuery::Fallback::kNone};
  std::optional<IdleExit> idle_exit_;
  std::optional<Reload> reload_;
  Registration found_ = {};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_MAPPER_MAPPER_H_
