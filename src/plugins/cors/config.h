#pragma once
// Configuration of cors.

#include <cstdint>
#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::cors {

struct Config {
  std::vector<std::string> allow_origins = {"*"};
  std::vector<std::string> allow_methods = {"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"};
  std::vector<std::string> allow_headers = {"DNT",           "X-CustomHeader",   "Keep-Alive",
                                            "User-Agent",    "X-Requested-With", "If-Modified-Since",
                                            "Cache-Control", "Content-Type",     "Authorization"};
  std::vector<std::string> expose_headers;
  bool allow_credentials = true;
  int64_t max_age = 1728000;  // seconds
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::cors
