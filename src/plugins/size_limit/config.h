#pragma once
// Configuration of size-limit.

#include <cstdint>

#include "plugins/schema.h"

namespace sluice::plugins::size_limit {

struct Config {
  int64_t request_body_bytes = 0, response_head_bytes = 0;  // 0: no limit
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::size_limit
