#include "bench/load/node_keeper.h"

#include <sys/epoll.h>

#include <array>
#include <utility>

#include "bench/load/load_thread.h"
#include "registry/base/clock.h"

namespace evermap::bench {
namespace {

constexpr int kPauseMs = 20;
constexpr int kNodeEventsMax = 256;

void Watch(int epoll, const NodeSet::Node& node, size_t number) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLRDHUP;
  event.data.u64 = number;
  // A failure (of memory only) means that the end of this connection is not noticed, so that the
  // node counts as one that was never lost.
  epoll_ctl(epoll, EPOLL_CTL_ADD, node.registration->fd(), &event);
}

}  // namespace

NodeKeeper::NodeKeeper(const Endpoint& endpoint, NodeSet& nodes, bool registers_again)
    : endpoint_(endpoint),
      nodes_(nodes),
      registers_again_(registers_again),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  for (size_t i = 0; i < nodes_.nodes().size(); ++i) {
    if (nodes_.nodes()[i].registration.has_value()) Watch(epoll_.get(), nodes_.nodes()[i], i);
  }
  thread_ = std::thread([this] { Run(); });
}

NodeKeeper::~NodeKeeper() { Finish(); }

NodeKeeper::Counts NodeKeeper::Finish() {
  finish_ = true;
  if (thread_.joinable()) thread_.join();
  return counts_;
}

void NodeKeeper::Run() {
  while (!finish_) {
    NoticeEnds();
    if (registers_again_) RegisterAgain();
  }
}

void NodeKeeper::NoticeEnds() {
  std::array<epoll_event, kNodeEventsMax> events;
  const int ready = epoll_wait(epoll_.get(), events.data(), kNodeEventsMax, kPauseMs);
  for (int i = 0; i < ready; ++i) {
    const size_t number = events[static_cast<size_t>(i)].data.u64;
    NodeSet::Node& node = nodes_.nodes()[number];
    if (!node.registration.has_value()) continue;
    ++counts_.connections_lost;
    gone_.push_back({.node = number,
                     .creation = node.registration->creation(),
                     .again_ns = MonotonicNs() + absl::ToInt64Nanoseconds(kReconnectAfter)});
    node.registration.reset();
  }
}

void NodeKeeper::RegisterAgain() {
  const int64_t now_ns = MonotonicNs();
  std::vector<Gone> still_gone;
  for (Gone& gone : std::exchange(gone_, {})) {
    NodeSet::Node& node = nodes_.nodes()[gone.node];
    if (now_ns < gone.again_ns || finish_) {
      still_gone.push_back(gone);
    } else if (NodeSet::RegisterOne(endpoint_, node).ok()) {
      ++counts_.registered_again;
      if (node.registration->creation() != gone.creation) ++counts_.creations_changed;
      Watch(epoll_.get(), node, gone.node);
    } else {
      gone.again_ns = now_ns + absl::ToInt64Nanoseconds(kReconnectAfter);
      still_gone.push_back(gone);
    }
  }
  gone_ = std::move(still_gone);
}

}  // namespace evermap::bench
