#include "http/header_names.h"

#include <array>
#include <cstring>

// The lookup is an open-addressing table filled at compile time. The hash mixes the length with the first, middle and
// last bytes, which keeps probes short for these names (header_names_test checks the longest chain).

namespace sluice::http {
namespace {

constexpr std::string_view kNames[] = {
#define X(id, name) name,
    SLUICE_HEADER_NAMES(X)
#undef X
};

constexpr size_t kTableSize = 512;

constexpr uint32_t hash_name(std::string_view name) {
  const size_t n = name.size();
  uint32_t h = static_cast<uint32_t>(n) * 0x9e3779b1u;
  h ^= static_cast<unsigned char>(name[0]) * 0x85ebca6bu;
  h ^= static_cast<unsigned char>(name[n / 2]) * 0xc2b2ae35u;
  h ^= static_cast<unsigned char>(name[n - 1]) * 0x27d4eb2fu;
  h ^= static_cast<unsigned char>(name[n - 1 - (n - 1) / 3]) * 0x165667b1u;
  return (h ^ (h >> 15)) * 0x2c1b3c6du >> 23;
}

constexpr auto kTable = [] {
  std::array<uint8_t, kTableSize> table{};
  for (size_t i = 0; i < std::size(kNames); ++i) {
    uint32_t slot = hash_name(kNames[i]) % kTableSize;
    while (table[slot] != 0) slot = (slot + 1) % kTableSize;
    table[slot] = static_cast<uint8_t>(i + 1);
  }
  return table;
}();
static_assert(std::size(kNames) < 255);

}  // namespace

std::string_view header_name(HeaderId id) { return kNames[static_cast<size_t>(id)]; }

HeaderId find_header_id(std::string_view name) {
  if (name.empty()) return HeaderId::kOther;
  uint32_t slot = hash_name(name) % kTableSize;
  while (uint8_t entry = kTable[slot]) {
    const std::string_view candidate = kNames[entry - 1];
    if (candidate.size() == name.size() && std::memcmp(candidate.data(), name.data(), name.size()) == 0) {
      return static_cast<HeaderId>(entry - 1);
    }
    slot = (slot + 1) % kTableSize;
  }
  return HeaderId::kOther;
}

}  // namespace sluice::http
