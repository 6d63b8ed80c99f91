// Names and extras as bytes, and as the words of a record that hold them: eight bytes each, the last
// one filled up with zeros.
//
// Thread safety: each word is loaded and stored by itself; a text is whole only if the record's
// state word is the same before and after (L-2).
#ifndef EVERMAP_REGISTRY_RECORD_TEXT_H_
#define EVERMAP_REGISTRY_RECORD_TEXT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "registry/layout_words.h"
#include "registry/siphash.h"

namespace evermap {

inline void StoreText(std::string_view text, layout::Word* words) {
  for (size_t at = 0; at < text.size(); at += 8, ++words) {
    layout::Store(*words, LoadWord(text.data() + at, std::min<size_t>(8, text.size() - at)));
  }
}

// Writes `size` bytes to `out`.
inline void CopyText(const layout::Word* words, size_t size, char* out) {
  size_t at = 0;
  for (; at + 8 <= size; at += 8, ++words) {
    const uint64_t word = layout::Load(*words);
    std::memcpy(out + at, &word, 8);
  }
  if (at < size) {
    const uint64_t word = layout::Load(*words);
    std::memcpy(out + at, &word, size - at);
  }
}

inline bool TextIs(const layout::Word* words, std::string_view text) {
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8, ++words) {
    if (layout::Load(*words) != LoadWord(text.data() + at, 8)) return false;
  }
  return at == text.size() || layout::Load(*words) == LoadWord(text.data() + at, text.size() - at);
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_RECORD_TEXT_H_
