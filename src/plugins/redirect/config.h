#pragma once
// Configuration of redirect.

#include <cstdint>
#include <string>

#include "plugins/schema.h"

namespace sluice::plugins::redirect {

struct Config {
  uint16_t status = 301;  // 301, 302, 303, 307 or 308
  std::string scheme;     // "http" or "https"; empty: the request's
  std::string host;       // with an optional port; empty: the request's
  std::string path;       // empty: the request's
  bool relative = false;
  bool https_only_on_plaintext = false;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::redirect
