#include "daemon/serve/exchange.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/host/address.h"
#include "daemon/host/log.h"
#include "daemon/host/uncancelled.h"
#include "daemon/serve/counting.h"
#include "registry/base/clock.h"

namespace evermap {
namespace {

using State = Connection::State;
constexpr size_t kStates = static_cast<size_t>(State::kEnding) + 1;

// kTransitions as a set of next states, one bit each, for every state.
constexpr std::array<unsigned, kStates> kNextStates = [] {
  std::array<unsigned, kStates> next = {};
  for (const Transition& transition : kTransitions) {
    next[static_cast<size_t>(transition.from)] |= 1u << static_cast<unsigned>(transition.to);
  }
  return next;
}();

// Sends once, without waiting. A short count is not retried: the caller compares it with `size`.
ssize_t SendNow(int fd, const void* data, size_t size, int flags) {
  ssize_t sent;
  do {
    sent = uncancelled::Send(fd, data, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

// Whether a send that returned `sent` may be tried again later. Lack of memory says nothing about
// the connection.
bool WouldBlock(ssize_t sent) {
  return sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM);
}

// What the send buffer of a new connection takes at once. Linux begins with room for twenty full
// segments: measured 22,448 bytes at an MTU of 296, 28,820 at 576 and 35,040 at 1500, to a reader
// with the smallest buffer. It is less only where the largest of tcp_wmem (tcp(7)) was set to less.
constexpr size_t kTakenAtOnceMax = 16384;

// Makes close(2) reset the connection. A list of names ends with its connection, so the reader of
// half a list must see a reset and not an end, also when this process is killed: that may be
// directly after a part was sent, so it is said before.
void SetResetAtClose(int fd, bool is_wanted) {
  const linger now = {.l_onoff = is_wanted ? 1 : 0, .l_linger = 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

// Resets the connection now; what is pending on it completes.
void Reset(int fd) {
  const sockaddr nowhere = {.sa_family = AF_UNSPEC, .sa_data = {}};
  // connect(2) fails only when there is no connection any more.
  [[maybe_unused]] const int failed = connect(fd, &nowhere, sizeof(nowhere));
}

}  // namespace

Exchange::Exchange(Loop& loop, Shared& shared, WorkerStatistics& statistics)
    : loop_(loop), shared_(shared), statistics_(statistics), connections_(shared.descriptors_max) {}

void Exchange::Become(Connection& connection, State next) {
  assert((kNextStates[static_cast<size_t>(connection.state)] >> static_cast<unsigned>(next) & 1) !=
         0);
  connection.state = next;
}

std::optional<uint32_t> Exchange::Take(int fd, State state) {
  const uint32_t number = connections_.Take();
  if (number == kNoConnection) return std::nullopt;
  ++connections_now_;
  StoreGauge();
  Connection& connection = connections_[number];
  connection.fd = fd;
  Become(connection, state);
  return number;
}

std::optional<uint32_t> Exchange::Open(int fd) {
  const std::optional<uint32_t> number = Take(fd, State::kReading);
  if (!number.has_value()) {
    close(fd);
    return std::nullopt;
  }
  // The text is made only where somebody reads it: nothing is allocated on the path of a request.
  if (IsLogged(Severity::kConnections)) {
    Log(Severity::kConnections, "fd %d: connection from %s", fd, AddressText(PeerAddress(fd)));
  }
  return number;
}

bool Exchange::AdoptNode(OwnedFd& connection, const RegistrationRef& registration) {
  const std::optional<uint32_t> number = Take(connection.get(), State::kNode);
  if (!number.has_value()) return false;
  connection.Release();
  connections_[*number].registration = registration;
  Receive(*number);
  return true;
}

Event Exchange::ReceiveFirst(uint32_t number) {
  const auto bytes = ReceiveNow(connections_[number].fd, absl::MakeSpan(first_bytes_));
  if (bytes.has_value()) return OnReceived(number, *bytes);
  AwaitRequest(number);
  return {};
}

void Exchange::AwaitRequest(uint32_t number) {
  Connection& connection = connections_[number];
  if (connection.state == State::kReading && !connection.has_deadline) {
    if (!EnterSource(number)) {
      Close(number);
      return;
    }
    connections_.NoteProgress(number, MonotonicCoarseMs());
  }
  Receive(number);
}

bool Exchange::EnterSource(uint32_t number) {
  Connection& connection = connections_[number];
  if (connection.source != SourceLimit::kNotCounted) return true;
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

void Exchange::Receive(uint32_t number) {
  Connection& connection = connections_[number];
  assert(!connection.pending);
  connection.pending = true;
  loop_.Receive(number, connection.fd);
}

Event Exchange::OnReceived(uint32_t number, absl::Span<const std::byte> bytes) {
  Connection& connection = connections_[number];
  connection.pending = false;
  if (connection.state == State::kNode) {
    return {.kind = Event::Kind::kNodeEnded,
            .connection = number,
            .fd = connection.fd,
            .registration = connection.registration};
  }
  // The others do not wait for bytes.
  assert(connection.state == State::kReading || connection.state == State::kDraining);
  if (!bytes.empty()) return TakeRequestBytes(number, bytes);
  Close(number);
  return {};
}

Event Exchange::TakeRequestBytes(uint32_t number, absl::Span<const std::byte> bytes) {
  if (turn_begin_ns_ == 0) turn_begin_ns_ = MonotonicNs();
  Connection& connection = connections_[number];
  absl::Span<const std::byte> received = bytes;
  if (!connection.partial.empty()) {
    const auto end =
        std::copy(connection.partial.begin(), connection.partial.end(), joined_.begin());
    std::copy(bytes.begin(), bytes.end(), end);
    received = absl::MakeConstSpan(joined_.data(), connection.partial.size() + bytes.size());
  }
  // Bytes after the longest frame are not looked at, nor those after a frame whose length came
  // earlier.
  size_t size_max = protocol::kFrameSizeMax;
  if (connection.partial.size() >= protocol::kLengthSize) {
    size_max = std::min(size_max, protocol::AnnouncedFrameSize(received));
  }
  const bool has_excess = received.size() > size_max;
  received = received.first(std::min(received.size(), size_max));
  switch (protocol::InspectFrame(received)) {
    case protocol::FrameState::kMalformed:
      return {.kind = Event::Kind::kMalformed, .connection = number, .fd = connection.fd};
    case protocol::FrameState::kIncomplete:
      connection.partial.assign(received.begin(), received.end());
      AwaitRequest(number);
      return {};
    case protocol::FrameState::kComplete:
      return {.kind = Event::Kind::kRequest,
              .has_excess = has_excess,
              .connection = number,
              .fd = connection.fd,
              .is_draining = connection.state == State::kDraining,
              .begin_ns = turn_begin_ns_,
              .body = received.subspan(protocol::kLengthSize)};
  }
  return {};
}

void Exchange::AwaitList(uint32_t number) {
  assert(!connections_[number].pending);
  connections_.ClearDeadline(number);
  Become(connections_[number], State::kAwaitingList);
}

void Exchange::Postpone(const Event& event) {
  Connection& connection = connections_[event.connection];
  if (connection.state == State::kPostponed) return;
  assert(!connection.pending);
  connections_.ClearDeadline(event.connection);
  // The bytes may be part of what was kept of the request.
  connection.partial = std::vector<std::byte>(event.body.begin(), event.body.end());
  Become(connection, State::kPostponed);
}

Event Exchange::TakeUp(uint32_t number, bool has_excess, int64_t begin_ns) {
  const Connection& connection = connections_[number];
  assert(connection.state == State::kPostponed);
  return {.kind = Event::Kind::kRequest,
          .has_excess = has_excess,
          .connection = number,
          .fd = connection.fd,
          .begin_ns = begin_ns,
          .body = connection.partial};
}

void Exchange::KeepNode(uint32_t number, const RegistrationRef& registration,
                        absl::Span<const std::byte> reply, bool has_excess) {
  Connection& connection = connections_[number];
  Become(connection, State::kNode);
  connection.registration = registration;
  connection.partial = {};
  connections_.ClearDeadline(number);
  shared_.sources.Leave(std::exchange(connection.source, SourceLimit::kNotCounted));
  // Keepalive detects a node whose host or network namespace has vanished. If it cannot be set, the
  // loss is found only when another node asks for the name.
  const int on = 1;
  setsockopt(connection.fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  // The send buffer is empty, so this fails only when the node is gone, which the read then
  // reports, or when the kernel has no memory: a node that waits for ever for its reply is worse
  // than one that is told to try again.
  if (SendNow(connection.fd, reply.data(), reply.size(), 0) != static_cast<ssize_t>(reply.size())) {
    shutdown(connection.fd, SHUT_RDWR);
  }
  Receive(number);
  // Later bytes end a registration, and these have come already: the pending read reports an end.
  if (has_excess) shutdown(connection.fd, SHUT_RD);
}

void Exchange::SendAndClose(uint32_t number, absl::Span<const std::byte> reply) {
  Connection& connection = connections_[number];
  // MSG_MORE holds the bytes back until close(), which sends them together with the FIN in one
  // segment.
  const ssize_t sent = SendNow(connection.fd, reply.data(), reply.size(), MSG_MORE);
  if (sent == static_cast<ssize_t>(reply.size()) || (sent < 0 && !WouldBlock(sent))) {
    Close(number);
    return;
  }
  const size_t done = sent > 0 ? static_cast<size_t>(sent) : 0;
  SendTextAndClose(number,
                   std::make_shared<const std::string>(
                       reinterpret_cast<const char*>(reply.data()) + done, reply.size() - done));
}

void Exchange::SendTextAndClose(uint32_t number, SharedText text) {
  Connection& connection = connections_[number];
  connection.reply = std::move(text);
  connection.sent = 0;
  if (connection.reply->size() > kTakenAtOnceMax) SetResetAtClose(connection.fd, true);
  SendRest(number);
}

void Exchange::SendRest(uint32_t number) {
  Connection& connection = connections_[number];
  std::string_view rest = *connection.reply;
  rest.remove_prefix(connection.sent);
  const ssize_t sent = SendNow(connection.fd, rest.data(), rest.size(), MSG_MORE);
  const bool was_writing = connection.state == State::kWriting;
  if (sent == static_cast<ssize_t>(rest.size()) || (sent < 0 && !WouldBlock(sent))) {
    if (was_writing || connection.reply->size() > kTakenAtOnceMax) {
      SetResetAtClose(connection.fd, false);
    }
    Close(number);
    return;
  }
  connection.sent += sent > 0 ? static_cast<size_t>(sent) : 0;
  if (!was_writing) SetResetAtClose(connection.fd, true);
  if (!EnterSource(number)) {
    Close(number);
    return;
  }
  if (!was_writing) Become(connection, State::kWriting);
  connection.partial = {};
  // A reader that takes something has its time again.
  connections_.NoteProgress(number, MonotonicCoarseMs());
  connection.pending = true;
  loop_.AwaitWritable(number, connection.fd);
}

void Exchange::OnWritable(uint32_t number) {
  Connection& connection = connections_[number];
  connection.pending = false;
  // The others do not wait to write.
  assert(connection.state == State::kWriting || connection.state == State::kEnding);
  if (connection.state == State::kWriting) {
    SendRest(number);
  } else {
    Close(number);
  }
}

void Exchange::Close(uint32_t number) {
  Connection& connection = connections_[number];
  assert(!connection.pending);
  // A node's connection may be held by others as well, such as the store (custody/store.h): they
  // let it go when it is shut down.
  if (connection.state == State::kNode) shutdown(connection.fd, SHUT_RDWR);
  Log(Severity::kConnections, "fd %d: closed", connection.fd);
  connections_.ClearDeadline(number);
  loop_.Forget(number, connection.fd);
  // The descriptor is gone after close(2), whatever that returns.
  uncancelled::Close(connection.fd);
  shared_.sources.Leave(connection.source);
  Become(connection, State::kFree);
  connections_.Return(number);
  --connections_now_;
  StoreGauge();
}

void Exchange::StoreGauge() {
  // Before the workers of a mapper that has handed over go on, they are told so; from then on the
  // gauge is the successor's.
  if (shared_.has_successor.load(std::memory_order_acquire)) return;
  statistics_.connections_now.store(connections_now_, std::memory_order_relaxed);
}

void Exchange::EndUnfinished(uint32_t number) {
  Connection& connection = connections_[number];
  assert(connection.has_deadline && connection.pending);
  connections_.ClearDeadline(number);
  if (connection.state == State::kReading) {
    Become(connection, State::kDraining);
    // The pending read completes: with the request, if that has arrived, else with the end.
    // shutdown(2) fails only where the peer has ended the connection, and then the read completes,
    // too.
    shutdown(connection.fd, SHUT_RD);
    return;
  }
  Become(connection, State::kEnding);
  Reset(connection.fd);
  connection.reply = nullptr;
  connection.partial = {};
}

}  // namespace evermap
