// Walking the chain of records that share a bucket, and taking a record off it.
//
// Thread safety: any number of walks and changes may run at once, in any processes.
// Invariants: L-3 to L-6 in layout.h. While the link that led to a record is unchanged, the record
// is on the chain; so what was read of it before that check is of a record of this chain.
#ifndef EVERMAP_REGISTRY_CHAIN_H_
#define EVERMAP_REGISTRY_CHAIN_H_

#include <cstdint>
#include <string_view>
#include <type_traits>

#include "registry/layout.h"
#include "registry/record_text.h"
#include "registry/segment.h"
#include "registry/text_place.h"

namespace evermap {

// One walk along one chain. Use:
//
//   ChainWalk walk(segment, bucket);
//   while (walk.Next() == ChainStep::kRecord) { look at walk.record(); }
//
// A walk over a const Segment, or over a FormerSegment, writes nothing and meets records that are
// being taken out like others. A walk over a mutable Segment takes them off the chain as it meets
// them.
enum class ChainStep : uint8_t {
  kRecord,   // stands on a record
  kEnd,      // all records of the chain were met, except those linked after the walk began
  kChanged,  // a link changed under the walk: begin again
  kBroken,   // the chain is damaged
};

template <typename SegmentType>
class ChainWalk {
  static constexpr bool kUnlinks = !std::is_const_v<SegmentType>;
  using Link = std::conditional_t<kUnlinks, layout::Word, const layout::Word>;

 public:
  ChainWalk(SegmentType& segment, uint32_t bucket)
      : segment_(segment), head_(&segment.bucket(bucket)), anchor_(head_) {
    at_ = anchor_value_ = head_value_ = anchor_->load(std::memory_order_acquire);
  }

  ChainStep Next() {
    if (on_record_) {
      if (!IsValid()) return ChainStep::kChanged;
      // The links of a run of marked records do not change while the one that leads to the
      // run does not (L-4), so that one stays the anchor.
      if (!layout::IsMarked(next_)) {
        anchor_ = &segment_.record(index_).next;
        anchor_value_ = next_;
      }
      at_ = next_;
    }
    on_record_ = true;
    while (!layout::IsEnd(at_)) {
      index_ = layout::IndexOf(at_);
      if (!segment_.HasRecord(index_) || ++steps_ > segment_.capacity()) {
        return ChainStep::kBroken;
      }
      next_ = segment_.record(index_).next.load(std::memory_order_acquire);
      if constexpr (kUnlinks) {
        if (layout::IsMarked(next_)) {
          if (!Unlink()) return ChainStep::kChanged;
          continue;
        }
      }
      return ChainStep::kRecord;
    }
    return ChainStep::kEnd;
  }

  // Whether the record, as read so far, is on the chain (L-6).
  bool IsValid() const { return anchor_->load(std::memory_order_acquire) == anchor_value_; }

  uint32_t index() const { return index_; }
  decltype(auto) record() const { return segment_.record(index_); }
  // The head as it was when the walk began, except for records that the walk itself took off.
  uint64_t head_value() const { return head_value_; }

 private:
  // Leads the anchor past the marked record that it leads to.
  bool Unlink() {
    const uint64_t past = layout::LinkLike(next_, anchor_value_);
    uint64_t expected = anchor_value_;
    if (!anchor_->compare_exchange_strong(expected, past, std::memory_order_acq_rel,
                                          std::memory_order_acquire)) {
      return false;
    }
    anchor_value_ = at_ = past;
    if (anchor_ == head_) head_value_ = past;
    return true;
  }

  SegmentType& segment_;
  Link* head_;
  Link* anchor_;  // the last unmarked link before the record
  uint64_t head_value_ = 0;
  uint64_t anchor_value_ = 0;
  uint64_t at_ = 0;    // the link to the record
  uint64_t next_ = 0;  // the link from it
  uint32_t index_ = 0;
  uint32_t steps_ = 0;
  bool on_record_ = false;
};

// Whether a record has this name. Holds for one version of the record only if its state word
// is the same before and after. REQUIRES: name.size() <= kRegistryNameSizeMax.
template <typename SegmentType>
bool HasName(const SegmentType& segment, uint32_t index, uint64_t hash, std::string_view name) {
  const auto& record = segment.record(index);
  if (layout::Load(record.hash) != hash) return false;
  if (layout::NameSizeOf(layout::Load(record.sizes)) != name.size()) return false;
  return TextIs(NameWords(segment, index, name.size()), name);
}

// The result of a search for one record.
enum class ChainSearch : uint8_t { kLinked, kNotLinked, kUnknown };

// Whether record `index` is on the chain of `bucket`. kUnknown only in a damaged segment.
// REQUIRES: HasRecord(index); `bucket` comes from BucketOf().
ChainSearch FindOnChain(Segment& segment, uint32_t bucket, uint32_t index);

// Takes record `index` off its chain; false only in a damaged segment.
// REQUIRES: the caller is its claimant, and it is retiring.
bool TakeOffChain(Segment& segment, uint32_t index);

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_CHAIN_H_
