#include "plugins/client_limit/config.h"

#include "plugins/client_limit/client_table.h"
#include "plugins/ip_restriction/address_set.h"

namespace sluice::plugins::client_limit {
namespace {

std::string check_address(std::string& value) { return ip_restriction::AddressSet::check(value); }

std::optional<Problem> check(const Config& config) {
  if (config.requests_per_second || config.requests_per_minute || config.connections) return std::nullopt;
  return Problem{"requests_per_second", "is required, or requests_per_minute, or connections"};
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .text("scope", &Config::scope, "What is counted together: a name of your choice.")
          .required()
          .integer("requests_per_second", &Config::requests_per_second, 0, 1'000'000,
                   "Requests of one client per second, in the long run; 0: no limit.")
          .integer("requests_per_minute", &Config::requests_per_minute, 0, 60'000'000,
                   "Requests of one client per minute, in the long run; 0: no limit.")
          .integer("burst_multiplier", &Config::burst_multiplier, 1, 1000,
                   "This times the rate may come at once, and one more.")
          .integer("connections", &Config::connections, 0, ConnectionTable::kMost,
                   "Requests of one client in progress; 0: no limit.")
          .list("exempt", &Config::exempt, "Clients with these addresses (IP or CIDR) are not limited.", check_address)
          .integer("status", &Config::status, 400, 599, "Status of the answer to what is beyond.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::client_limit
