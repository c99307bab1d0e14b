#include "plugins/ip_restriction/config.h"

#include "plugins/ip_restriction/address_set.h"

namespace sluice::plugins::ip_restriction {
namespace {

std::string check_entry(std::string& value) { return AddressSet::check(value); }

std::optional<Problem> check(const Config& config) {
  if (config.allow.empty() && config.deny.empty()) return Problem{"allow", "is required, or deny"};
  return std::nullopt;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .choice("ip_source_type", &Config::source,
                  {{"origin-source", Source::kConnection}, {"header", Source::kHeader}},
                  "Where the client's address is read: the connection (as trusted hops tell it), or a header.")
          .text("ip_header_name", &Config::header_name,
                "The header, with `ip_source_type: header`. The first address in it counts; only a proxy in front that "
                "sets it makes it trustworthy.",
                check_header_name)
          .list("allow", &Config::allow, "Addresses and networks that may come; all others may not.", check_entry)
          .list("deny", &Config::deny, "Addresses and networks that may not come, even if `allow` holds them.",
                check_entry)
          .integer("status", &Config::status, 200, 599, "Status of the answer to those who may not come.")
          .text("message", &Config::message, "The answer's body is `{\"message\":\"…\"}` with this text.")
          .text("body", &Config::body, "The whole body instead.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::ip_restriction
