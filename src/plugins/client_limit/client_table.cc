#include "plugins/client_limit/client_table.h"

#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

#include "base/hash.h"

namespace sluice::plugins::client_limit {
namespace {

uint64_t seed() {
  static const uint64_t kSeed = [] {
    uint64_t value;
    RAND_bytes(reinterpret_cast<uint8_t*>(&value), sizeof(value));
    return value;
  }();
  return kSeed;
}

constexpr uint64_t kCountMask = 0xffff;
constexpr uint64_t tag_of(uint64_t key) { return key & ~kCountMask; }

}  // namespace

uint64_t scope_key(std::string_view name) { return hash64(name, seed()); }

uint64_t client_key(uint64_t scope, const net::Address& client) {
  const auto bytes = client.ip_bytes();
  const size_t size = std::min<size_t>(bytes.size(), 8);
  const uint64_t key = hash64({reinterpret_cast<const char*>(bytes.data()), size}, scope ^ seed());
  return tag_of(key) ? key : key | (kCountMask + 1);
}

RateTable& RateTable::instance() {
  static RateTable* const kTable = new RateTable;
  return *kTable;
}

RateTable::Entry* RateTable::find(Set& set, uint64_t key) {
  for (Entry& entry : set) {
    if (entry.key.load(std::memory_order_acquire) == key) return &entry;
  }
  return nullptr;
}

RateTable::Entry* RateTable::claim(Set& set, uint64_t key, uint64_t now_ns) {
  for (;;) {
    if (Entry* known = find(set, key)) return known;
    Entry* victim = &set[0];
    uint64_t oldest = UINT64_MAX;
    for (Entry& entry : set) {
      const uint64_t full_at = entry.full_at.load(std::memory_order_relaxed);
      if (full_at < oldest) oldest = full_at, victim = &entry;
    }
    uint64_t before = victim->key.load(std::memory_order_relaxed);
    if (!victim->key.compare_exchange_strong(before, key, std::memory_order_acq_rel)) continue;
    if (oldest > now_ns) victim->full_at.store(0, std::memory_order_relaxed);
    return find(set, key);
  }
}

bool RateTable::take(uint64_t key, const Rate& rate, uint64_t now_ns) {
  Set& set = sets_[mix64(key) % kSets];
  Entry* entry = find(set, key);
  if (!entry) entry = claim(set, key, now_ns);
  if (!entry) return true;  // pushed out at once: the set is fought over
  uint64_t full_at = entry->full_at.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t next = std::max(full_at, now_ns) + rate.token_ns;
    if (next - now_ns > rate.empty_ns) return false;
    if (entry->full_at.compare_exchange_weak(full_at, next, std::memory_order_relaxed)) return true;
  }
}

ConnectionTable& ConnectionTable::instance() {
  static ConnectionTable* const kTable = new ConnectionTable;
  return *kTable;
}

ConnectionTable::Entry ConnectionTable::enter(uint64_t key, uint32_t most, Place* place) {
  Set& set = sets_[mix64(key) % kSets];
  const uint64_t tag = tag_of(key);
  for (;;) {
    std::atomic<uint64_t>* own = nullptr;
    std::atomic<uint64_t>* free = nullptr;
    uint64_t own_word = 0, free_word = 0;
    for (std::atomic<uint64_t>& word : set) {
      const uint64_t value = word.load(std::memory_order_relaxed);
      if (!own && tag_of(value) == tag) own = &word, own_word = value;
      if (!free && (value & kCountMask) == 0) free = &word, free_word = value;
    }
    if (!own) {
      if (!free) return Entry::kNoRoom;
      if (!free->compare_exchange_strong(free_word, tag | 1, std::memory_order_relaxed)) continue;
      place->word = free;
      return Entry::kIn;
    }
    if ((own_word & kCountMask) >= most) return Entry::kFull;
    if (!own->compare_exchange_strong(own_word, own_word + 1, std::memory_order_relaxed)) continue;
    place->word = own;
    return Entry::kIn;
  }
}

}  // namespace sluice::plugins::client_limit
