#include "daemon/serve/worker.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>
#include <utility>
#include <variant>

#include "absl/time/clock.h"
#include "daemon/host/sock_diag.h"
#include "daemon/names/orphans.h"
#include "daemon/serve/list_text.h"
#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/base/text.h"

namespace evermap {
namespace {

// Of attempts to get a name whose holder is found to have left.
constexpr int kRegisterRetriesMax = 8;
// Looks at a holder before a name is refused. On a busy machine a node that is stopped and started
// again may overtake the end of its own connection: three of some three million did, and the next
// look, a few microseconds later, saw it. Each adds four system calls to a refusal.
constexpr int kHolderLooksMax = 3;
// Of a worker that has nothing more to do than to clean up: the lowest priority.
constexpr int kLeavingNice = 19;

void Count(Counter& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

absl::Span<const std::byte> Bytes(std::string_view text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

// One more than were sent is left to the next call: the caller looks at the sum.
ssize_t SendNow(int fd, const void* data, size_t size, int flags) {
  ssize_t sent;
  do {
    sent = send(fd, data, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

// What ends a list of names is the end of the connection: where half of one was sent, its end is to
// be a reset, also when the process is killed.
void SetResetAtClose(int fd, bool is_wanted) {
  const linger now = {.l_onoff = is_wanted ? 1 : 0, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

// At once. What is pending on the connection completes.
void Reset(int fd) {
  const sockaddr nowhere = {.sa_family = AF_UNSPEC, .sa_data = {}};
  // Fails only when there is no connection any more.
  [[maybe_unused]] const int failed = connect(fd, &nowhere, sizeof(nowhere));
}

// Also for lack of memory, which says nothing about the connection.
bool WouldBlock(ssize_t sent) {
  return sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM);
}

}  // namespace

Worker::Worker(uint32_t number, std::unique_ptr<Loop> loop, Shared& shared)
    : loop_(std::move(loop)),
      shared_(shared),
      registry_(shared.registry),
      statistics_(shared.registry.statistics(number)),
      connections_(shared.descriptors_max),
      packet_timeout_ms_(absl::ToInt64Milliseconds(shared.options.packet_timeout)) {
  shared.workers.push_back(this);
}

void Worker::Serve() {
  TakeGiven();
  StartAccepting();
  while (true) {
    switch (shared_.phases.current()) {
      case Phase::kServing:
        if (accepts_anew_.exchange(false, std::memory_order_acq_rel)) loop_->AcceptAnew();
        Turn(-1);
        break;
      case Phase::kPaused:
        Drain(kPauseDrainMs);
        shared_.phases.Pause();
        if (shared_.phases.current() == Phase::kServing) StartAccepting();
        break;
      case Phase::kLeaving:
        Drain(kLeaveDrainMs);
        Stop();
        return;
      case Phase::kGone:
        Stop();
        return;
    }
  }
}

void Worker::Stop() {
  if (shared_.has_successor.load(std::memory_order_acquire)) {
    absl::SleepFor(kSuccessorLead);
    // Of this thread. Where it is not permitted, as in the systemd unit, it costs others a little
    // time.
    setpriority(PRIO_PROCESS, 0, kLeavingNice);
  }
  loop_->Stop();
}

void Worker::StartAccepting() {
  paused_listeners_.clear();
  for (size_t i = 0; i < shared_.listeners.size(); ++i) {
    loop_->Accept(static_cast<uint32_t>(i), shared_.listeners[i]);
  }
}

void Worker::Turn(int64_t timeout_ms) {
  turn_bytes_ns_ = 0;
  const bool is_busy = loop_->Run(RunTimeoutMs(timeout_ms), *this);
  const int64_t now_ms = MonotonicCoarseMs();
  if (!wanted_lists_.empty() && (lists_in_batch_ > 0 || !is_busy || AreListsDue(now_ms))) {
    AnswerLists();
  }
  EndOverdue(now_ms);
  MakeRoomForOthers();
  ResumeAccepting(now_ms);
  if (is_given_.load(std::memory_order_acquire)) TakeGiven();
}

void Worker::Drain(int64_t drain_ms) {
  paused_listeners_.clear();
  loop_->StopAccepting();
  const int64_t deadline_ms = MonotonicCoarseMs() + drain_ms;
  // A connection that was accepted while accepting was being stopped counts as well.
  while (loop_->IsAccepting() || connections_.first() != kNoConnection || !wanted_lists_.empty()) {
    const int64_t left_ms = deadline_ms - MonotonicCoarseMs();
    if (left_ms <= 0 && !loop_->IsAccepting()) {
      while (!wanted_lists_.empty()) AnswerLists();
      return;
    }
    Turn(std::max<int64_t>(left_ms, 1));
  }
}

void Worker::Give(OwnedFd connection, uint32_t slot, uint64_t registration_id) {
  {
    const std::lock_guard lock(given_mutex_);
    given_.push_back({std::move(connection), slot, registration_id});
    if (is_given_.exchange(true, std::memory_order_acq_rel)) return;
  }
  Wake();
}

void Worker::TakeGiven() {
  std::vector<Given> given;
  {
    const std::lock_guard lock(given_mutex_);
    given.swap(given_);
    is_given_.store(false, std::memory_order_release);
  }
  for (Given& node : given) {
    const uint32_t number = connections_.Take();
    if (number == kNoConnection) {
      // As many as descriptors: it cannot be.
      Log(Severity::kError, "a connection that was handed over is lost");
      shared_.custody.GiveUp(node.slot, node.connection.get());
      continue;
    }
    statistics_.connections_now.fetch_add(1, std::memory_order_relaxed);
    Connection& connection = connections_[number];
    connection.state = Connection::State::kNode;
    connection.fd = node.connection.Release();
    connection.slot = node.slot;
    connection.registration_id = node.registration_id;
    Receive(number);
  }
}

int Worker::RunTimeoutMs(int64_t timeout_ms) {
  if (!wanted_lists_.empty()) return 0;
  int64_t wake_ms = timeout_ms < 0 ? -1 : MonotonicCoarseMs() + timeout_ms;
  const auto wake_by = [&wake_ms](int64_t deadline_ms) {
    if (wake_ms < 0 || deadline_ms < wake_ms) wake_ms = deadline_ms;
  };
  if (connections_.first() != kNoConnection)
    wake_by(connections_[connections_.first()].deadline_ms);
  if (!paused_listeners_.empty()) wake_by(resume_accepting_ms_);
  if (wake_ms < 0) return -1;
  constexpr int64_t kTimeoutMaxMs = 3'600'000;
  return static_cast<int>(std::clamp<int64_t>(wake_ms - MonotonicCoarseMs(), 0, kTimeoutMaxMs));
}

void Worker::ResumeAccepting(int64_t now_ms) {
  if (paused_listeners_.empty() || now_ms < resume_accepting_ms_) return;
  for (const uint32_t listener : std::exchange(paused_listeners_, {})) {
    loop_->Accept(listener, shared_.listeners[listener]);
  }
}

void Worker::Delay(absl::Duration duration) {
  if (duration > absl::ZeroDuration()) {
    shared_.stopping.WaitForNotificationWithTimeout(duration);
  }
}

bool Worker::IsDescriptorTableFull(int fd) const {
  return static_cast<uint32_t>(fd) + kDescriptorsSpare >= shared_.descriptors_max;
}

void Worker::OnAccepted(int fd) {
  Count(statistics_.connections_accepted);
  if (!IsAllowed(fd)) {
    Count(statistics_.closed_malformed);
    LogLimited(shared_.log_not_allowed, Severity::kWarning,
               "a connection from %s is closed: it is in none of the networks that -allow names",
               AddressText(PeerAddress(fd)));
    close(fd);
    return;
  }
  if (IsDescriptorTableFull(fd)) {
    LogLimited(
        shared_.log_descriptors, Severity::kWarning,
        "all but %d of %d file descriptors are in use: requests that wait longest are ended; "
        "raise the limit (ulimit -n, LimitNOFILE=)",
        kDescriptorsSpare, shared_.descriptors_max);
    // Two for one, so that the spare ones come back.
    Evict(2);
  }
  const uint32_t number = connections_.Take();
  if (number == kNoConnection) {
    close(fd);
    return;
  }
  statistics_.connections_now.fetch_add(1, std::memory_order_relaxed);
  // Texts are made only for who reads them: nothing is allocated on the path of a request.
  if (IsLogged(Severity::kConnections)) {
    Log(Severity::kConnections, "fd %d: connection from %s", fd, AddressText(PeerAddress(fd)));
  }
  Connection& connection = connections_[number];
  connection.state = Connection::State::kReading;
  connection.fd = fd;
  Delay(shared_.options.delay_accept);
  ReceiveFirst(number);
}

bool Worker::IsAllowed(int fd) const {
  const std::vector<Network>& allowed = shared_.options.allowed;
  if (allowed.empty()) return true;
  const sockaddr_storage peer = PeerAddress(fd);
  return std::any_of(allowed.begin(), allowed.end(),
                     [&peer](const Network& network) { return network.Contains(peer); }) ||
         IsLocalPeer(fd);
}

void Worker::OnAcceptFailed(uint32_t listener, int error) {
  Count(statistics_.accept_errors);
  const bool full = error == EMFILE || error == ENFILE;
  LogLimited(shared_.log_accept, Severity::kWarning, "connections cannot be accepted: %s%s",
             ErrorText(error),
             full ? "; raise the limit of open files (ulimit -n, LimitNOFILE=, fs.file-max)" : "");
  if (shared_.phases.current() != Phase::kServing) return;
  paused_listeners_.push_back(listener);
  // What is evicted is closed at the next turn. Without it there is nothing to do but wait: for the
  // young ones to get older, or for what other workers evict. They may hold all and yet sleep,
  // since the kernel has woken this one for the connection.
  const bool makes_room = full && Evict(kDescriptorsForRequests) > 0;
  if (full && !makes_room) AskForRoom();
  resume_accepting_ms_ = MonotonicCoarseMs() + (makes_room ? 0 : kAcceptPauseMs);
}

void Worker::AskForRoom() {
  shared_.room_requests.fetch_add(1, std::memory_order_relaxed);
  for (Worker* worker : shared_.workers) {
    if (worker != this) worker->Wake();
  }
}

void Worker::MakeRoomForOthers() {
  const uint32_t requests = shared_.room_requests.load(std::memory_order_relaxed);
  if (std::exchange(room_requests_seen_, requests) == requests) return;
  Evict(kDescriptorsForRequests);
  // Who waits for a list has a descriptor, too.
  lists_are_urgent_ = !wanted_lists_.empty();
}

void Worker::ReceiveFirst(uint32_t number) {
  const auto bytes = ReceiveNow(connections_[number].fd, absl::MakeSpan(first_bytes_));
  if (bytes.has_value()) {
    OnReceived(number, *bytes);
  } else {
    AwaitRequest(number);
  }
}

void Worker::AwaitRequest(uint32_t number) {
  Connection& connection = connections_[number];
  if (connection.state == Connection::State::kReading && !connection.has_deadline) {
    if (!EnterSource(number)) {
      Close(number);
      return;
    }
    connections_.SetDeadline(number, MonotonicCoarseMs() + packet_timeout_ms_);
  }
  Receive(number);
}

bool Worker::EnterSource(uint32_t number) {
  Connection& connection = connections_[number];
  if (connection.source != SourceBound::kNotCounted) return true;
  const sockaddr_storage peer = PeerAddress(connection.fd);
  if (shared_.sources.Enter(peer, connection.source)) return true;
  Count(statistics_.closed_source_bound);
  LogLimited(
      shared_.log_source, Severity::kWarning,
      "%s has %d requests waiting, more than one source may: its connections are closed; block "
      "it, or raise kRequestsPerSourceMax",
      AddressText(peer), kRequestsPerSourceMax);
  return false;
}

void Worker::Receive(uint32_t number) {
  Connection& connection = connections_[number];
  connection.pending = true;
  loop_->Receive(number, connection.fd);
}

void Worker::OnReceived(uint32_t number, absl::Span<const std::byte> bytes) {
  Connection& connection = connections_[number];
  connection.pending = false;
  switch (connection.state) {
    case Connection::State::kReading:
    case Connection::State::kEvicted:
      if (bytes.empty()) {
        Close(number);
      } else {
        OnRequestBytes(number, bytes);
      }
      return;
    case Connection::State::kNode:
      EndNode(number);
      return;
    case Connection::State::kWriting:
    case Connection::State::kEnding:
    case Connection::State::kFree:
      Close(number);
      return;
  }
}

void Worker::OnRequestBytes(uint32_t number, absl::Span<const std::byte> bytes) {
  if (turn_bytes_ns_ == 0) turn_bytes_ns_ = MonotonicNs();
  Connection& connection = connections_[number];
  absl::Span<const std::byte> received = bytes;
  if (!connection.partial.empty()) {
    const auto end =
        std::copy(connection.partial.begin(), connection.partial.end(), joined_.begin());
    std::copy(bytes.begin(), bytes.end(), end);
    received = absl::MakeConstSpan(joined_.data(), connection.partial.size() + bytes.size());
  }
  // What follows the longest frame is not looked at, nor what follows a frame whose length came
  // before.
  size_t size_max = protocol::kFrameSizeMax;
  if (connection.partial.size() >= protocol::kLengthSize) {
    size_max = std::min(size_max, protocol::AnnouncedFrameSize(received));
  }
  const bool has_more = received.size() > size_max;
  received = received.first(std::min(received.size(), size_max));
  switch (protocol::InspectFrame(received)) {
    case protocol::FrameState::kMalformed:
      CloseMalformed(number);
      return;
    case protocol::FrameState::kIncomplete:
      connection.partial.assign(received.begin(), received.end());
      AwaitRequest(number);
      return;
    case protocol::FrameState::kComplete:
      Answer(number, received.subspan(protocol::kLengthSize));
      // Later bytes end a registration; these came already. The pending read says so.
      if (has_more && connection.state == Connection::State::kNode) {
        shutdown(connection.fd, SHUT_RD);
      }
      return;
  }
}

void Worker::Answer(uint32_t number, absl::Span<const std::byte> body) {
  const std::optional<protocol::Request> request = protocol::DecodeRequest(body);
  if (!request.has_value()) {
    CloseMalformed(number);
    return;
  }
  Delay(shared_.options.delay_write);
  const size_t put_off = wanted_lists_.size();
  std::visit([&](const auto& decoded) { Answer(number, decoded); }, *request);
  // A list is counted when it is answered.
  if (wanted_lists_.size() == put_off) CountLatency(turn_bytes_ns_);
}

void Worker::CountLatency(int64_t begin_ns) {
  const auto latency_ns = static_cast<uint64_t>(MonotonicNs() - begin_ns);
  Count(statistics_.latency_buckets[LatencyBucketOf(latency_ns)]);
}

void Worker::Answer(uint32_t number, const protocol::Port2Request& request) {
  std::array<std::byte, protocol::kPort2ReplySizeMax> reply;
  size_t size = 0;
  const bool is_found = registry_.Lookup(request.name, found_);
  Count(is_found ? statistics_.port2_found : statistics_.port2_unknown);
  if (IsLogged(Severity::kRequests)) {
    Log(Severity::kRequests, "PORT2 %s: %s", Escaped(request.name),
        is_found ? absl::StrCat("port ", found_.port) : "unknown");
  }
  if (is_found) {
    size = protocol::EncodePort2Reply({.port = found_.port,
                                       .node_type = found_.node_type,
                                       .protocol = found_.protocol,
                                       .highest_version = found_.highest_version,
                                       .lowest_version = found_.lowest_version,
                                       .name = found_.name(),
                                       .extra = found_.extra()},
                                      absl::MakeSpan(reply));
  } else {
    size = protocol::EncodePort2Unknown(absl::MakeSpan(reply));
  }
  SendAndClose(number, absl::MakeConstSpan(reply.data(), size));
}

bool Worker::IsHeld(uint32_t slot, uint64_t id) {
  return registry_.ReadSlot(slot, found_) && found_.id == id &&
         found_.state != RegistrationState::kRemembered;
}

bool Worker::MayHave(int fd, std::string_view name) {
  const Reservations::Holder* holder = shared_.reservations.HolderOf(name);
  if (holder == nullptr) return true;
  const uint32_t uid = socket_query_.PeerUid(fd);
  if (uid != kUnknownUid && uid == holder->uid) return true;
  LogLimited(shared_.log_reserved, Severity::kWarning,
             "node %s is refused: its name is reserved for user %s, and %s asked for it",
             Escaped(name), Escaped(holder->user),
             uid == kUnknownUid ? "somebody who cannot be told (another network or user namespace, "
                                  "or gone already)"
                                : absl::StrCat("user ", uid));
  return false;
}

RegisterResult Worker::Register(const NodeRecord& node) {
  int looks = 0;
  for (int retries = 0;; ++retries) {
    RegisterResult result = registry_.Register(node);
    if (result.outcome != RegisterResult::Outcome::kTaken || retries == kRegisterRetriesMax) {
      return result;
    }
    // The record is another writer's at this moment. It may be about to give the name up: the main
    // thread was amending a registration when that was ended.
    if (result.id == 0) {
      if (!registry_.AwaitClaimant(result.slot)) return result;
      continue;
    }
    // A node that was stopped and started again may be here before its end was noticed: look at the
    // holder before refusing.
    if (!IsHeld(result.slot, result.id)) continue;
    if (found_.state == RegistrationState::kOrphaned) {
      if (SettleOrphan(node, result)) return result;
    } else if (shared_.custody.HasLeft(found_)) {
      if (registry_.Unregister(result.slot, result.id)) Count(statistics_.holders_found_gone);
    } else if (IsHeld(result.slot, result.id) && ++looks == kHolderLooksMax) {
      // Still: its worker did not end it while it was looked at.
      return result;
    }
  }
}

bool Worker::SettleOrphan(const NodeRecord& node, RegisterResult& result) {
  const Life life = LifeOf(found_, ReadListeners());
  if (life == Life::kGone) {
    if (registry_.Unregister(found_.slot, found_.id)) Count(statistics_.orphans_ended);
    return false;
  }
  // Another node, while this one lives or may live.
  if (found_.port != node.port) return true;
  if (!registry_.Adopt(found_.slot, found_.id, node.connection_cookie)) return false;
  Count(statistics_.adopted);
  result = {RegisterResult::Outcome::kRegistered, found_.slot, found_.id, found_.creation};
  return true;
}

void Worker::Answer(uint32_t number, const protocol::Alive2Request& request) {
  Connection& connection = connections_[number];
  if (!IsLocalPeer(connection.fd)) {
    Count(statistics_.alive2_not_local);
    Log(Severity::kRegistrations, "ALIVE2 from another host is not answered");
    Close(number);
    return;
  }
  // It would be unregistered at once.
  if (connection.state == Connection::State::kEvicted) {
    Close(number);
    return;
  }
  if (request.node.name.empty()) {
    CloseMalformed(number);
    return;
  }
  if (!request.acceptable) {
    Refuse(number, request);
    return;
  }
  if (!MayHave(connection.fd, request.node.name)) {
    Refuse(number, request);
    return;
  }
  if (!shared_.custody.Reserve()) {
    Count(statistics_.refused_descriptors);
    LogLimited(
        shared_.log_descriptors, Severity::kError,
        "node %s is refused: %d nodes are as many as the limit of %d file descriptors allows; "
        "raise it (ulimit -n, LimitNOFILE=)",
        Escaped(request.node.name), shared_.custody.connections_max(), shared_.descriptors_max);
    Refuse(number, request);
    return;
  }
  const RegisterResult result = Register({.name = request.node.name,
                                          .extra = request.node.extra,
                                          .port = request.node.port,
                                          .node_type = request.node.node_type,
                                          .protocol = request.node.protocol,
                                          .highest_version = request.node.highest_version,
                                          .lowest_version = request.node.lowest_version,
                                          .connection_cookie = SocketCookie(connection.fd)});
  if (result.outcome != RegisterResult::Outcome::kRegistered) {
    shared_.custody.Release();
    if (result.outcome == RegisterResult::Outcome::kFull) {
      Count(statistics_.refused_registry_full);
      LogLimited(
          shared_.log_registry_full, Severity::kError,
          "node %s is refused: registry %s has no room (%d names); remove it while no mapper "
          "runs and start with a larger -capacity, or make room on its file system",
          Escaped(request.node.name), registry_.path(), registry_.capacity());
    }
    Refuse(number, request);
    return;
  }
  shared_.custody.Hold(result.slot, connection.fd);
  connection.state = Connection::State::kNode;
  connection.slot = result.slot;
  connection.registration_id = result.id;
  connection.partial = {};
  connections_.ClearDeadline(number);
  shared_.sources.Leave(std::exchange(connection.source, SourceBound::kNotCounted));
  Count(statistics_.alive2_registered);
  if (IsLogged(Severity::kRegistrations)) {
    Log(Severity::kRegistrations, "registered %s at port %d, creation %u, fd %d",
        Escaped(request.node.name), request.node.port, result.creation, connection.fd);
  }
  // So that a node whose host or network namespace vanishes is noticed in the end.
  const int on = 1;
  // Without it that takes until somebody wants the name.
  setsockopt(connection.fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  std::array<std::byte, protocol::kAlive2ReplySizeMax> reply;
  const size_t size = protocol::EncodeAlive2Reply(request.node.highest_version, result.creation,
                                                  absl::MakeSpan(reply));
  // The send buffer is empty, so this fails only when the node is gone, and the read then says so,
  // or when the kernel has no memory: a node that waits for ever for its reply is worse than one
  // that is told to try again.
  if (SendNow(connection.fd, reply.data(), size, 0) != static_cast<ssize_t>(size)) {
    shutdown(connection.fd, SHUT_RDWR);
  }
  shared_.custody.Announce(result.slot);
  Receive(number);
}

void Worker::Refuse(uint32_t number, const protocol::Alive2Request& request) {
  Count(statistics_.alive2_refused);
  if (IsLogged(Severity::kRegistrations)) {
    Log(Severity::kRegistrations, "refused %s at port %d", Escaped(request.node.name),
        request.node.port);
  }
  std::array<std::byte, protocol::kAlive2ReplySizeMax> reply;
  const size_t size =
      protocol::EncodeAlive2Refusal(request.node.highest_version, absl::MakeSpan(reply));
  SendAndClose(number, absl::MakeConstSpan(reply.data(), size));
}

SharedText Worker::KeepText(std::string text) {
  text.shrink_to_fit();
  *texts_size_ += text.size();
  SharedText kept(new std::string(std::move(text)),
                  [total = texts_size_](const std::string* ended) {
                    *total -= ended->size();
                    delete ended;
                  });
  MakeRoomForText();
  return kept;
}

bool Worker::MakeText(List list) {
  SharedText& text = batch_texts_[static_cast<size_t>(list)];
  if (list_maker_ == nullptr) {
    if (list == List::kNames && names_text_ != nullptr &&
        names_generation_ == registry_.generation()) {
      text = names_text_;
      return true;
    }
    list_maker_ =
        std::make_unique<ListMaker>(list, registry_, shared_.custody, shared_.options.port);
  }
  if (!list_maker_->Step()) return false;
  text = KeepText(list_maker_->TakeText());
  if (list == List::kNames) {
    names_text_ = text;
    names_generation_ = list_maker_->generation();
  }
  list_maker_ = nullptr;
  return true;
}

void Worker::MakeRoomForText() {
  uint32_t number = connections_.first();
  while (*texts_size_ > kSlowTextsSizeMax && number != kNoConnection) {
    const uint32_t later = connections_[number].later;
    if (connections_[number].state == Connection::State::kWriting) {
      LogLimited(shared_.log_slow_reader, Severity::kWarning,
                 "readers that do not take their replies are ended: they keep %d MiB",
                 *texts_size_ >> 20);
      Count(statistics_.closed_evicted);
      Abort(number);
    }
    number = later;
  }
}

void Worker::Answer(uint32_t number, const protocol::NamesRequest&) {
  Count(statistics_.names);
  Log(Severity::kRequests, "NAMES");
  AnswerLater(number, List::kNames);
}

void Worker::Answer(uint32_t number, const protocol::DumpRequest&) {
  if (!IsLocalPeer(connections_[number].fd)) {
    CloseMalformed(number);
    return;
  }
  Count(statistics_.dump);
  Log(Severity::kRequests, "DUMP");
  AnswerLater(number, List::kDump);
}

void Worker::AnswerLater(uint32_t number, List list) {
  // It is nobody's to end meanwhile.
  connections_.ClearDeadline(number);
  wanted_lists_.push_back({number, list, turn_bytes_ns_});
  // These could not be ended to make room for others.
  if (IsDescriptorTableFull(connections_[number].fd)) lists_are_urgent_ = true;
}

bool Worker::AreListsDue(int64_t now_ms) const {
  return lists_are_urgent_ || now_ms - wanted_lists_.front().begin_ns / kNsPerMs >= kListWaitMs;
}

void Worker::AnswerLists() {
  if (lists_in_batch_ == 0) lists_in_batch_ = wanted_lists_.size();
  do {
    SendLists();
  } while (lists_are_urgent_ && lists_in_batch_ > 0);
  if (lists_in_batch_ == 0) batch_texts_ = {};
  if (wanted_lists_.empty()) lists_are_urgent_ = false;
}

void Worker::SendLists() {
  size_t count = 0;
  size_t size = 0;
  while (count < std::min(lists_in_batch_, kListsPerTurn) && size < kListBytesPerTurn) {
    const auto [number, list, begin_ns] = wanted_lists_[count];
    const SharedText& text = batch_texts_[static_cast<size_t>(list)];
    if (text == nullptr && !MakeText(list)) break;
    size += text->size();
    SendTextAndClose(number, text);
    CountLatency(begin_ns);
    ++count;
  }
  wanted_lists_.erase(wanted_lists_.begin(), wanted_lists_.begin() + static_cast<ptrdiff_t>(count));
  lists_in_batch_ -= count;
}

void Worker::Answer(uint32_t number, const protocol::KillRequest&) {
  if (!IsLocalPeer(connections_[number].fd)) {
    CloseMalformed(number);
    return;
  }
  Count(statistics_.kill);
  if (!shared_.options.relaxed_command_check && registry_.live_count() > 0) {
    Log(Severity::kRequests, "KILL refused: nodes are registered");
    SendAndClose(number, protocol::kKillReplyRefused);
    return;
  }
  SendAndClose(number, protocol::kKillReplyOk);
  shared_.request_stop("asked to by a KILL request");
}

void Worker::Answer(uint32_t number, const protocol::StopRequest& request) {
  if (!shared_.options.relaxed_command_check || !IsLocalPeer(connections_[number].fd)) {
    CloseMalformed(number);
    return;
  }
  Count(statistics_.stop);
  if (!registry_.Lookup(request.name, found_) || !registry_.Unregister(found_.slot, found_.id)) {
    SendAndClose(number, protocol::kStopReplyUnknown);
    return;
  }
  Count(statistics_.unregistered);
  Log(Severity::kRegistrations, "unregistered %s: asked to by a STOP request",
      Escaped(request.name));
  shared_.custody.Shutdown(found_);
  SendAndClose(number, protocol::kStopReplyStopped);
}

void Worker::SendAndClose(uint32_t number, absl::Span<const std::byte> reply) {
  // MSG_MORE holds the bytes back until close(), which sends them together with the FIN in one
  // segment.
  const ssize_t sent = SendNow(connections_[number].fd, reply.data(), reply.size(), MSG_MORE);
  if (sent == static_cast<ssize_t>(reply.size()) || (sent < 0 && !WouldBlock(sent))) {
    Close(number);
    return;
  }
  const size_t done = sent > 0 ? static_cast<size_t>(sent) : 0;
  Connection& connection = connections_[number];
  connection.reply = std::make_shared<const std::string>(
      reinterpret_cast<const char*>(reply.data()) + done, reply.size() - done);
  connection.sent = 0;
  SendRest(number);
}

void Worker::SendAndClose(uint32_t number, std::string_view reply) {
  SendAndClose(number, Bytes(reply));
}

void Worker::SendTextAndClose(uint32_t number, SharedText text) {
  Connection& connection = connections_[number];
  connection.reply = std::move(text);
  connection.sent = 0;
  SendRest(number);
}

void Worker::SendRest(uint32_t number) {
  Connection& connection = connections_[number];
  std::string_view rest = *connection.reply;
  rest.remove_prefix(connection.sent);
  const ssize_t sent = SendNow(connection.fd, rest.data(), rest.size(), MSG_MORE);
  const bool was_writing = connection.state == Connection::State::kWriting;
  if (sent == static_cast<ssize_t>(rest.size()) || (sent < 0 && !WouldBlock(sent))) {
    if (was_writing) SetResetAtClose(connection.fd, false);
    Close(number);
    return;
  }
  connection.sent += sent > 0 ? static_cast<size_t>(sent) : 0;
  if (!was_writing) SetResetAtClose(connection.fd, true);
  if (!EnterSource(number)) {
    Close(number);
    return;
  }
  // A reader that takes something has its time again.
  connection.state = Connection::State::kWriting;
  connection.partial = {};
  connections_.SetDeadline(number, MonotonicCoarseMs() + packet_timeout_ms_);
  connection.pending = true;
  loop_->AwaitWritable(number, connection.fd);
}

void Worker::OnWritable(uint32_t number) {
  Connection& connection = connections_[number];
  connection.pending = false;
  if (connection.state == Connection::State::kWriting) {
    SendRest(number);
  } else {
    Close(number);
  }
}

void Worker::CloseMalformed(uint32_t number) {
  Count(statistics_.closed_malformed);
  Log(Severity::kRequests, "fd %d: closed without a reply", connections_[number].fd);
  Close(number);
}

void Worker::Close(uint32_t number) {
  Connection& connection = connections_[number];
  Log(Severity::kConnections, "fd %d: closed", connection.fd);
  connections_.ClearDeadline(number);
  loop_->Forget(number, connection.fd);
  // Whatever it says, the descriptor is gone after it.
  close(connection.fd);
  shared_.sources.Leave(connection.source);
  connections_.Return(number);
  statistics_.connections_now.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::Abort(uint32_t number) {
  Connection& connection = connections_[number];
  if (!connection.pending) {
    Close(number);
    return;
  }
  connections_.ClearDeadline(number);
  // Both fail only where the peer has ended it, and then the operation completes too.
  if (connection.state == Connection::State::kWriting) {
    Reset(connection.fd);
  } else {
    shutdown(connection.fd, SHUT_RDWR);
  }
  connection.state = Connection::State::kEnding;
  connection.reply = nullptr;
  connection.partial = {};
}

void Worker::EndNode(uint32_t number) {
  Connection& connection = connections_[number];
  if (registry_.Unregister(connection.slot, connection.registration_id)) {
    Count(statistics_.unregistered);
    Log(Severity::kRegistrations, "unregistered the node of fd %d", connection.fd);
  }
  shared_.custody.GiveUp(connection.slot, connection.fd);
  // Whoever else holds it lets it go when it hangs up (store.h).
  shutdown(connection.fd, SHUT_RDWR);
  Close(number);
}

uint32_t Worker::Evict(uint32_t count) {
  const int64_t newest_deadline_ms = MonotonicCoarseMs() - kEvictionAgeMinMs + packet_timeout_ms_;
  uint32_t evicted = 0;
  for (; evicted < count && connections_.first() != kNoConnection; ++evicted) {
    const uint32_t oldest = connections_.first();
    if (connections_[oldest].deadline_ms > newest_deadline_ms) break;
    Count(statistics_.closed_evicted);
    EndUnfinished(oldest);
  }
  return evicted;
}

void Worker::EndUnfinished(uint32_t number) {
  Connection& connection = connections_[number];
  if (connection.state != Connection::State::kReading) {
    Abort(number);
    return;
  }
  connections_.ClearDeadline(number);
  connection.state = Connection::State::kEvicted;
  // The pending read completes: with the request, if that is there already, else with the end.
  // Fails only where the peer has ended it, and then the read completes too.
  shutdown(connection.fd, SHUT_RD);
}

void Worker::EndOverdue(int64_t now_ms) {
  while (connections_.first() != kNoConnection &&
         connections_[connections_.first()].deadline_ms <= now_ms) {
    const uint32_t number = connections_.first();
    Count(statistics_.closed_timeout);
    Log(Severity::kRequests, "fd %d: closed, no complete request or reply not taken in time",
        connections_[number].fd);
    EndUnfinished(number);
  }
}

}  // namespace evermap
