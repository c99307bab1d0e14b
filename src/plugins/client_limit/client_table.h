#pragma once
// What is counted of each client: tables of fixed size for the whole process, shared by all workers without a lock.
//
// A client is known by a hash, keyed by a number drawn at the start, of what it is counted for and its address. Tables
// are sets of eight entries; a client can be in any entry of its set. When a set is full RateTable forgets the client
// that has been good for longest; ConnectionTable never forgets one that has requests in progress and lets the newcomer
// pass.
//
// Counts are exact across workers, with one exception: when a client's first requests ever arrive on several workers in
// the same instant, each of these may be counted for itself.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "net/address.h"

namespace sluice::plugins::client_limit {

// Never 0. An IPv6 client is its /64: it has all addresses of that.
uint64_t client_key(uint64_t scope, const net::Address& client);
// A scope's number from its name.
uint64_t scope_key(std::string_view name);

// A rate with a burst, as local_rate_limit::TokenBucket counts it.
struct Rate {
  uint64_t token_ns = 0;  // time in which a token flows in
  uint64_t empty_ns = 0;  // time in which an empty bucket fills
};

class RateTable {
 public:
  static RateTable& instance();

  // Takes a token of the client's bucket; false if there is none.
  bool take(uint64_t key, const Rate& rate, uint64_t now_ns);

  static constexpr size_t kSets = 8192, kWays = 8;

 private:
  struct Entry {
    std::atomic<uint64_t> key{0};
    std::atomic<uint64_t> full_at{0};  // ns
  };
  using Set = std::array<Entry, kWays>;
  static Entry* find(Set& set, uint64_t key);
  Entry* claim(Set& set, uint64_t key, uint64_t now_ns);

  std::array<Set, kSets> sets_;
};

class ConnectionTable {
 public:
  static ConnectionTable& instance();

  // One that has come in and must leave().
  struct Place {
    std::atomic<uint64_t>* word = nullptr;  // null: not counted
  };
  enum class Entry : uint8_t { kIn, kFull, kNoRoom };
  Entry enter(uint64_t key, uint32_t most, Place* place);
  static void leave(Place place) { place.word->fetch_sub(1, std::memory_order_relaxed); }

  static constexpr size_t kSets = 8192, kWays = 8;
  static constexpr uint32_t kMost = UINT16_MAX - 1;

 private:
  // 48 bits of the key, 16 of the count: both change together.
  using Set = std::array<std::atomic<uint64_t>, kWays>;
  std::array<Set, kSets> sets_{};
};

}  // namespace sluice::plugins::client_limit
