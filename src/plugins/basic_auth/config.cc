#include "plugins/basic_auth/config.h"

#include "plugins/basic_auth/htpasswd.h"
#include "plugins/ip_restriction/address_set.h"

namespace sluice::plugins::basic_auth {
namespace {

// Nothing of a hash may get into a message.
std::string check_user(std::string& line) {
  const size_t colon = line.find(':');
  if (colon == 0 || colon == line.npos) return "is not name:hash";
  const size_t end = line.find(':', colon + 1);
  if (scheme_of(std::string_view(line).substr(colon + 1)) != Scheme::kPlain && end != line.npos) line.resize(end);
  std::string problem = check_hash(std::string_view(line).substr(colon + 1));
  return problem.empty() ? problem : "the password of " + in_quotes(line.substr(0, colon)) + " " + problem;
}

std::string check_address(std::string& value) { return ip_restriction::AddressSet::check(value); }

std::string check_realm(std::string& value) {
  for (char c : value) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return "holds a control character";
  }
  return {};
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .text("realm", &Config::realm, "What the client shows when it asks for the password.", check_realm)
          .list("users", &Config::users,
                "`name:hash` as htpasswd writes it. A name that is there twice counts the first time.", check_user)
          .required()
          .list("skip_addresses", &Config::skip_addresses,
                "Clients with these addresses (IP or CIDR) pass without a password.", check_address);
  return kSchema;
}

}  // namespace sluice::plugins::basic_auth
