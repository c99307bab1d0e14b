#include "plugins/ext_auth/config.h"

#include <algorithm>
#include <charconv>

#include "http/headers.h"
#include "plugins/ip_restriction/address_set.h"
#include "plugins/message_edit.h"
#include "plugins/variables.h"

namespace sluice::plugins::ext_auth {
namespace {

constexpr uint64_t kLongest = 365ull * 86'400'000;

std::string check_method(std::string& value) {
  for (char& c : value) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
  if (!http::is_token(value) || value == "CONNECT") return in_quotes(value) + " is not a method such as GET or POST";
  return {};
}

std::string check_path(std::string& value) {
  if (!value.starts_with('/')) return in_quotes(value) + " must begin with '/'";
  return VariableTemplate::check(value);
}

std::string check_field(std::string& value) {
  std::string problem = check_header_name(value);
  if (problem.empty() && (is_framing_field(value) || value == "host")) {
    problem = in_quotes(value) + " can't be set: it frames the message, or decides where it goes";
  }
  return problem;
}

std::string check_parameter(std::string& value) {
  const bool good = !value.empty() && value.find_first_of("=&?# ") == value.npos && http::is_field_value(value);
  return good ? "" : in_quotes(value) + " is not the name of a query parameter";
}

std::string check_rule(std::string& value) {
  if (CacheRule::parse(value)) return {};
  return in_quotes(value) + " is not a list of statuses and a time, such as \"200 202 10m\"";
}

std::string check_address(std::string& value) { return ip_restriction::AddressSet::check(value); }

bool number(std::string_view* text, uint64_t* out) {
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), *out);
  if (error != std::errc()) return false;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return true;
}

// nginx's notation: "90", "90s", "1h30m", "500ms".
std::optional<uint64_t> duration(std::string_view text) {
  static constexpr std::pair<std::string_view, uint64_t> kUnits[] = {
      {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}, {"d", 86'400'000}, {"w", 604'800'000},
  };
  uint64_t total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    uint64_t value;
    if (!number(&text, &value) || value > kLongest) return std::nullopt;
    uint64_t unit = text.empty() ? 1000 : 0;
    for (const auto& [name, milliseconds] : kUnits) {
      if (unit || !text.starts_with(name)) continue;
      unit = milliseconds;
      text.remove_prefix(name.size());
    }
    if (!unit) return std::nullopt;
    total += std::min(value, kLongest / unit) * unit;
  }
  return std::min(total, kLongest);
}

const Schema<HeaderTemplate>& header_schema() {
  static const Schema<HeaderTemplate> kSchema =
      Schema<HeaderTemplate>()
          .text("name", &HeaderTemplate::name, "Name of the field, in any case.", check_field)
          .required()
          .text("value", &HeaderTemplate::value, "Its value, with variables.", VariableTemplate::check)
          .required();
  return kSchema;
}

}  // namespace

std::optional<CacheRule> CacheRule::parse(std::string_view text) {
  CacheRule out;
  bool any = false;
  std::optional<uint64_t> time;
  while (!text.empty()) {
    const size_t begin = text.find_first_not_of(' ');
    if (begin == text.npos) break;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(word.size());
    const bool last = text.find_first_not_of(' ') == text.npos;
    if (last) {
      time = duration(word);
    } else if (word == "any") {
      any = true;
    } else {
      int status = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), status);
      if (error != std::errc() || end != word.data() + word.size() || status < 100 || status > 599) return std::nullopt;
      out.statuses.push_back(status);
    }
  }
  if (!time) return std::nullopt;
  if (any) {
    out.statuses.clear();
  } else if (out.statuses.empty()) {
    out.statuses = {200, 301, 302};
  }
  out.milliseconds = *time;
  return out;
}

bool CacheRule::covers(int status) const {
  return statuses.empty() || std::find(statuses.begin(), statuses.end(), status) != statuses.end();
}

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .text("cluster", &Config::cluster, "The cluster of the service that is asked.")
          .required()
          .text("host", &Config::host, "Host that the service sees; the cluster's service if empty.", check_authority)
          .text("path", &Config::path, "Path and query of the call, with variables.", check_path)
          .text("method", &Config::method, "Method of the call.", check_method)
          .integer("timeout_ms", &Config::timeout_ms, 1, 3'600'000, "How long the answer is waited for.")
          .integer("status_on_error", &Config::status_on_error, 400, 599,
                   "What the client gets if the service can't be asked, is too slow, or answers anything but 2xx, 401 "
                   "and 403.")
          .objects("headers", &Config::headers, header_schema(), "Fields that the call has beside the request's own.")
          .list("response_headers", &Config::response_headers,
                "Fields of the answer that the upstream gets. The client's own of that name never pass.", check_field)
          .text("request_redirect", &Config::request_redirect,
                "Value of `X-Auth-Request-Redirect` in the call, with variables.", VariableTemplate::check)
          .text("signin", &Config::signin,
                "Where a client is sent (302) instead of a 401: a URL with variables, to which the URL that was asked "
                "for is appended as a parameter.",
                VariableTemplate::check)
          .text("signin_redirect_param", &Config::signin_redirect_param, "The name of that parameter.", check_parameter)
          .boolean("always_set_cookie", &Config::always_set_cookie,
                   "`Set-Cookie` of the answer goes to the client whatever the status of the response; else only with "
                   "2xx and 3xx.")
          .text("cache_key", &Config::cache_key,
                "Verdicts are kept under this text with variables; empty: they are not kept.", VariableTemplate::check)
          .list("cache_duration", &Config::cache_duration, "How long, by status; the first that names it counts.",
                check_rule)
          .list("skip_addresses", &Config::skip_addresses,
                "Clients with these addresses (IP or CIDR) pass without being asked about.", check_address);
  return kSchema;
}

}  // namespace sluice::plugins::ext_auth
