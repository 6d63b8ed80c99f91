#include "daemon/serve/worker.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/host/address.h"
#include "daemon/host/close_aside.h"
#include "daemon/host/log.h"
#include "daemon/serve/counting.h"
#include "daemon/serve/verb_table.h"
#include "daemon/wire/protocol.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

// How long a worker that pauses for a successor goes on answering what it has accepted; the queue
// of new connections waits meanwhile.
constexpr int64_t kPauseDrainMs = 10;
// The same for a worker that is about to end. Requests that are not complete by then are closed.
constexpr int64_t kLeaveDrainMs = 500;
// How long a worker that leaves waits until its process ends, which closes a descriptor for each
// node: the successor begins to watch the same connections at that time. With 10,000 nodes on one
// core requests waited for 25 ms, without this for 45.
constexpr absl::Duration kSuccessorLead = absl::Milliseconds(200);
// As which a request that is none is counted of its asker.
constexpr size_t kMalformedKind = kAskKinds.size() - 1;
static_assert(kMalformedKind == kVerbs.size());
// How many connections that were handed over are taken in a turn: for 0.1 ms.
constexpr size_t kAdoptedPerTurn = 64;

}  // namespace

Worker::Worker(uint32_t number, std::unique_ptr<Loop> loop, Shared& shared)
    : loop_(std::move(loop)),
      shared_(shared),
      statistics_(shared.registry.statistics(number)),
      registrar_(shared.registry, shared.custody, shared.reservations, statistics_),
      access_(shared),
      verbs_(shared, registrar_, access_, statistics_, [this] { Wake(); }),
      exchange_(*loop_, shared, statistics_),
      eviction_(*loop_, shared, exchange_, statistics_),
      lists_(shared, exchange_, eviction_, statistics_),
      acceptor_(*loop_, shared, access_, exchange_, eviction_, statistics_),
      number_(number) {}

void Worker::Serve() {
  shared_.phases.Pause();
  if (shared_.activity != nullptr) askers_ = shared_.activity->AskersOf(number_);
  exchange_.StoreGauge();
  acceptor_.Start();
  while (true) {
    switch (shared_.phases.current()) {
      case Phase::kServing:
        if (accepts_anew_.exchange(false, std::memory_order_acq_rel)) loop_->AcceptAnew();
        Turn(-1);
        break;
      case Phase::kPaused:
        Drain(kPauseDrainMs, /*waits_for_postponed=*/false);
        shared_.phases.Pause();
        if (shared_.phases.current() == Phase::kServing) acceptor_.Start();
        break;
      case Phase::kLeaving:
        Drain(kLeaveDrainMs, /*waits_for_postponed=*/true);
        shared_.phases.SayAtRest();
        Stop();
        return;
      case Phase::kGone:
        shared_.phases.SayAtRest();
        Stop();
        return;
    }
  }
}

void Worker::Turn(int64_t timeout_ms) {
  exchange_.BeginTurn();
  is_first_event_ = true;
  const bool is_busy = loop_->Run(RunTimeoutMs(timeout_ms), *this);
  shared_.notifier.TellIfChanged();
  const int64_t now_ms = MonotonicCoarseMs();
  if (lists_.has_waiting() && (!is_busy || lists_.IsDue(now_ms))) lists_.AnswerSome();
  eviction_.EndOverdue(now_ms);
  // Requests that wait for a list have descriptors, too.
  if (eviction_.EvictForOthers()) lists_.Hurry();
  acceptor_.Resume(now_ms);
  if (!arrived_.empty() || inbox_.has_any()) EmptyInbox();
  if (!postponed_.empty()) {
    const Phase phase = shared_.phases.current();
    TakeUpPostponed(phase == Phase::kLeaving || phase == Phase::kGone);
  }
}

int Worker::RunTimeoutMs(int64_t timeout_ms) const {
  if (lists_.has_waiting() || !arrived_.empty() || inbox_.has_any()) return 0;
  int64_t wake_ms = timeout_ms < 0 ? -1 : MonotonicCoarseMs() + timeout_ms;
  const auto wake_by = [&wake_ms](int64_t due_ms) {
    if (wake_ms < 0 || due_ms < wake_ms) wake_ms = due_ms;
  };
  const Connections& connections = exchange_.connections();
  if (exchange_.has_unfinished()) {
    wake_by(connections[connections.first()].progress_ms + shared_.options.packet_timeout_ms);
  }
  if (const auto resume_ms = acceptor_.resume_ms(); resume_ms.has_value()) wake_by(*resume_ms);
  if (!postponed_.empty()) wake_by(MonotonicCoarseMs() + postponed_.NextLookMs());
  if (wake_ms < 0) return -1;
  constexpr int64_t kTimeoutMaxMs = 3'600'000;
  return static_cast<int>(std::clamp<int64_t>(wake_ms - MonotonicCoarseMs(), 0, kTimeoutMaxMs));
}

void Worker::Drain(int64_t drain_ms, bool waits_for_postponed) {
  acceptor_.Stop();
  const int64_t deadline_ms = MonotonicCoarseMs() + drain_ms;
  // A connection that was accepted while accepting was being stopped counts as well.
  while (acceptor_.is_accepting() || exchange_.has_unfinished() || lists_.has_waiting() ||
         (waits_for_postponed && !postponed_.empty())) {
    const int64_t left_ms = deadline_ms - MonotonicCoarseMs();
    if (left_ms <= 0 && !acceptor_.is_accepting()) {
      while (lists_.has_waiting()) lists_.AnswerSome();
      return;
    }
    Turn(std::max<int64_t>(left_ms, 1));
  }
}

void Worker::Stop() {
  if (shared_.has_successor.load(std::memory_order_acquire)) {
    absl::SleepFor(kSuccessorLead);
    // It has nothing more to do than to clean up.
    GiveWay();
  }
  loop_->Stop();
}

void Worker::Adopt(OwnedFd connection, const RegistrationRef& registration) {
  if (inbox_.Put({std::move(connection), registration})) Wake();
}

void Worker::EmptyInbox() {
  if (arrived_.empty()) arrived_ = inbox_.TakeAll();
  for (size_t i = 0; i < kAdoptedPerTurn && !arrived_.empty(); ++i) {
    Inbox::Node node = std::move(arrived_.back());
    arrived_.pop_back();
    if (exchange_.AdoptNode(node.connection, node.registration)) continue;
    // There are as many numbers of connections as of descriptors, so this cannot happen.
    Log(Severity::kError, "a connection that was handed over is lost");
    shared_.custody.GiveUp(node.registration.slot, node.connection.get());
  }
}

bool Worker::IsDue(const Postponed::Request& request, bool is_leaving) {
  switch (request.wait) {
    case Wait::kConnection:
      return registrar_.MayDecide(request.holder);
    case Wait::kLook:
      if (shared_.disputes.HasLooked(request.dispute.place)) return true;
      return (is_leaving || MonotonicCoarseMs() >= request.look_end_ms) &&
             shared_.disputes.Withdraw(request.dispute.place);
    case Wait::kHolder:
      // One that has given up is answered, too, and waits no longer.
      return is_leaving || MonotonicCoarseMs() >= request.dispute.wait_end_ms ||
             !registrar_.IsRegistered(request.holder) ||
             Registrar::HasHungUp(exchange_.connections()[request.connection].fd);
  }
  return true;
}

void Worker::TakeUpPostponed(bool is_leaving) {
  const auto is_due = [&](const Postponed::Request& one) { return IsDue(one, is_leaving); };
  for (const Postponed::Request& request : postponed_.Take(is_due)) {
    const Event event = exchange_.TakeUp(request.connection, request.has_excess, request.begin_ns);
    const bool has_hung_up = request.wait == Wait::kHolder && Registrar::HasHungUp(event.fd);
    HandleRequest(event, request.dispute, is_leaving || has_hung_up);
  }
  shared_.notifier.TellIfChanged();
}

void Worker::BeforeEvent() {
  if (!std::exchange(is_first_event_, false) || shared_.activity == nullptr) return;
  shared_.activity->TakeSnapshotIfDue(MonotonicCoarseMs(), shared_.registry.view());
}

void Worker::OnAccepted(int fd) {
  BeforeEvent();
  const std::optional<uint32_t> number = acceptor_.OnAccepted(fd);
  if (number.has_value()) Handle(exchange_.ReceiveFirst(*number));
}

void Worker::OnAcceptFailed(uint32_t listener, int error) {
  acceptor_.OnAcceptFailed(listener, error);
}

void Worker::OnReceived(uint32_t number, absl::Span<const std::byte> bytes) {
  BeforeEvent();
  Handle(exchange_.OnReceived(number, bytes));
}

void Worker::OnWritable(uint32_t number) { exchange_.OnWritable(number); }

void Worker::Handle(const Event& event) {
  switch (event.kind) {
    case Event::Kind::kNothing:
      return;
    case Event::Kind::kRequest:
      HandleRequest(event, {}, /*is_last_time=*/false);
      return;
    case Event::Kind::kMalformed:
      CountAsker(event.fd, kMalformedKind);
      Carry(event, verbs_.AnswerMalformed({.fd = event.fd}));
      return;
    case Event::Kind::kNodeEnded:
      registrar_.End(event.registration, event.fd);
      exchange_.Close(event.connection);
      return;
  }
}

void Worker::CountAsker(int fd, size_t kind) {
  const uint32_t weight = askers_.WeightOfNext(MonotonicCoarseMs());
  if (weight > 0) askers_.Count(MappedAddress(PeerAddress(fd)), kind, weight);
}

void Worker::HandleRequest(const Event& event, const Dispute& dispute, bool is_last_time) {
  const Requester requester = {.fd = event.fd,
                               .is_draining = event.is_draining,
                               .dispute = dispute,
                               .is_last_time = is_last_time};
  const std::optional<protocol::Request> request = protocol::DecodeRequest(event.body);
  if (!dispute.was_asked) {
    CountAsker(event.fd, request.has_value() ? request->index() : kMalformedKind);
  }
  if (!request.has_value()) {
    Carry(event, verbs_.AnswerMalformed(requester));
    return;
  }
  shared_.Delay(shared_.options.delay_write);
  const Reply reply = verbs_.Answer(requester, *request);
  if (dispute.was_asked && reply.then != Reply::Then::kAskLater) shared_.disputes.Release(dispute);
  Carry(event, reply);
  // The latency of a list is counted when the list is sent.
  if (reply.then != Reply::Then::kListLater && reply.then != Reply::Then::kAskLater) {
    CountLatency(statistics_, event.begin_ns);
  }
}

void Worker::Carry(const Event& event, const Reply& reply) {
  switch (reply.then) {
    case Reply::Then::kClose:
      if (reply.bytes.empty()) {
        exchange_.Close(event.connection);
      } else {
        exchange_.SendAndClose(event.connection, reply.bytes);
      }
      return;
    case Reply::Then::kKeepNode:
      exchange_.KeepNode(event.connection, reply.registration, reply.bytes, event.has_excess);
      registrar_.Announce(reply.registration);
      return;
    case Reply::Then::kListLater:
      lists_.Add(event.connection, reply.list, event.begin_ns);
      return;
    case Reply::Then::kAskLater:
      exchange_.Postpone(event);
      postponed_.Add({.connection = event.connection,
                      .holder = reply.registration,
                      .dispute = reply.dispute,
                      .wait = reply.wait,
                      .has_excess = event.has_excess,
                      .begin_ns = event.begin_ns,
                      .look_end_ms = MonotonicCoarseMs() + Postponed::kLookPatienceMs});
      return;
    case Reply::Then::kStopMapper:
      exchange_.SendAndClose(event.connection, reply.bytes);
      shared_.request_stop(reply.stop_reason);
      return;
  }
}

}  // namespace evermap
