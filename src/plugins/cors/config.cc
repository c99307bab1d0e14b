#include "plugins/cors/config.h"

#include "http/headers.h"

namespace sluice::plugins::cors {
namespace {

std::string check_origin(std::string& value) {
  std::string message = check_header_value(value);
  if (!message.empty()) return message;
  if (value.empty()) return "an origin must not be empty";
  const size_t star = value.find('*');
  if (value == "*" || star == std::string::npos) return {};
  const size_t scheme = value.find("://");
  const bool good = scheme != std::string::npos && star == scheme + 3 &&
                    value.find('*', star + 1) == std::string::npos && value.size() > star + 2 && value[star + 1] == '.';
  return good ? std::string() : in_quotes(value) + " is not an origin: a wildcard is written scheme://*.domain";
}

std::string check_method(std::string& value) {
  if (value == "*" || http::is_token(value)) return {};
  return in_quotes(value) + " is not a method";
}

std::string check_field(std::string& value) {
  if (value == "*" || http::is_token(value)) return {};
  return in_quotes(value) + " is not the name of a header field";
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .list("allow_origins", &Config::allow_origins,
                "Origins that may call: `*` for all, `scheme://*.domain` for the subdomains of a "
                "domain in any scheme, or "
                "an exact origin. An empty list allows none.",
                check_origin)
          .list("allow_methods", &Config::allow_methods, "Methods that a preflight is told.", check_method)
          .list("allow_headers", &Config::allow_headers, "Request header fields that a preflight is told.", check_field)
          .list("expose_headers", &Config::expose_headers, "Response header fields that scripts may read.", check_field)
          .boolean("allow_credentials", &Config::allow_credentials, "Whether calls may carry cookies and the like.")
          .integer("max_age", &Config::max_age, -1, INT32_MAX,
                   "Seconds for which a browser may keep the answer to a preflight.");
  return kSchema;
}

}  // namespace sluice::plugins::cors
