// The exchange: reads requests from the connections of one worker and writes the replies. It knows
// frames (wire/protocol.h), but not what is asked or answered.
//
//   Event event = exchange.OnReceived(number, bytes);   // the loop has read something
//   if (event.kind == Event::Kind::kRequest) {
//     ... decide what to answer, then call one of SendAndClose(), KeepNode(), AwaitList(), Close()
//   }
//
// Every change of Connection::State happens in here, along kTransitions below. The usual ways are:
//
//   a lookup          kFree -> kReading -> kFree
//   NAMES, DUMP       kFree -> kReading -> kAwaitingList -> kFree
//   the same, slowly  kFree -> kReading -> kAwaitingList -> kWriting -> kFree
//   a node            kFree -> kReading -> kNode -> kFree
//   one that returns  kFree -> kReading -> kPostponed -> kNode -> kFree
//
// Thread safety: an Exchange belongs to one worker.
// Nothing is allocated for a request that arrives as a whole and whose reply the kernel takes as a
// whole.
//
// Invariants:
//   1  A connection has a deadline only while it is kReading or kWriting. Then either an operation
//      of the loop is pending on it, or its request is being answered.
//   2  A connection is counted at its source (source_limit.h) from its first deadline on until it
//      is closed or becomes a node's.
//   3  A connection's descriptor is closed by Close(), and nowhere else.
#ifndef EVERMAP_DAEMON_SERVE_EXCHANGE_H_
#define EVERMAP_DAEMON_SERVE_EXCHANGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "daemon/loop/loop.h"
#include "daemon/serve/connections.h"
#include "daemon/serve/shared.h"
#include "daemon/wire/protocol.h"
#include "registry/base/owned_fd.h"
#include "registry/counters.h"
#include "registry/registration.h"

namespace evermap {

struct Transition {
  Connection::State from;
  Connection::State to;
};
inline constexpr Transition kTransitions[] = {
    {Connection::State::kFree, Connection::State::kReading},  // Open()
    {Connection::State::kFree, Connection::State::kNode},     // AdoptNode()
    // EndUnfinished(): the request did not come in time, or its descriptor is wanted.
    {Connection::State::kReading, Connection::State::kDraining},
    {Connection::State::kReading, Connection::State::kAwaitingList},  // AwaitList()
    {Connection::State::kReading, Connection::State::kWriting},    // a reply not taken as a whole
    {Connection::State::kReading, Connection::State::kNode},       // KeepNode()
    {Connection::State::kReading, Connection::State::kPostponed},  // Postpone()
    {Connection::State::kPostponed, Connection::State::kNode},
    {Connection::State::kPostponed, Connection::State::kWriting},
    // A request that had arrived before its time was over is answered all the same, but for one
    // that would register a node.
    {Connection::State::kDraining, Connection::State::kAwaitingList},
    {Connection::State::kDraining, Connection::State::kWriting},
    {Connection::State::kAwaitingList, Connection::State::kWriting},
    // EndUnfinished(): the reply is not taken in time, or too much memory waits for slow readers.
    {Connection::State::kWriting, Connection::State::kEnding},
    // Close().
    {Connection::State::kReading, Connection::State::kFree},
    {Connection::State::kDraining, Connection::State::kFree},
    {Connection::State::kAwaitingList, Connection::State::kFree},
    {Connection::State::kPostponed, Connection::State::kFree},
    {Connection::State::kWriting, Connection::State::kFree},
    {Connection::State::kNode, Connection::State::kFree},
    {Connection::State::kEnding, Connection::State::kFree},
};

// What the worker is to do after bytes have come on a connection.
struct Event {
  enum class Kind : uint8_t {
    kNothing,
    kRequest,    // answer `body`
    kMalformed,  // close the connection: its bytes are no frame
    kNodeEnded,  // end `registration`, then close the connection
  };
  Kind kind = Kind::kNothing;
  // More bytes came with the request than belong to it. To a node's connection they mean its end.
  bool has_excess = false;
  uint32_t connection = kNoConnection;
  int fd = -1;
  bool is_draining = false;  // kRequest: its time was over (Connection::State::kDraining)
  // kRequest: when the first bytes of this turn were looked at, MonotonicNs().
  int64_t begin_ns = 0;
  // kRequest: the frame without its length; valid until the exchange reads again.
  absl::Span<const std::byte> body = {};
  RegistrationRef registration = {};  // kNodeEnded
};

class Exchange {
 public:
  // All of these outlive the exchange.
  Exchange(Loop& loop, Shared& shared, WorkerStatistics& statistics);

  // Begins a turn of the loop: latencies are counted from the first bytes of a turn on.
  void BeginTurn() { turn_begin_ns_ = 0; }

  // Takes an accepted connection and returns its number, of which ReceiveFirst() is the next call.
  // Nothing when there are as many connections as descriptors; `fd` is closed then.
  std::optional<uint32_t> Open(int fd);
  // Takes the connection of a node that is registered already. False when there are as many
  // connections as descriptors; `connection` is still the caller's then.
  bool AdoptNode(OwnedFd& connection, const RegistrationRef& registration);

  // Reads what has arrived already, since most requests come with their connections, or else waits.
  Event ReceiveFirst(uint32_t number);
  // Takes what the loop has read; no bytes: the end of the connection.
  Event OnReceived(uint32_t number, absl::Span<const std::byte> bytes);
  // Goes on with a reply, or closes a connection that was reset.
  void OnWritable(uint32_t number);

  // Answers a request and closes the connection, now or when the peer has taken all.
  void SendAndClose(uint32_t number, absl::Span<const std::byte> reply);
  void SendTextAndClose(uint32_t number, SharedText text);
  // Lets the request wait for SendTextAndClose(). Meanwhile it has no deadline and is not evicted.
  void AwaitList(uint32_t number);
  // Lets the request of this event wait until it is taken up again. Meanwhile it has no deadline and
  // is not evicted. Does nothing when it waits already.
  void Postpone(const Event& event);
  // The request of a connection that was postponed, once more.
  Event TakeUp(uint32_t number, bool has_excess, int64_t begin_ns);
  // Makes the connection the one that keeps `registration` alive, and sends the reply to it. If
  // that is impossible, or `has_excess`, the event kNodeEnded follows.
  void KeepNode(uint32_t number, const RegistrationRef& registration,
                absl::Span<const std::byte> reply, bool has_excess);

  // Closes the connection. REQUIRES: none of its operations is pending.
  void Close(uint32_t number);
  // Ends a request that did not come, or a reply that was not taken, in time or when the descriptor
  // or memory is wanted. A request that has arrived but was not looked at yet is still answered:
  // this process, or its host, may have stood still. REQUIRES: the connection has a deadline.
  void EndUnfinished(uint32_t number);

  // Stores how many connections there are in the gauge: what stands there at the start is of an
  // earlier mapper.
  void StoreGauge();

  // For looking only.
  const Connections& connections() const { return connections_; }
  // Whether a connection waits for its peer. Nodes, and requests that wait for a list, do not.
  bool has_unfinished() const { return connections_.first() != kNoConnection; }

 private:
  // The one place where a state changes.
  static void Become(Connection& connection, Connection::State next);

  // A new connection's number; nothing when there are as many connections as descriptors.
  std::optional<uint32_t> Take(int fd, Connection::State state);
  Event TakeRequestBytes(uint32_t number, absl::Span<const std::byte> bytes);
  // Waits for the rest of a request, unless its source has too many waiting: then closes it.
  void AwaitRequest(uint32_t number);
  // Counts a connection that waits for its peer; false when its source has as many as it may.
  bool EnterSource(uint32_t number);
  void Receive(uint32_t number);
  void SendRest(uint32_t number);

  Loop& loop_;
  Shared& shared_;
  WorkerStatistics& statistics_;
  Connections connections_;
  uint64_t connections_now_ = 0;  // as many of connections_ are not free
  // When the first bytes of this turn were looked at; 0: there were none yet.
  int64_t turn_begin_ns_ = 0;
  std::array<std::byte, kReceiveSizeMax> first_bytes_;
  // An incomplete request and what follows it.
  std::array<std::byte, protocol::kFrameSizeMax + kReceiveSizeMax> joined_;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_EXCHANGE_H_
