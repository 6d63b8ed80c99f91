// The connections of one worker, and the order in which their time runs out.
//
// Thread safety: belongs to one worker.
// Memory is taken in chunks as the number of connections grows and never given back: a request
// finds its connection ready.
#ifndef EVERMAP_DAEMON_SERVE_CONNECTIONS_H_
#define EVERMAP_DAEMON_SERVE_CONNECTIONS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "daemon/host/address.h"

namespace evermap {

inline constexpr uint32_t kNoConnection = ~0u;

// Text that several connections send.
using SharedText = std::shared_ptr<const std::string>;

struct Connection {
  enum class State : uint8_t {
    kFree,
    kReading,  // a request
    kEvicted,  // reads no more than has arrived
    kWriting,  // the rest of a reply
    kNode,     // keeps a registration alive
    kEnding,   // shut down; closed when its operation completes
  };
  State state = State::kFree;
  bool pending = false;  // an operation of the loop is
  bool has_deadline = false;
  SourceBound::Entry source = SourceBound::kNotCounted;
  int fd = -1;
  uint32_t earlier = kNoConnection;  // neighbours in the list of deadlines
  uint32_t later = kNoConnection;
  int64_t deadline_ms = 0;  // MonotonicCoarseMs()
  // kNode:
  uint32_t slot = 0;
  uint64_t registration_id = 0;
  // kReading: what came of an incomplete request.
  std::vector<std::byte> partial;
  // kWriting: bytes of `reply` before `sent` are on their way.
  SharedText reply;
  size_t sent = 0;
};

class Connections {
 public:
  explicit Connections(uint32_t connections_max) : connections_max_(connections_max) {}

  Connection& operator[](uint32_t number) { return chunks_[number / kChunk][number % kChunk]; }

  // A free one's number; kNoConnection when there are connections_max.
  uint32_t Take() {
    if (free_ == kNoConnection && !Grow()) return kNoConnection;
    const uint32_t number = free_;
    free_ = (*this)[number].later;
    (*this)[number].later = kNoConnection;
    return number;
  }

  // REQUIRES: not in the list of deadlines.
  void Return(uint32_t number) {
    Connection& connection = (*this)[number];
    connection = Connection();
    connection.later = free_;
    free_ = number;
  }

  // All deadlines are equally far away when they are set, so the list stays in their order.
  void SetDeadline(uint32_t number, int64_t deadline_ms) {
    ClearDeadline(number);
    Connection& connection = (*this)[number];
    connection.deadline_ms = deadline_ms;
    connection.has_deadline = true;
    connection.earlier = last_;
    (last_ == kNoConnection ? first_ : (*this)[last_].later) = number;
    last_ = number;
  }

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

  // With the earliest deadline; `later` leads on. kNoConnection: none has one.
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
