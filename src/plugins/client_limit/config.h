#pragma once
// Configuration of client-limit.

#include <cstdint>
#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::client_limit {

struct Config {
  std::string scope;
  int64_t requests_per_second = 0, requests_per_minute = 0, connections = 0;  // 0: no limit
  int64_t burst_multiplier = 5;
  std::vector<std::string> exempt;
  int64_t status = 503;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::client_limit
