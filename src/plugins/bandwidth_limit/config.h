#pragma once
// Configuration of bandwidth-limit.

#include <cstdint>

#include "plugins/schema.h"

namespace sluice::plugins::bandwidth_limit {

struct Config {
  int64_t bytes_per_second = 0;
  int64_t after_bytes = 0;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::bandwidth_limit
