#pragma once
// Configuration of local-rate-limit.

#include <cstdint>

#include "plugins/schema.h"

namespace sluice::plugins::local_rate_limit {

enum class Unit : uint8_t { kSecond, kMinute };

// The limit is told in one of two forms: requests per unit, or the token bucket itself. A field of
// 0 was not given.
struct Config {
  int64_t requests_per_unit = 0;
  Unit unit = Unit::kSecond;
  int64_t burst_multiplier = 5;
  int64_t max_tokens = 0;
  int64_t tokens_per_fill = 0;
  int64_t fill_interval_ms = 0;

  // Requests that may pass at once.
  int64_t bucket_size() const;
  // `fill_tokens()` requests pass in each interval, evenly spread.
  int64_t fill_tokens() const;
  int64_t interval_ms() const;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::local_rate_limit
