#pragma once
// Configuration of mirror.

#include <cstdint>
#include <string>

#include "plugins/schema.h"

namespace sluice::plugins::mirror {

struct Config {
  std::string cluster;
  std::string host;  // of the copies; empty: the request's with "-shadow"
  bool body = true;
  double percentage = 100;
  int64_t max_body_bytes = 1 << 20;
  int64_t timeout_ms = 30'000;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::mirror
