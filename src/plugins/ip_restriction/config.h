#pragma once
// Configuration of ip-restriction.

#include <cstdint>
#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::ip_restriction {

enum class Source : uint8_t { kConnection, kHeader };

struct Config {
  Source source = Source::kConnection;
  std::string header_name = "x-forwarded-for";
  std::vector<std::string> allow, deny;
  int64_t status = 403;
  std::string message = "Your IP address is blocked.";
  std::string body;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::ip_restriction
