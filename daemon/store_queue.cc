#include "daemon/store_queue.h"

namespace evermap {

void StoreQueue::Add(uint32_t slot, uint64_t id, int64_t now_ms) {
  const Young young = {id, now_ms + kAgeMs};
  if (order_.empty()) wake_ms_ = young.due_ms;
  if (young_.insert_or_assign(slot, young).second) order_.push_back(slot);
}

void StoreQueue::Store(int64_t now_ms, size_t stored, StoreFunction store) {
  size_t comparisons = 0;
  for (size_t left = order_.size(); left > 0 && comparisons < kComparisonsPerTick; --left) {
    const uint32_t slot = order_.front();
    order_.pop_front();
    const auto found = young_.find(slot);
    if (found->second.due_ms > now_ms) {
      order_.push_back(slot);
      continue;
    }
    const uint64_t id = found->second.id;
    young_.erase(found);
    if (store(slot, id)) comparisons += stored++;
  }
  wake_ms_ = now_ms + kTickMs;
}

void StoreQueue::StoreAll(StoreFunction store) {
  for (const uint32_t slot : order_) store(slot, young_.find(slot)->second.id);
  order_.clear();
  young_.clear();
}

}  // namespace evermap
