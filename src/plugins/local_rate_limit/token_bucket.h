#pragma once
// TokenBucket: a token bucket that all workers share, in one atomic word and without a lock.
//
// Instead of a count and the time of the last refill it keeps the moment at which the bucket will
// be full again (the generic cell rate algorithm's theoretical arrival time). A token is worth the
// time in which one flows in; taking one moves that moment into the future by as much, and is
// refused if it would then be farther away than an empty bucket's.
//
// Any thread. The clock is the caller's, monotonic, in nanoseconds; clocks of different threads may
// differ a little.

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace sluice::plugins::local_rate_limit {

class TokenBucket {
 public:
  // All at least 1. Full at the beginning.
  TokenBucket(uint64_t size, uint64_t tokens, uint64_t interval_ns)
      : token_ns_(std::max<uint64_t>(interval_ns / tokens, 1)), empty_ns_(saturated_product(size, token_ns_)) {}

  bool take(uint64_t now_ns) {
    uint64_t full_at = full_at_.load(std::memory_order_relaxed);
    for (;;) {
      const uint64_t next = std::max(full_at, now_ns) + token_ns_;
      if (next - now_ns > empty_ns_) return false;
      if (full_at_.compare_exchange_weak(full_at, next, std::memory_order_relaxed)) return true;
    }
  }

 private:
  // A bucket that takes centuries to fill is as good as one that never does; the sum with a clock
  // must not overflow.
  static uint64_t saturated_product(uint64_t a, uint64_t b) {
    constexpr uint64_t kMax = uint64_t{1} << 62;
    return a > kMax / b ? kMax : a * b;
  }

  const uint64_t token_ns_;
  const uint64_t empty_ns_;  // time in which an empty bucket fills
  alignas(64) std::atomic<uint64_t> full_at_{0};
};

}  // namespace sluice::plugins::local_rate_limit
