// The connections of one worker, and the order in which their time runs out.
//
// Thread safety: a Connections belongs to one worker.
// Memory is taken in chunks as the number of connections grows and never given back: a request
// finds its connection ready.
//
// Invariants:
//   1  A number is either taken or in the list of free ones, never both.
//   2  The list of deadlines is in the order of the deadlines, the earliest first.
#ifndef EVERMAP_DAEMON_SERVE_CONNECTIONS_H_
#define EVERMAP_DAEMON_SERVE_CONNECTIONS_H_

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/serve/source_limit.h"
#include "registry/registration.h"

namespace evermap {

inline constexpr uint32_t kNoConnection = ~0u;

// Text that several connections send.
using SharedText = std::shared_ptr<const std::string>;

struct Connection {
  // Which state follows which is the business of Exchange alone (exchange.h).
  enum class State : uint8_t {
    kFree,          // no connection has this number
    kReading,       // its request is not complete yet
    kDraining,      // its time is over: reads what has already arrived, then closes
    kAwaitingList,  // its NAMES or DUMP is answered when nothing else is to be done
    kPostponed,     // its ALIVE2 is decided when more is known of who holds the name (postponed.h)
    kWriting,       // its peer has not taken the whole reply yet
    kNode,          // keeps a registration alive
    kEnding,        // is reset; will be closed when its pending operation completes
  };
  State state = State::kFree;
  bool pending = false;  // an operation of the loop is (rule 1 of loop.h)
  bool has_deadline = false;
  SourceLimit::Entry source = SourceLimit::kNotCounted;
  int fd = -1;
  uint32_t earlier = kNoConnection;  // neighbours in the list of deadlines
  uint32_t later = kNoConnection;    // of a free one: the next free one
  int64_t progress_ms = 0;           // MonotonicCoarseMs() of its last progress
  RegistrationRef registration;      // kNode
  // kReading, kDraining: what has come of an incomplete request. kPostponed: the request, without
  // its length.
  std::vector<std::byte> partial;
  SharedText reply;  // kWriting
  size_t sent = 0;   // kWriting: so many bytes of `reply` are on their way
};

class Connections {
 public:
  explicit Connections(uint32_t connections_max) : connections_max_(connections_max) {}

  // The connection `number`. REQUIRES: a Take() has returned that number.
  Connection& operator[](uint32_t number) {
    assert(number / kChunk < chunks_.size());
    return chunks_[number / kChunk][number % kChunk];
  }
  const Connection& operator[](uint32_t number) const {
    assert(number / kChunk < chunks_.size());
    return chunks_[number / kChunk][number % kChunk];
  }

  // The number of a free connection, which is free no more; kNoConnection when connections_max are
  // taken.
  uint32_t Take() {
    if (free_ == kNoConnection && !Grow()) return kNoConnection;
    const uint32_t number = free_;
    assert((*this)[number].state == Connection::State::kFree);
    free_ = (*this)[number].later;
    (*this)[number].later = kNoConnection;
    return number;
  }

  // Makes the number free, and resets all that was known of the connection.
  // REQUIRES: the connection has no deadline, and its state is kFree already.
  void Return(uint32_t number) {
    Connection& connection = (*this)[number];
    assert(!connection.has_deadline && connection.state == Connection::State::kFree);
    connection = Connection();
    connection.later = free_;
    free_ = number;
  }

  // The connection has made progress at `progress_ms`: its deadline is one -packet_timeout later, in
  // place of the one that it may have had.
  // REQUIRES: no connection has made progress later, so that the list stays in order without being
  // sorted.
  void NoteProgress(uint32_t number, int64_t progress_ms) {
    ClearDeadline(number);
    assert(last_ == kNoConnection || (*this)[last_].progress_ms <= progress_ms);
    Connection& connection = (*this)[number];
    connection.progress_ms = progress_ms;
    connection.has_deadline = true;
    connection.earlier = last_;
    (last_ == kNoConnection ? first_ : (*this)[last_].later) = number;
    last_ = number;
  }

  // Nothing happens when the connection has no deadline.
  void ClearDeadline(uint32_t number) {
    Connection& connection = (*this)[number];
    if (!connection.has_deadline) return;
    connection.has_deadline = false;
    (connection.earlier == kNoConnection ? first_ : (*this)[connection.earlier].later) =
        connection.later;
    (connection.later == kNoConnection ? last_ : (*this)[connection.later].earlier) =
        connection.earlier;
    connection.earlier = connection.later = kNoConnection;
  }

  // The connection with the earliest deadline, from which `later` leads on; kNoConnection when none
  // has a deadline.
  uint32_t first() const { return first_; }

 private:
  static constexpr uint32_t kChunk = 512;

  bool Grow() {
    const uint32_t begin = static_cast<uint32_t>(chunks_.size()) * kChunk;
    if (begin >= connections_max_) return false;
    chunks_.push_back(std::make_unique<Connection[]>(kChunk));
    const uint32_t end = begin + kChunk < connections_max_ ? begin + kChunk : connections_max_;
    for (uint32_t number = end; number-- > begin;) {
      (*this)[number].later = free_;
      free_ = number;
    }
    return true;
  }

  const uint32_t connections_max_;
  std::vector<std::unique_ptr<Connection[]>> chunks_;
  uint32_t free_ = kNoConnection;
  uint32_t first_ = kNoConnection;
  uint32_t last_ = kNoConnection;
};

}  // namespace evermap

#endif  // EVERMAP_DAEMON_SERVE_CONNECTIONS_H_
