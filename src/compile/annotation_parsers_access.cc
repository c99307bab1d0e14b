// Annotations of ingress-nginx that say who may come, how often, and with how much.

#include <algorithm>
#include <charconv>

#include "compile/annotation_parsers.h"
#include "compile/nginx_snippet.h"
#include "net/address.h"
#include "plugins/ext_auth/config.h"
#include "plugins/ip_restriction/address_set.h"
#include "plugins/variables.h"
#include "resource/reader.h"

namespace sluice::compile::read {
namespace {

using resource::in_quotes;

bool with_variables(const AnnotationCall& c, std::string* out) {
  auto parsed = plugins::VariableTemplate::parse(c.value);
  if (!parsed) {
    *c.error = parsed.error().message;
    return false;
  }
  return *out = c.value, true;
}

bool config_map_ref(const AnnotationCall& c, SecretRef* out) {
  std::string unused;
  if (parse_secret_ref(c.value, c.ns, out, &unused)) return true;
  *c.error = in_quotes(c.value) + " is not a ConfigMap: write name or namespace/name";
  return false;
}

// nginx's sizes: "512", "8k", "8m", "1g".
bool size(const AnnotationCall& c, int64_t* out) {
  constexpr int64_t kMost = int64_t{1} << 50;
  int64_t value = -1;
  const char* const end = c.value.data() + c.value.size();
  const auto [stop, error] = std::from_chars(c.value.data(), end, value);
  int shift = -1;
  if (stop == end) shift = 0;
  if (stop + 1 == end) {
    const char unit = static_cast<char>(*stop | 0x20);
    shift = unit == 'k' ? 10 : unit == 'm' ? 20 : unit == 'g' ? 30 : -1;
  }
  if (error != std::errc() || value < 0 || shift < 0 || value > kMost >> shift) {
    *c.error = in_quotes(c.value) + " is not a size such as 8m, 512k or 0";
    return false;
  }
  return *out = value << shift, true;
}

bool is_url(std::string_view text) { return text.starts_with("http://") || text.starts_with("https://"); }

// "host", "host:port", "[::1]:port"
bool split_authority(std::string_view text, std::string* host, uint16_t* port) {
  const size_t bracket = text.rfind(']');
  const size_t colon = text.rfind(':');
  if (colon != text.npos && (bracket == text.npos || colon > bracket)) {
    const std::string_view digits = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *port);
    if (error != std::errc() || end != digits.data() + digits.size() || !*port) return false;
    text = text.substr(0, colon);
  }
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  *host = resource::to_lower(text);
  return *host == "$host" || net::Address::parse_ip(*host) || resource::is_dns_name(*host);
}

}  // namespace

// --- another service decides ---

bool auth_url(const AnnotationCall& c) {
  ExternalAuthOptions& out = c.out.external_auth;
  if (!is_url(c.value)) {
    *c.error = in_quotes(c.value) + " is not an http or https URL";
    return false;
  }
  const bool https = c.value.starts_with("https");
  const std::string_view rest = c.value.substr(c.value.find("://") + 3);
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?#"));
  std::string path(rest.substr(authority.size()));
  if (!path.starts_with('/')) path = "/" + path;
  std::string host;
  uint16_t port = https ? 443 : 80;
  if (!split_authority(authority, &host, &port)) {
    *c.error = in_quotes(authority) + " is not a host, an IP address or $host, with a port if needed";
    return false;
  }
  auto parsed = plugins::VariableTemplate::parse(path);
  if (!parsed) {
    *c.error = parsed.error().message;
    return false;
  }
  out.url = c.value;
  out.https = https;
  out.host = std::move(host);
  out.port = port;
  out.path = std::move(path);
  return true;
}

bool auth_method(const AnnotationCall& c) {
  size_t index;
  static constexpr const char* kMethods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
  if (!one_word(c, {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, &index)) return false;
  return c.out.external_auth.method = kMethods[index], true;
}

bool auth_signin(const AnnotationCall& c) {
  if (!is_url(c.value) && !c.value.starts_with('/')) {
    *c.error = in_quotes(c.value) + " is not a URL or path";
    return false;
  }
  return with_variables(c, &c.out.external_auth.signin);
}

bool auth_signin_param(const AnnotationCall& c) {
  if (c.value.find_first_of("=&?#$ ") != c.value.npos) {
    *c.error = in_quotes(c.value) + " is not the name of a query parameter";
    return false;
  }
  return c.out.external_auth.signin_param = c.value, true;
}

bool auth_request_redirect(const AnnotationCall& c) { return with_variables(c, &c.out.external_auth.request_redirect); }
bool auth_cache_key(const AnnotationCall& c) { return with_variables(c, &c.out.external_auth.cache_key); }

bool auth_cache_duration(const AnnotationCall& c) {
  std::vector<std::string> rules = split_list(c.value, ",");
  for (const std::string& rule : rules) {
    if (plugins::ext_auth::CacheRule::parse(rule)) continue;
    *c.error = in_quotes(rule) + " is not a list of statuses and a time, such as \"200 202 10m\"";
    return false;
  }
  return c.out.external_auth.cache_duration = std::move(rules), true;
}

bool auth_response_headers(const AnnotationCall& c) {
  std::vector<std::string> names = split_list(c.value, ",");
  for (const std::string& name : names) {
    if (is_header_name(name)) continue;
    *c.error = in_quotes(name) + " is not a header name";
    return false;
  }
  return c.out.external_auth.response_headers = std::move(names), true;
}

bool auth_headers_map(const AnnotationCall& c) { return config_map_ref(c, &c.out.external_auth.headers_map); }

bool auth_snippet(const AnnotationCall& c) {
  NginxAuthSnippet translated = translate_nginx_auth_snippet(c.raw);
  for (const std::string& problem : translated.problems) *c.error += (c.error->empty() ? "" : "; ") + problem;
  if (!translated.lost_guard.empty()) return false;
  c.out.external_auth.fields = std::move(translated.fields);
  return true;
}

bool satisfy(const AnnotationCall& c) {
  size_t index;
  if (!one_word(c, {"all", "any"}, &index)) return false;
  return c.out.satisfy_any = index == 1, true;
}

// --- per client ---

bool limit_rps(const AnnotationCall& c) { return bounded_int(c, 0, 1'000'000, &c.out.client_limit.rps); }
bool limit_rpm(const AnnotationCall& c) { return bounded_int(c, 0, 60'000'000, &c.out.client_limit.rpm); }
bool limit_burst(const AnnotationCall& c) { return bounded_int(c, 1, 1000, &c.out.client_limit.burst_multiplier); }
bool limit_connections(const AnnotationCall& c) { return bounded_int(c, 0, 65'535, &c.out.client_limit.connections); }
bool limit_status(const AnnotationCall& c) { return bounded_int(c, 400, 599, &c.out.client_limit.status); }

bool limit_exempt(const AnnotationCall& c) {
  std::vector<std::string> entries;
  for (std::string& entry : split_list(c.value, ",")) {
    std::string problem = plugins::ip_restriction::AddressSet::check(entry);
    if (problem.empty()) {
      entries.push_back(std::move(entry));
    } else {
      *c.error = problem + "; the entry is ignored";
    }
  }
  if (entries.empty()) return false;
  auto& exempt = c.out.client_limit.exempt;
  exempt.insert(exempt.end(), entries.begin(), entries.end());
  return true;
}

bool limit_rate(const AnnotationCall& c) {
  int64_t kilobytes;
  if (!bounded_int(c, 0, int64_t{1} << 32, &kilobytes)) return false;
  return c.out.client_limit.bytes_per_second = kilobytes * 1024, true;
}
bool limit_rate_after(const AnnotationCall& c) {
  int64_t kilobytes;
  if (!bounded_int(c, 0, int64_t{1} << 32, &kilobytes)) return false;
  return c.out.client_limit.after = kilobytes * 1024, true;
}

// --- client certificates ---

bool tls_verify_client(const AnnotationCall& c) {
  using Verify = TlsOptions::Verify;
  size_t index;
  if (!one_word(c, {"on", "off", "optional", "optional_no_ca"}, &index)) return false;
  static constexpr Verify kValues[] = {Verify::kOn, Verify::kOff, Verify::kOptional, Verify::kOptionalNoCa};
  c.out.tls.verify = kValues[index];
  return c.out.tls.any = true;
}

bool tls_verify_depth(const AnnotationCall& c) {
  return bounded_int(c, 0, 100, &c.out.tls.verify_depth) && (c.out.tls.any = true);
}

bool tls_error_page(const AnnotationCall& c) {
  if (!is_url(c.value)) {
    *c.error = in_quotes(c.value) + " is not an http or https URL";
    return false;
  }
  if (!with_variables(c, &c.out.client_certificate.error_page)) return false;
  return c.out.tls.any = c.out.tls.error_page = true;
}

bool tls_match_cn(const AnnotationCall& c) {
  std::shared_ptr<const re2::RE2> unused;
  if (!c.value.starts_with("CN=")) {
    *c.error = in_quotes(c.value) + " must begin with CN=";
    return false;
  }
  return compile_regex(c.value, &unused, c.error) && (c.out.client_certificate.match_subject = c.value, true);
}

// --- the firewall ---

// There is none yet, and what it was to keep out must not come in.
bool waf(const AnnotationCall& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  if (on)
    *c.error = "asks for a web application firewall, which is not available; take the annotation away to do without";
  return !on;
}

bool waf_detail(const AnnotationCall& c) {
  *c.error = "has no effect: a web application firewall is not available";
  return true;
}

// --- sizes ---

bool body_size(const AnnotationCall& c) { return size(c, &c.out.size.request_body); }
bool head_size(const AnnotationCall& c) { return size(c, &c.out.size.response_head); }
bool any_size(const AnnotationCall& c) {
  int64_t unused;
  return size(c, &unused);
}
bool any_on_off(const AnnotationCall& c) {
  bool unused;
  return on_off(c, &unused);
}
bool any_bool(const AnnotationCall& c) {
  bool unused;
  return parse_bool(c.raw, &unused, c.error);
}
bool any_count(const AnnotationCall& c) {
  int64_t unused;
  return bounded_int(c, 0, INT32_MAX, &unused);
}

}  // namespace sluice::compile::read
