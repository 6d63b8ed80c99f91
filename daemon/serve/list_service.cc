#include "daemon/serve/list_service.h"

#include <algorithm>
#include <cassert>

#include "daemon/serve/counting.h"
#include "daemon/serve/descriptor_budget.h"
#include "registry/base/clock.h"

namespace evermap {

void ListService::Add(uint32_t connection, List list, int64_t begin_ns) {
  exchange_.AwaitList(connection);
  waiting_.push_back({connection, list, begin_ns});
  if (IsDescriptorTableFull(exchange_.connections()[connection].fd,
                            shared_.descriptors_max - shared_.custody.awaited_descriptors())) {
    is_urgent_ = true;
  }
}

bool ListService::IsDue(int64_t now_ms) const {
  assert(has_waiting());
  return in_batch_ > 0 || is_urgent_ ||
         now_ms - waiting_.front().begin_ns / kNsPerMs >= kListWaitMs;
}

void ListService::AnswerSome() {
  if (in_batch_ == 0) in_batch_ = waiting_.size();
  do {
    SendSome();
  } while (is_urgent_ && in_batch_ > 0);
  if (in_batch_ == 0) batch_texts_ = {};
  if (waiting_.empty()) is_urgent_ = false;
}

void ListService::SendSome() {
  size_t count = 0;
  size_t size = 0;
  while (count < std::min(in_batch_, kListsPerTurn) && size < kListBytesPerTurn) {
    const auto [connection, list, begin_ns] = waiting_[count];
    const SharedText& text = batch_texts_[static_cast<size_t>(list)];
    if (text == nullptr && !MakeText(list)) break;
    size += text->size();
    exchange_.SendTextAndClose(connection, text);
    CountLatency(statistics_, begin_ns);
    ++count;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(count));
  in_batch_ -= count;
}

bool ListService::MakeText(List list) {
  SharedText& text = batch_texts_[static_cast<size_t>(list)];
  if (maker_ == nullptr) {
    if (list == List::kNames && names_text_ != nullptr &&
        names_generation_ == shared_.registry.view().generation()) {
      text = names_text_;
      return true;
    }
    maker_ =
        std::make_unique<ListMaker>(list, shared_.registry, shared_.custody, shared_.options.port);
  }
  if (!maker_->Step()) return false;
  text = kept_texts_.Keep(maker_->TakeText());
  // Slow readers are evicted before the first reader of this text can become one: a single text may
  // be longer than all of them together may be.
  eviction_.EvictSlowReaders(kept_texts_);
  if (list == List::kNames) {
    names_text_ = text;
    names_generation_ = maker_->generation();
  }
  maker_ = nullptr;
  return true;
}

}  // namespace evermap
