// A worker: one thread that accepts connections, and answers the requests on those it accepted.
//
// The worker has the control flow: it runs the loop and hands what has happened from one of its
// units to the next. The units return values and do not call each other back:
//
//   acceptor      takes connections from the listeners          -> the number of a new connection
//   exchange      reads frames and writes replies               -> an Event, such as a request
//   verbs         decides what is answered to a request         -> a Reply
//   registrar     decides who gets a name (names/registrar.h)   -> a Decision
//   list_service  answers NAMES and DUMP when nothing else is to be done
//   eviction      ends what has waited too long or takes too much
//
// Workers share what Shared refers to, and take no locks between them; each has an inbox for the
// connections that the main thread hands over.
#ifndef EVERMAP_DAEMON_SERVE_WORKER_H_
#define EVERMAP_DAEMON_SERVE_WORKER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "daemon/loop/loop.h"
#include "daemon/names/registrar.h"
#include "daemon/serve/acceptor.h"
#include "daemon/serve/access.h"
#include "daemon/serve/eviction.h"
#include "daemon/serve/exchange.h"
#include "daemon/serve/inbox.h"
#include "daemon/serve/list_service.h"
#include "daemon/serve/postponed.h"
#include "daemon/serve/shared.h"
#include "daemon/serve/verbs.h"
#include "registry/activity.h"
#include "registry/base/owned_fd.h"
#include "registry/counters.h"
#include "registry/registration.h"

namespace evermap {

class Worker final : private LoopHandler {
 public:
  // Worker `number` counts into that block of the registry's counters. `shared` outlives it.
  Worker(uint32_t number, std::unique_ptr<Loop> loop, Shared& shared);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker() = default;

  // Serves from when shared.phases say so until they say to leave, in a thread of its own. Wake()
  // the worker after a change of phase.
  void Serve();
  // Makes Serve() look at the phase and the inbox. From any thread.
  void Wake() { loop_->Wake(); }
  // Makes the worker look anew for connections that wait to be accepted. From any thread.
  void AcceptAnew() {
    // Where it was told so before and has not looked yet, a wake-up is on its way.
    if (!accepts_anew_.exchange(true, std::memory_order_acq_rel)) Wake();
  }
  // See Registrar::registering(). From any thread.
  const Registering& registering() const { return registrar_.registering(); }
  // Makes the connection of a registration, which is in custody already, this worker's. From any
  // thread.
  void Adopt(OwnedFd connection, const RegistrationRef& registration);
  Loop& loop() { return *loop_; }

 private:
  void OnAccepted(int fd) override;
  void OnAcceptFailed(uint32_t listener, int error) override;
  void OnReceived(uint32_t number, absl::Span<const std::byte> bytes) override;
  void OnWritable(uint32_t number) override;

  // Waits for something to happen, at most `timeout_ms` (-1: without end), and deals with it.
  void Turn(int64_t timeout_ms);
  // How long the loop may wait: less than `timeout_ms` where something is due earlier.
  int RunTimeoutMs(int64_t timeout_ms) const;
  // Accepts nothing more, and answers what was accepted, for at most `drain_ms`.
  void Drain(int64_t drain_ms, bool waits_for_postponed);
  // Takes some of the connections in the inbox.
  void EmptyInbox();
  // Answers requests that were put off and wait no longer; when `is_leaving`, all those that need not
  // wait for a connection.
  void TakeUpPostponed(bool is_leaving);
  // Whether the request waits no longer.
  bool IsDue(const Postponed::Request& request, bool is_leaving);
  void Stop();

  // Does what an event of the exchange asks for.
  void Handle(const Event& event);
  // Is called before anything is counted: a snapshot of the counters has what came before a pause.
  void BeforeEvent();
  // Counts the request of whoever is at the other end of `fd`, if it is its turn.
  void CountAsker(int fd, size_t kind);
  // `dispute`: of a request that was put off before.
  void HandleRequest(const Event& event, const Dispute& dispute, bool is_last_time);
  void Carry(const Event& event, const Reply& reply);

  const std::unique_ptr<Loop> loop_;
  Shared& shared_;
  WorkerStatistics& statistics_;
  Registrar registrar_;
  Access access_;
  Verbs verbs_;
  Exchange exchange_;
  Eviction eviction_;
  ListService lists_;
  Acceptor acceptor_;
  Askers askers_;
  Postponed postponed_;
  Inbox inbox_;
  std::vector<Inbox::Node> arrived_;  // taken from the inbox
  const uint32_t number_;
  bool is_first_event_ = true;  // of this turn
  std::atomic<bool> accepts_anew_{false};
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_WORKER_H_
