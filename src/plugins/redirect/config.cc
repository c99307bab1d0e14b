#include "plugins/redirect/config.h"

#include <algorithm>

namespace sluice::plugins::redirect {
namespace {

std::string check_scheme(std::string& value) {
  for (char& c : value) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  if (value.empty() || value == "http" || value == "https") return {};
  return in_quotes(value) + " is not http or https";
}

std::string check_path(std::string& value) {
  if (value.empty()) return {};
  if (value[0] != '/') return in_quotes(value) + " must begin with '/'";
  const bool visible = std::all_of(value.begin(), value.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!visible)
    return in_quotes(value) + " holds a space, a control character or a non-ASCII one; write it percent-encoded";
  if (value.find_first_of("?#") != std::string::npos)
    return in_quotes(value) + " must be a path without query and fragment";
  return {};
}

std::optional<Problem> check(const Config& config) {
  if (config.status == 304 || config.status == 305 || config.status == 306) {
    return Problem{"status", std::to_string(config.status) + " is not one of 301, 302, 303, 307, 308"};
  }
  if (config.scheme.empty() && config.host.empty() && config.path.empty() && !config.https_only_on_plaintext) {
    return Problem{{},
                   "one of scheme, host, path or https_only_on_plaintext must be given; otherwise "
                   "the request would be "
                   "redirected to itself"};
  }
  if (config.https_only_on_plaintext && config.scheme == "http") {
    return Problem{"scheme", "must be https together with https_only_on_plaintext"};
  }
  if (config.relative && (!config.scheme.empty() || !config.host.empty() || config.https_only_on_plaintext)) {
    return Problem{"relative", "can't be given together with scheme, host or https_only_on_plaintext"};
  }
  return std::nullopt;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .integer("status", &Config::status, 301, 308, "Status of the redirect: 301, 302, 303, 307 or 308.")
          .text("scheme", &Config::scheme, "`http` or `https` of the new location; the request's if empty.",
                check_scheme)
          .text("host", &Config::host, "Host of the new location, with a port if needed; the request's if empty.",
                check_authority)
          .text("path", &Config::path, "Path of the new location; the request's if empty. The query is always kept.",
                check_path)
          .boolean("relative", &Config::relative,
                   "The new location is told as a path, without scheme and host. Not with `scheme` or `host`.")
          .boolean("https_only_on_plaintext", &Config::https_only_on_plaintext,
                   "Redirects to https, and only requests that came without TLS; the others pass.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::redirect
