#pragma once
// A 64-bit non-cryptographic hash with a fixed definition: consistent hashing must choose the same endpoint on every
// worker, replica and version.

#include <cstdint>
#include <cstring>
#include <string_view>

namespace sluice {

inline uint64_t mix64(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  return x;
}

inline uint64_t hash64(std::string_view text, uint64_t seed = 0) {
  uint64_t h = mix64(seed + 0x9e3779b97f4a7c15u + text.size());
  while (text.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, text.data(), 8);
    h = mix64(h ^ word) * 0x9fb21c651e98df25u;
    text.remove_prefix(8);
  }
  uint64_t tail = 0;
  if (!text.empty()) std::memcpy(&tail, text.data(), text.size());
  return mix64(h ^ tail);
}

}  // namespace sluice
