#include "daemon/custody/deposit_queue.h"

namespace evermap {

void DepositQueue::Add(RegistrationRef node, int64_t now_ms) {
  const Young young = {node.id, now_ms + pace_.age_ms};
  if (order_.empty()) wake_ms_ = young.due_ms;
  if (young_.insert_or_assign(node.slot, young).second) order_.push_back(node.slot);
}

void DepositQueue::Store(int64_t now_ms, size_t held, StoreFunction store) {
  if (!IsDue(now_ms)) return;
  size_t comparisons = 0;
  for (size_t left = order_.size(); left > 0 && comparisons < pace_.comparisons_per_tick; --left) {
    const uint32_t slot = order_.front();
    order_.pop_front();
    const auto found = young_.find(slot);
    if (found->second.due_ms > now_ms) {
      order_.push_back(slot);
      continue;
    }
    const Outcome outcome = store({slot, found->second.id});
    if (outcome == Outcome::kLater) {
      order_.push_front(slot);
      break;
    }
    young_.erase(found);
    if (outcome == Outcome::kStored) comparisons += held++;
  }
  wake_ms_ = now_ms + kTickMs;
}

void DepositQueue::StoreAll(StoreFunction store) {
  while (!order_.empty()) {
    const auto found = young_.find(order_.front());
    if (store({found->first, found->second.id}) == Outcome::kLater) return;
    young_.erase(found);
    order_.pop_front();
  }
}

}  // namespace evermap
