#include "registry/segment_header.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <vector>

#include "registry/base/clock.h"
#include "registry/base/owned_fd.h"
#include "registry/former_layouts.h"
#include "registry/layout.h"

namespace evermap {
namespace {

using layout::HeaderWord;
using layout::LayoutDescription;
using layout::Load;
using layout::Store;
using layout::Word;

// The fingerprint guards against damage, not against forgers: its key is no secret.
constexpr SipHashKey kFingerprintKey{0x6576657267726565, 0x6e2d6d6170706572};

const Word& At(const void* header, uint32_t offset) {
  return *reinterpret_cast<const Word*>(static_cast<const char*>(header) + offset);
}
Word& At(void* header, uint32_t offset) {
  return *reinterpret_cast<Word*>(static_cast<char*>(header) + offset);
}

uint64_t Fingerprint(const LayoutDescription& description, const void* header) {
  std::string bytes(description.header.fingerprint, '\0');
  for (uint32_t at = 0; at < description.header.fingerprint; at += sizeof(Word)) {
    const uint64_t word = Load(At(header, at));
    std::memcpy(bytes.data() + at, &word, sizeof(word));
  }
  return SipHash<2, 4>(kFingerprintKey, bytes);
}

Problem BadHeader(const std::string& path, const std::string& what) {
  return {Problem::Kind::kUnacceptable,
          path + ": " + what + "; remove it or name another with -registry"};
}

}  // namespace

BootId CurrentBootId() {
  BootId id = {0, 0};
  OwnedFd fd(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return id;
  char text[64];
  const ssize_t size = read(fd.get(), text, sizeof(text));
  int digits = 0;
  for (ssize_t i = 0; i < size && digits < 32; ++i) {
    const char c = text[i];
    uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c - 'a') + 10;
    } else {
      continue;  // the hyphens of a UUID
    }
    uint64_t& half = id[digits < 16 ? 0 : 1];
    half = (half << 4) | digit;
    ++digits;
  }
  return digits == 32 ? id : BootId{0, 0};
}

bool MayBeOneBoot(const BootId& one, const BootId& other) {
  const auto is_known = [](const BootId& id) { return id[0] != 0 && id[1] != 0; };
  return one == other || !is_known(one) || !is_known(other);
}

size_t HeaderSizeMax() {
  size_t size = layout::kDescription.header_size;
  for (const LayoutDescription* former : layout::kFormerLayouts) {
    size = std::max<size_t>(size, former->header_size);
  }
  return size;
}

const LayoutDescription* DescriptionOf(uint32_t version) {
  if (version == layout::kLayoutVersion) return &layout::kDescription;
  for (const LayoutDescription* former : layout::kFormerLayouts) {
    if (former->version == version) return former;
  }
  return nullptr;
}

Problem CheckHeader(const std::string& path, const void* header, size_t size, uint64_t file_size,
                    SegmentShape& shape) {
  assert(size >= layout::kHeaderSizeMin && size <= file_size);
  if (Load(At(header, layout::kMagicAt)) != layout::kMagic) {
    return BadHeader(path, "is not a registry (wrong magic)");
  }
  const uint32_t version = layout::LowHalf(Load(At(header, layout::kVersionAt)));
  if (version > layout::kLayoutVersion) {
    return {Problem::Kind::kNewer,
            path + ": has layout version " + std::to_string(version) +
                " from a newer version of Evermap than this one, which knows " +
                std::to_string(layout::kLayoutVersion) +
                "; run the newer version, or name another registry with -registry"};
  }
  const LayoutDescription* description = DescriptionOf(version);
  if (description == nullptr) {
    return BadHeader(path, "has unknown layout version " + std::to_string(version));
  }
  if (description->header_size > size) {
    return BadHeader(path, "is truncated (" + std::to_string(file_size) + " bytes)");
  }
  if (Load(At(header, description->header.fingerprint)) != Fingerprint(*description, header)) {
    return BadHeader(path, "is damaged (its header does not match its checksum)");
  }
  const uint32_t capacity = layout::LowHalf(Load(At(header, description->header.capacity)));
  if (capacity == 0 || capacity > kRegistryCapacityMax) {
    return BadHeader(path, "is damaged (impossible capacity)");
  }
  const layout::Geometry geometry = description->geometry(capacity);
  for (const HeaderWord& word : description->header_words(geometry)) {
    if (Load(At(header, word.offset)) != word.value) {
      return BadHeader(path, "is damaged (sizes in its header do not fit together)");
    }
  }
  // Several writers that let it grow at once may make it a little longer than it need be.
  const bool can_grow = geometry.file_size_min != geometry.file_size_max;
  const uint64_t size_max = can_grow ? 2 * geometry.file_size_max : geometry.file_size_max;
  if (file_size < geometry.file_size_min || file_size > size_max) {
    return BadHeader(path, "is truncated or has grown (" + std::to_string(file_size) +
                               " bytes instead of " + std::to_string(geometry.file_size_min) +
                               (can_grow ? " or some more)" : ")"));
  }
  const uint32_t key = description->header.hash_key;
  shape = {description, geometry, {Load(At(header, key)), Load(At(header, key + 8))}};
  return {};
}

void WriteHeader(const LayoutDescription& description, const SegmentOrigin& origin, void* header) {
  for (const HeaderWord& word : description.header_words(description.geometry(origin.capacity))) {
    Store(At(header, word.offset), word.value);
  }
  const LayoutDescription::Header& at = description.header;
  Store(At(header, at.hash_key), origin.hash_key.low);
  Store(At(header, at.hash_key + sizeof(Word)), origin.hash_key.high);
  Store(At(header, at.created_unix_ns), origin.created_unix_ns);
  Store(At(header, at.fingerprint), Fingerprint(description, header));
  Store(At(header, at.boot_id), origin.boot[0]);
  Store(At(header, at.boot_id + sizeof(Word)), origin.boot[1]);
  if (at.steady_offset != layout::kNoSuchWord) {
    Store(At(header, at.steady_offset), static_cast<uint64_t>(UnixNs() - MonotonicNs()));
  }
}

}  // namespace evermap
