#include "bench/lookup_load.h"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <ctime>
#include <numeric>
#include <random>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "daemon/protocol.h"

namespace evermap::bench {
namespace {

constexpr int kEventsMax = 64;
constexpr int kEpollTimeoutMs = 100;
constexpr int64_t kTimeoutScanNs = 1'000'000'000;
// Source addresses 127.0.0.1 to 127.0.0.254, taken in turn as their ports run out.
constexpr uint32_t kLoopbackSources = 254;
// Longer than any reply about a node of a NodeSet.
constexpr size_t kReplyBufferSize = 256;

int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail with this clock
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

struct Lookup {
  UniqueFd connection;
  size_t node = 0;
  size_t sent = 0;
  size_t received = 0;
  int64_t started_ns = 0;
  bool waits_for_send = false;
  std::array<std::byte, kReplyBufferSize> reply;
};

class LookupLoop {
 public:
  LookupLoop(const Endpoint& endpoint, const NodeSet& nodes, const LookupLoad& load)
      : endpoint_(endpoint), nodes_(nodes), load_(load), lookups_(load.connections) {}

  absl::StatusOr<LookupResult> Run();

 private:
  // Starts lookups in `slot` until one has to be waited for, or until the load is over.
  void StartNext(size_t slot, int64_t now_ns);
  // The next two return true when the lookup has ended, with its outcome in `outcome`.
  bool Start(size_t slot, LookupOutcome& outcome);
  bool Continue(size_t slot, LookupOutcome& outcome);
  bool Receive(Lookup& lookup, LookupOutcome& outcome) const;
  // False when it cannot be sent now; errors show up when the reply is received.
  bool SendRequest(Lookup& lookup) const;
  LookupOutcome Judge(const Lookup& lookup) const;
  bool ConnectFromSomewhere(int fd);
  bool Watch(size_t slot, uint32_t events, int operation);
  void End(size_t slot, LookupOutcome outcome, int64_t now_ns);
  void EndOverdue(int64_t now_ns);
  bool IsOver(int64_t now_ns) const {
    return now_ns >= deadline_ns_ || result_.failed() >= kFailuresMax;
  }

  const Endpoint& endpoint_;
  const NodeSet& nodes_;
  const LookupLoad load_;
  std::vector<std::vector<std::byte>> requests_;  // one for each node
  std::vector<Lookup> lookups_;
  UniqueFd epoll_;
  std::minstd_rand random_;
  uint32_t source_ = 0;  // 0: the kernel's choice
  uint32_t under_way_ = 0;
  int64_t deadline_ns_ = 0;
  LookupResult result_;
};

absl::StatusOr<LookupResult> LookupLoop::Run() {
  epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return absl::ErrnoToStatus(errno, "epoll_create1");
  for (const NodeSet::Node& node : nodes_.nodes()) {
    std::vector<std::byte> request(protocol::kFrameSizeMax);
    request.resize(protocol::EncodePort2Request(node.name, absl::MakeSpan(request)));
    requests_.push_back(std::move(request));
  }

  const int64_t begin_ns = NowNs();
  deadline_ns_ = begin_ns + absl::ToInt64Nanoseconds(load_.duration);
  int64_t now_ns = begin_ns;
  int64_t scanned_ns = begin_ns;
  for (size_t slot = 0; slot < lookups_.size(); ++slot) StartNext(slot, NowNs());

  std::array<epoll_event, kEventsMax> events;
  while (under_way_ > 0) {
    const int ready = epoll_wait(epoll_.get(), events.data(), kEventsMax, kEpollTimeoutMs);
    if (ready < 0 && errno != EINTR) return absl::ErrnoToStatus(errno, "epoll_wait");
    for (int i = 0; i < ready; ++i) {
      const size_t slot = events[static_cast<size_t>(i)].data.u64;
      LookupOutcome outcome{};
      if (!Continue(slot, outcome)) continue;
      now_ns = NowNs();
      End(slot, outcome, now_ns);
      StartNext(slot, now_ns);
    }
    now_ns = NowNs();
    if (now_ns - scanned_ns >= kTimeoutScanNs) {
      scanned_ns = now_ns;
      EndOverdue(now_ns);
    }
  }
  result_.elapsed = absl::Nanoseconds(now_ns - begin_ns);
  return result_;
}

void LookupLoop::StartNext(size_t slot, int64_t now_ns) {
  while (!IsOver(now_ns)) {
    Lookup& lookup = lookups_[slot];
    lookup.started_ns = now_ns;
    lookup.node = random_() % nodes_.nodes().size();
    lookup.sent = 0;
    lookup.received = 0;
    ++under_way_;
    LookupOutcome outcome{};
    if (!Start(slot, outcome)) return;
    now_ns = NowNs();
    End(slot, outcome, now_ns);
  }
}

bool LookupLoop::Start(size_t slot, LookupOutcome& outcome) {
  Lookup& lookup = lookups_[slot];
  lookup.connection =
      UniqueFd(socket(endpoint_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  outcome = LookupOutcome::kConnectFailed;
  if (!lookup.connection.valid() || !ConnectFromSomewhere(lookup.connection.get())) return true;
  // Over loopback the connection is nearly always there by now, which saves waiting for it.
  lookup.waits_for_send = !SendRequest(lookup);
  const uint32_t events = lookup.waits_for_send ? EPOLLIN | EPOLLOUT : EPOLLIN;
  return !Watch(slot, events, EPOLL_CTL_ADD);
}

bool LookupLoop::ConnectFromSomewhere(int fd) {
  for (uint32_t attempt = 0; attempt <= kLoopbackSources; ++attempt) {
    if (source_ > 0) {
      sockaddr_in source{};
      source.sin_family = AF_INET;
      source.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + source_);
      const int on = 1;
      if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) != 0 ||
          bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) != 0) {
        return false;
      }
    }
    if (connect(fd, endpoint_.address(), endpoint_.size()) == 0 || errno == EINPROGRESS) {
      return true;
    }
    if (errno != EADDRNOTAVAIL || !endpoint_.IsLoopback4()) return false;
    source_ = source_ % kLoopbackSources + 1;
  }
  return false;
}

bool LookupLoop::SendRequest(Lookup& lookup) const {
  const absl::Span<const std::byte> rest =
      absl::MakeConstSpan(requests_[lookup.node]).subspan(lookup.sent);
  const ssize_t sent =
      send(lookup.connection.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
  lookup.sent += static_cast<size_t>(sent);
  return lookup.sent == requests_[lookup.node].size();
}

bool LookupLoop::Watch(size_t slot, uint32_t events, int operation) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = slot;
  return epoll_ctl(epoll_.get(), operation, lookups_[slot].connection.get(), &event) == 0;
}

bool LookupLoop::Continue(size_t slot, LookupOutcome& outcome) {
  Lookup& lookup = lookups_[slot];
  if (lookup.waits_for_send && SendRequest(lookup)) {
    lookup.waits_for_send = false;
    if (!Watch(slot, EPOLLIN, EPOLL_CTL_MOD)) {
      outcome = LookupOutcome::kConnectFailed;
      return true;
    }
  }
  return Receive(lookup, outcome);
}

bool LookupLoop::Receive(Lookup& lookup, LookupOutcome& outcome) const {
  while (true) {
    const absl::Span<std::byte> space = absl::MakeSpan(lookup.reply).subspan(lookup.received);
    if (space.empty()) {
      outcome = LookupOutcome::kMalformed;
      return true;
    }
    const ssize_t received = recv(lookup.connection.get(), space.data(), space.size(), 0);
    if (received > 0) {
      lookup.received += static_cast<size_t>(received);
    } else if (received == 0) {
      outcome = Judge(lookup);
      return true;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return false;
    } else if (errno != EINTR) {
      outcome = errno == ECONNRESET ? LookupOutcome::kReset : LookupOutcome::kConnectFailed;
      return true;
    }
  }
}

LookupOutcome LookupLoop::Judge(const Lookup& lookup) const {
  if (lookup.received == 0) return LookupOutcome::kEmpty;
  const absl::StatusOr<protocol::Port2Reply> reply =
      protocol::DecodePort2Reply(absl::MakeConstSpan(lookup.reply).first(lookup.received));
  if (!reply.ok()) return LookupOutcome::kMalformed;
  if (reply->result != 0) return LookupOutcome::kUnknown;
  const NodeSet::Node& asked = nodes_.nodes()[lookup.node];
  const bool right = reply->node.name == asked.name && reply->node.port == asked.port;
  return right ? LookupOutcome::kCorrect : LookupOutcome::kWrongNode;
}

void LookupLoop::End(size_t slot, LookupOutcome outcome, int64_t now_ns) {
  Lookup& lookup = lookups_[slot];
  lookup.connection.Reset();
  ++result_.outcomes[static_cast<size_t>(outcome)];
  if (outcome == LookupOutcome::kCorrect) {
    result_.latencies.Add(static_cast<uint64_t>(now_ns - lookup.started_ns));
  }
  --under_way_;
}

void LookupLoop::EndOverdue(int64_t now_ns) {
  const int64_t timeout_ns = absl::ToInt64Nanoseconds(kLookupTimeout);
  for (size_t slot = 0; slot < lookups_.size(); ++slot) {
    const Lookup& lookup = lookups_[slot];
    if (!lookup.connection.valid() || now_ns - lookup.started_ns < timeout_ns) continue;
    End(slot, LookupOutcome::kTimedOut, now_ns);
    StartNext(slot, now_ns);
  }
}

}  // namespace

std::string_view LookupOutcomeName(LookupOutcome outcome) {
  switch (outcome) {
    case LookupOutcome::kCorrect:
      return "correct";
    case LookupOutcome::kUnknown:
      return "unknown";
    case LookupOutcome::kWrongNode:
      return "wrong_node";
    case LookupOutcome::kMalformed:
      return "malformed";
    case LookupOutcome::kEmpty:
      return "empty";
    case LookupOutcome::kReset:
      return "reset";
    case LookupOutcome::kConnectFailed:
      return "connect_failed";
    case LookupOutcome::kTimedOut:
      return "timed_out";
  }
  return "?";
}

uint64_t LookupResult::failed() const {
  return std::accumulate(outcomes.begin() + 1, outcomes.end(), uint64_t{0});
}

double LookupResult::PerSecond() const {
  const double seconds = absl::ToDoubleSeconds(elapsed);
  return seconds > 0 ? static_cast<double>(correct()) / seconds : 0;
}

absl::StatusOr<LookupResult> RunLookups(const Endpoint& endpoint, const NodeSet& nodes,
                                        const LookupLoad& load) {
  if (nodes.nodes().empty()) return absl::InvalidArgumentError("no nodes to look up");
  if (load.connections < 1 || load.connections > kConnectionsMax) {
    return absl::InvalidArgumentError(absl::StrCat("connections: 1 to ", kConnectionsMax));
  }
  return LookupLoop(endpoint, nodes, load).Run();
}

}  // namespace evermap::bench
