// SipHash (Aumasson and Bernstein, 2012): a hash under a secret-free but random key, so that names
// chosen without knowing the segment do not all fall into one bucket.
#ifndef EVERMAP_REGISTRY_SIPHASH_H_
#define EVERMAP_REGISTRY_SIPHASH_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace evermap {

struct SipHashKey {
  uint64_t low = 0;
  uint64_t high = 0;
};

// The bytes at `bytes` as a number, the first being the lowest; missing ones count as zero.
// REQUIRES: size <= 8.
inline uint64_t LoadWord(const char* bytes, size_t size) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, size);
  return word;
}

// SipHash-kRounds-kFinalRounds; the registry uses 1-3.
template <int kRounds, int kFinalRounds>
uint64_t SipHash(const SipHashKey& key, std::string_view bytes) {
  uint64_t v0 = key.low ^ 0x736f6d6570736575;
  uint64_t v1 = key.high ^ 0x646f72616e646f6d;
  uint64_t v2 = key.low ^ 0x6c7967656e657261;
  uint64_t v3 = key.high ^ 0x7465646279746573;
  const auto mix = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      v0 += v1;
      v2 += v3;
      v1 = std::rotl(v1, 13) ^ v0;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 = std::rotl(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = std::rotl(v1, 17) ^ v2;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 = std::rotl(v2, 32);
    }
  };
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const uint64_t word = LoadWord(bytes.data() + at, 8);
    v3 ^= word;
    mix(kRounds);
    v0 ^= word;
  }
  const uint64_t last =
      (uint64_t{bytes.size()} << 56) | LoadWord(bytes.data() + at, bytes.size() - at);
  v3 ^= last;
  mix(kRounds);
  v0 ^= last;
  v2 ^= 0xff;
  mix(kFinalRounds);
  return v0 ^ v1 ^ v2 ^ v3;
}

inline uint64_t HashName(const SipHashKey& key, std::string_view name) {
  return SipHash<1, 3>(key, name);
}

}  // namespace evermap

#endif  // EVERMAP_REGISTRY_SIPHASH_H_
