#pragma once
// Configuration of request-buffer.

#include <cstdint>

#include "plugins/schema.h"

namespace sluice::plugins::request_buffer {

struct Config {
  int64_t max_bytes = 1 << 20;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::request_buffer
