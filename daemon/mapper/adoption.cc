#include "daemon/mapper/adoption.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <utility>

#include "daemon/custody/words.h"
#include "daemon/host/close_aside.h"
#include "daemon/host/log.h"
#include "daemon/process/fault_point.h"
#include "registry/base/clock.h"
#include "registry/reader.h"

namespace evermap {

Adoption::Adoption(const Registry& registry, Custody& custody, Restoration& restoration,
                   Timers& timers, std::function<void()> on_end)
    : registry_(registry),
      custody_(custody),
      restoration_(restoration),
      on_end_(std::move(on_end)),
      turn_(timers, [this] { Turn(); }),
      silence_(timers,
               [this] {
                 Log(Severity::kError,
                     "the keeper does not hand over all connections; nodes without one are found "
                     "as long as they live");
                 End();
               }),
      late_end_(timers, [this] { EndLate(); }) {
  assert(on_end_ != nullptr);
}

void Adoption::Begin(std::vector<OwnedFd> connections, OwnedFd link) {
  assert(!is_handed_over_);
  is_handed_over_ = true;
  connections_ = std::move(connections);
  link_ = std::move(link);
  const uint32_t awaited = registry_.view().CountConnected();
  // What is here already has its descriptors.
  const size_t received = link_.valid() ? connections_.size() : awaited;
  custody_.SetAwaited(awaited,
                      awaited - static_cast<uint32_t>(std::min<size_t>(awaited, received)));
  const int64_t now_ms = MonotonicCoarseMs();
  turn_.Plan(now_ms + kServeFirstMs);
  if (link_.valid()) silence_.Plan(now_ms + kSilenceMaxMs);
}

void Adoption::AwaitLate() {
  is_late_awaited_ = true;
  custody_.SetAwaitsLate(true);
  late_end_.Plan(MonotonicCoarseMs() + kLateMaxMs);
}

void Adoption::EndLate() {
  late_end_.Cancel();
  is_late_awaited_ = false;
  // What has come late is looked at before anybody is told that nothing comes.
  if (!is_handed_over_) custody_.SetAwaitsLate(false);
  on_end_();
}

void Adoption::Turn() {
  if (!is_handed_over_) return;
  if (!has_read_registry_) {
    has_read_registry_ = true;
    restoration_.ReadRegistry();
  } else if (!connections_.empty()) {
    const size_t count = std::min(connections_.size(), kPerTurn);
    const auto first = connections_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<OwnedFd> taken(std::make_move_iterator(first),
                               std::make_move_iterator(connections_.end()));
    connections_.erase(first, connections_.end());
    CountLost(count - restoration_.Restore(std::move(taken)), /*received=*/0);
    FaultPoint("mapper:adopting");
  }
  if (!connections_.empty()) {
    turn_.Plan(MonotonicCoarseMs());
  } else if (!link_.valid()) {
    End();
  }
}

void Adoption::OnLink() {
  assert(link() >= 0);
  TakeMessage();
  if (is_handed_over_ && !link_.valid()) End();
}

void Adoption::TakeMessage() {
  Notification message;
  switch (ReceiveNotification(link_.get(), message)) {
    case Received::kNothing:
      return;
    case Received::kClosed:
      link_ = OwnedFd();
      return;
    case Received::kMessage:
      break;
  }
  if (message.Says(words::kYours)) {
    link_ = OwnedFd();
    CloseAside(std::exchange(message.fds, {}));
  }
  const size_t count = message.fds.size();
  if (!is_handed_over_) {
    restoration_.RestoreLate(std::move(message.fds));
    return;
  }
  CountLost(count - restoration_.Restore(std::move(message.fds)), count);
  silence_.Plan(MonotonicCoarseMs() + kSilenceMaxMs);
  if (count > 0) FaultPoint("mapper:adopting");
}

void Adoption::CountLost(size_t lost, size_t received) {
  const auto without = [](uint32_t awaited, size_t come) {
    return awaited - static_cast<uint32_t>(std::min<size_t>(awaited, come));
  };
  custody_.SetAwaited(without(custody_.awaited(), lost),
                      without(custody_.awaited_descriptors(), received));
}

void Adoption::AddLate(std::vector<OwnedFd> connections) {
  if (!is_handed_over_) {
    restoration_.RestoreLate(std::move(connections));
    return;
  }
  std::move(connections.begin(), connections.end(), std::back_inserter(late_));
}

void Adoption::End() {
  is_handed_over_ = false;
  turn_.Cancel();
  silence_.Cancel();
  restoration_.OrphanTheRest();
  restoration_.RestoreLate(std::exchange(late_, {}));
  custody_.SetComplete();
  custody_.SetAwaitsLate(is_late_awaited_);
  on_end_();
}

}  // namespace evermap
