#pragma once
// Configuration of ext-auth.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::ext_auth {

struct HeaderTemplate {
  std::string name, value;  // the value with variables
};

struct Config {
  std::string cluster, host, path = "/", method = "GET";
  int64_t timeout_ms = 60'000;
  int64_t status_on_error = 500;
  std::vector<HeaderTemplate> headers;
  std::vector<std::string> response_headers;
  std::string request_redirect = "$request_uri";
  std::string signin, signin_redirect_param = "rd";
  bool always_set_cookie = false;
  std::string cache_key;
  std::vector<std::string> cache_duration = {"200 202 401 5m"};
  std::vector<std::string> skip_addresses;
};

const Schema<Config>& schema();

// How long a verdict of a status is kept: "200 202 10m", "any 1m", "5m" (200, 301 and 302, as nginx means it).
struct CacheRule {
  std::vector<int> statuses;  // empty: any
  uint64_t milliseconds = 0;

  static std::optional<CacheRule> parse(std::string_view text);
  bool covers(int status) const;
};

}  // namespace sluice::plugins::ext_auth
