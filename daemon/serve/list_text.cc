#include "daemon/serve/list_text.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "daemon/wire/protocol.h"
#include "registry/reader.h"
#include "registry/registration.h"

namespace evermap {
namespace {

// Slots that one step looks at, and lines that one step writes: some 20 us of work.
constexpr uint32_t kSlotsPerStep = 512;
constexpr int kLinesPerStep = 256;

}  // namespace

void NameList::Add(const Registration& registration, uint64_t order, int fd) {
  names_.push_back({order, texts_.size(), fd, registration.name_size, registration.port});
  texts_.append(registration.name());
}

void NameList::EndRun() {
  const size_t begin = runs_end_;
  runs_end_ = names_.size();
  if (begin == runs_end_) return;
  std::sort(names_.begin() + static_cast<ptrdiff_t>(begin), names_.end(),
            [](const Name& a, const Name& b) { return a.order > b.order; });
  runs_.push_back({begin, runs_end_});
  std::push_heap(runs_.begin(), runs_.end(), Later());
}

const NameList::Name* NameList::TakeLatest() {
  assert(runs_end_ == names_.size());
  if (runs_.empty()) return nullptr;
  std::pop_heap(runs_.begin(), runs_.end(), Later());
  Run& run = runs_.back();
  const Name* latest = &names_[run.next];
  if (++run.next == run.end) {
    runs_.pop_back();
  } else {
    std::push_heap(runs_.begin(), runs_.end(), Later());
  }
  return latest;
}

ListMaker::ListMaker(List list, const Registry& registry, const Custody& custody, uint16_t port)
    : list_(list),
      registry_(registry),
      custody_(custody),
      generation_(registry.view().generation()),
      text_(protocol::kPortHeaderSize, '\0') {
  protocol::EncodePortHeader(
      port, absl::MakeSpan(reinterpret_cast<std::byte*>(text_.data()), text_.size()));
}

bool ListMaker::Step() {
  if (!has_all_) {
    const std::optional<uint32_t> next =
        registry_.ForEachOf(list_ == List::kNames ? Which::kRegistered : Which::kAll, next_slot_,
                            kSlotsPerStep, [this](const Registration& node) { Add(node); });
    const bool is_first = next_slot_ == 0;
    has_all_ = !next.has_value();
    next_slot_ = next.value_or(next_slot_);
    for (NameList* list : {&active_, &orphaned_, &old_}) list->EndRun();
    // A short list is made in one step.
    if (!has_all_ || !is_first) return false;
  }
  for (int i = 0; i < kLinesPerStep; ++i) {
    if (AppendLine()) continue;
    is_complete_ = true;
    return true;
  }
  return false;
}

void ListMaker::Add(const Registration& node) {
  const bool is_old = node.state == RegistrationState::kRemembered;
  if (list_ == List::kNames) {
    if (!is_old) active_.Add(node, node.id);
  } else if (is_old) {
    old_.Add(node, node.departure);
  } else if (node.state == RegistrationState::kOrphaned) {
    orphaned_.Add(node, node.id);
  } else {
    active_.Add(node, node.id, custody_.DescriptorOf(node.slot));
  }
}

bool ListMaker::AppendLine() {
  if (const NameList::Name* name = active_.TakeLatest(); name != nullptr) {
    if (list_ == List::kNames) {
      protocol::AppendNamesLine(active_.TextOf(*name), name->port, text_);
    } else {
      protocol::AppendDumpLineActive(active_.TextOf(*name), name->port, name->fd, text_);
    }
    return true;
  }
  if (const NameList::Name* name = orphaned_.TakeLatest(); name != nullptr) {
    protocol::AppendDumpLineOrphaned(orphaned_.TextOf(*name), name->port, text_);
    return true;
  }
  if (latest_old_.empty()) {
    while (latest_old_.size() < kDumpOldMax) {
      const NameList::Name* name = old_.TakeLatest();
      if (name == nullptr) break;
      latest_old_.push_back(name);
    }
    old_left_ = latest_old_.size();
  }
  if (old_left_ == 0) return false;
  const NameList::Name& name = *latest_old_[--old_left_];
  protocol::AppendDumpLineOld(old_.TextOf(name), name.port, -1, text_);
  return true;
}

}  // namespace evermap
