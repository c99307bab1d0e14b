// Annotations of routes.

#include "compile/annotation_parsers.h"

#include <algorithm>

#include "plugins/ip_restriction/address_set.h"
#include "resource/reader.h"

namespace sluice::compile::read {
namespace {

using resource::in_quotes;

bool redirect_url(const AnnotationCall& c, std::string* out) {
  std::string scheme, host, path;
  if (!parse_url(c.value, &scheme, &host, &path)) {
    *c.error = in_quotes(c.value) + " is not an http or https URL";
    return false;
  }
  return *out = c.value, true;
}

bool set_pseudo_header(config::ValueMatch& match) {
  using Source = config::ValueMatch::Source;
  if (match.name == "authority") return match.source = Source::kAuthority, true;
  if (match.name == "path") return match.source = Source::kPath, true;
  if (match.name == "method") return match.source = Source::kMethod, true;
  if (match.name == "scheme") return match.source = Source::kScheme, true;
  return false;
}

using Kind = config::ValueMatch::Kind;
using Source = config::ValueMatch::Source;

bool match(const AnnotationCall& c, Source source, Kind kind) {
  config::ValueMatch out;
  out.source = source;
  out.kind = kind;
  out.name = source == Source::kQuery ? std::string(c.suffix) : resource::to_lower(c.suffix);
  out.value = c.raw;
  if (out.name.empty()) {
    *c.error = "the key names no header or parameter";
    return false;
  }
  if (source == Source::kAuthority && !set_pseudo_header(out)) {
    *c.error = in_quotes(out.name) + " is not one of authority, path, method, scheme";
    return false;
  }
  if (kind == Kind::kRegex && source == Source::kQuery && c.raw == "*") {
    out.kind = Kind::kPresent;
  } else if (kind == Kind::kRegex && !compile_regex(c.raw, &out.regex, c.error)) {
    return false;
  }
  return c.out.conditions.push_back(std::move(out)), true;
}

}  // namespace

bool methods(const AnnotationCall& c) {
  static constexpr std::string_view kAllowed[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                                  "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  std::vector<std::string> found;
  for (std::string& word : split_list(c.value, " \t\n")) {
    for (char& letter : word) {
      if (letter >= 'a' && letter <= 'z') letter = static_cast<char>(letter - 'a' + 'A');
    }
    if (std::find(std::begin(kAllowed), std::end(kAllowed), word) == std::end(kAllowed)) {
      *c.error = in_quotes(word) +
                 " is ignored: it is not one of GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, "
                 "TRACE, PATCH";
    } else if (std::find(found.begin(), found.end(), word) == found.end()) {
      found.push_back(std::move(word));
    }
  }
  c.out.raw_methods = c.raw;
  c.out.methods = std::move(found);
  return true;
}

bool timeout(const AnnotationCall& c) {
  int64_t seconds;
  if (!parse_int(c.raw, &seconds, c.error)) return false;
  if (seconds < 0 || seconds > 86400 * 365) {
    *c.error = in_quotes(c.raw) + " is not a number of seconds";
    return false;
  }
  return c.out.timeout_seconds = seconds, true;
}

bool retry_conditions(const AnnotationCall& c) {
  for (const std::string& word : split_list(c.value, ", \t\n")) {
    const bool status = word.size() == 8 && word.starts_with("http_") && word[5] >= '1' && word[5] <= '5' &&
                        std::all_of(word.begin() + 6, word.end(), [](char d) { return d >= '0' && d <= '9'; });
    static constexpr std::string_view kWords[] = {"error", "timeout", "invalid_header", "non_idempotent", "off"};
    if (status || std::find(std::begin(kWords), std::end(kWords), word) != std::end(kWords)) continue;
    *c.error = in_quotes(word) +
               " is ignored: it is not one of error, timeout, invalid_header, non_idempotent, off, or a status such as "
               "http_503";
  }
  c.out.retry.any = true;
  return c.out.retry.conditions = c.value, true;
}
bool retry_tries(const AnnotationCall& c) {
  int64_t tries;
  if (!parse_int(c.raw, &tries, c.error)) return false;
  c.out.retry.any = true;
  return c.out.retry.tries = std::clamp<int64_t>(tries, 0, 1000), true;
}
bool retry_timeout(const AnnotationCall& c) {
  int64_t seconds;
  if (!parse_int(c.raw, &seconds, c.error)) return false;
  c.out.retry.any = true;
  return c.out.retry.timeout_seconds = std::clamp<int64_t>(seconds, 0, 86400), true;
}

bool temporal_redirect(const AnnotationCall& c) { return redirect_url(c, &c.out.redirect.temporal); }
bool permanent_redirect(const AnnotationCall& c) { return redirect_url(c, &c.out.redirect.permanent); }

bool permanent_code(const AnnotationCall& c) {
  int64_t code;
  if (!parse_int(c.raw, &code, c.error)) return false;
  if (code != 301 && code != 302 && code != 303 && code != 307 && code != 308) {
    *c.error = in_quotes(c.raw) + " is not one of 301, 302, 303, 307, 308; 301 is used";
    code = 301;
  }
  return c.out.redirect.permanent_code = code, true;
}

bool ssl_redirect(const AnnotationCall& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  return c.out.redirect.to_https = on, true;
}

bool force_ssl_redirect(const AnnotationCall& c) { return parse_bool(c.raw, &c.out.redirect.force_https, c.error); }

bool app_root(const AnnotationCall& c) { return absolute_path(c, &c.out.app_root); }

bool allow_origins(const AnnotationCall& c) {
  std::vector<std::string> origins = split_list(c.value, ",");
  std::erase_if(origins, [&](const std::string& origin) {
    size_t star = origin.find('*');
    size_t scheme = origin.find("://");
    bool good = origin == "*" || star == origin.npos ||
                (scheme != origin.npos && star == scheme + 3 && origin.find('*', star + 1) == origin.npos &&
                 origin.size() > star + 1 && origin[star + 1] == '.');
    if (!good) *c.error = in_quotes(origin) + " is ignored: a wildcard is written scheme://*.domain";
    return !good;
  });
  return c.out.cors.allow_origins = std::move(origins), true;
}

bool destination(const AnnotationCall& c) { return parse_destinations(c.value, &c.out.destinations, c.error); }
bool filters(const AnnotationCall& c) { return parse_filters(c.raw, &c.out.filters, c.error); }

// --- match-…: the name is part of the key ---

bool exact_match_header(const AnnotationCall& c) { return match(c, Source::kHeader, Kind::kExact); }
bool prefix_match_header(const AnnotationCall& c) { return match(c, Source::kHeader, Kind::kPrefix); }
bool regex_match_header(const AnnotationCall& c) { return match(c, Source::kHeader, Kind::kRegex); }
bool exact_match_pseudo_header(const AnnotationCall& c) { return match(c, Source::kAuthority, Kind::kExact); }
bool prefix_match_pseudo_header(const AnnotationCall& c) { return match(c, Source::kAuthority, Kind::kPrefix); }
bool regex_match_pseudo_header(const AnnotationCall& c) { return match(c, Source::kAuthority, Kind::kRegex); }
bool exact_match_query(const AnnotationCall& c) { return match(c, Source::kQuery, Kind::kExact); }
bool prefix_match_query(const AnnotationCall& c) { return match(c, Source::kQuery, Kind::kPrefix); }
bool regex_match_query(const AnnotationCall& c) { return match(c, Source::kQuery, Kind::kRegex); }

// --- canary ---

bool canary_header(const AnnotationCall& c) {
  std::string name = resource::to_lower(c.value);
  if (!is_header_name(name)) {
    *c.error = in_quotes(c.value) + " is not a header name";
    return false;
  }
  return c.out.canary.header = std::move(name), true;
}
bool canary_header_value(const AnnotationCall& c) {
  std::shared_ptr<const re2::RE2> unused;
  return compile_regex(c.value, &unused, c.error) && (c.out.canary.header_value = c.value, true);
}
bool canary_header_pattern(const AnnotationCall& c) {
  std::shared_ptr<const re2::RE2> unused;
  return compile_regex(c.value, &unused, c.error) && (c.out.canary.header_pattern = c.value, true);
}
bool canary_cookie(const AnnotationCall& c) {
  if (!is_header_name(c.value)) {
    *c.error = in_quotes(c.value) + " is not a cookie name";
    return false;
  }
  return c.out.canary.cookie = c.value, true;
}
bool canary_weight(const AnnotationCall& c) { return bounded_int(c, 0, INT32_MAX, &c.out.canary.weight); }
bool canary_weight_total(const AnnotationCall& c) {
  int64_t total;
  if (!bounded_int(c, 1, INT32_MAX, &total)) return false;
  return c.out.canary.weight_total = total, true;
}

// --- access ---

namespace {

// Takes the entries that are addresses; true if all of them are.
bool addresses(const AnnotationCall& c, std::vector<std::string>* out) {
  std::vector<std::string> entries = split_list(c.value, ",");
  bool all = true;
  for (std::string& entry : entries) {
    std::string problem = plugins::ip_restriction::AddressSet::check(entry);
    if (problem.empty()) {
      out->push_back(std::move(entry));
    } else {
      *c.error = std::move(problem);
      all = false;
    }
  }
  return all;
}

}  // namespace

bool allow_addresses(const AnnotationCall& c) {
  std::vector<std::string> entries;
  for (const std::string& entry : split_list(c.value, ",")) {
    if (entry == "*") return c.out.addresses.allow.clear(), true;
  }
  if (!addresses(c, &entries)) {
    if (entries.empty()) return false;
    *c.error += "; the entry is ignored";
  }
  return c.out.addresses.allow = std::move(entries), true;
}

// An entry that is left out would let somebody in.
bool deny_addresses(const AnnotationCall& c) {
  std::vector<std::string> entries;
  if (!addresses(c, &entries)) return false;
  return c.out.addresses.deny = std::move(entries), true;
}

bool auth_type(const AnnotationCall& c) {
  if (c.value != "basic") {
    *c.error = in_quotes(c.value) + " is not supported; write basic";
    return false;
  }
  return c.out.auth.type = c.value, true;
}
bool auth_secret(const AnnotationCall& c) { return parse_secret_ref(c.value, c.ns, &c.out.auth.secret, c.error); }
bool auth_secret_type(const AnnotationCall& c) {
  size_t index;
  if (!one_word(c, {"auth-file", "auth-map"}, &index)) return false;
  return c.out.auth.secret_is_map = index == 1, true;
}

// --- other services ---

namespace {

// "[ns/]service"
bool service_ref(const AnnotationCall& c, std::string_view text, std::string* ns, std::string* service) {
  const size_t slash = text.find('/');
  std::string first(slash == text.npos ? std::string_view(c.ns) : text.substr(0, slash));
  std::string second(slash == text.npos ? text : text.substr(slash + 1));
  if (!resource::is_label(first) || !resource::is_dns_name(second)) {
    *c.error = in_quotes(c.value) + " is not a Service: write name or namespace/name";
    return false;
  }
  *ns = std::move(first);
  *service = std::move(second);
  return true;
}

}  // namespace

bool default_backend(const AnnotationCall& c) {
  return service_ref(c, c.value, &c.out.fallback.ns, &c.out.fallback.service);
}

// A list of nothing but codes that can't be errors stands for 503.
bool error_codes(const AnnotationCall& c) {
  static constexpr int64_t kNever[] = {200, 301, 302, 303, 304, 307, 308};
  std::vector<uint16_t> codes;
  bool refused = false;
  for (const std::string& word : split_list(c.value, ",")) {
    int64_t code;
    std::string unused;
    if (!parse_int(word, &code, &unused) || code < 100 || code > 599) {
      *c.error = in_quotes(word) + " is ignored: it is not a status code";
    } else if (std::find(std::begin(kNever), std::end(kNever), code) != std::end(kNever)) {
      *c.error = in_quotes(word) + " is ignored: it is not an error";
      refused = true;
    } else {
      codes.push_back(static_cast<uint16_t>(code));
    }
  }
  if (codes.empty() && !refused) return false;
  if (codes.empty()) {
    *c.error += "; 503 is used";
    codes.push_back(503);
  }
  return c.out.fallback.error_codes = std::move(codes), true;
}

bool mirror_service(const AnnotationCall& c) {
  MirrorOptions& mirror = c.out.mirror;
  std::string_view text = c.value;
  int64_t port = 0;
  if (const size_t colon = text.rfind(':'); colon != text.npos) {
    if (!parse_int(text.substr(colon + 1), &port, c.error) || port < 1 || port > 65535) {
      *c.error = in_quotes(text.substr(colon + 1)) + " is not a port; the Service's first port is used";
      port = 0;
    }
    text = text.substr(0, colon);
  }
  if (!service_ref(c, text, &mirror.service_ns, &mirror.service)) return false;
  mirror.service_port = static_cast<uint16_t>(port);
  return true;
}
bool mirror_fqdn(const AnnotationCall& c) {
  if (c.value.find_first_of(" \t\n/") != c.value.npos) {
    *c.error = in_quotes(c.value) + " is not the name of a service such as x.static";
    return false;
  }
  return c.out.mirror.fqdn = c.value, true;
}
bool mirror_fqdn_port(const AnnotationCall& c) { return bounded_int(c, 1, 65535, &c.out.mirror.fqdn_port); }
bool mirror_percentage(const AnnotationCall& c) {
  int64_t percentage;
  if (!parse_int(c.raw, &percentage, c.error)) return false;
  return c.out.mirror.percentage = std::clamp<int64_t>(percentage, 0, 100), true;
}

// --- accepted ---

bool ignored(const AnnotationCall&) { return true; }

bool rpc_destination(const AnnotationCall& c) {
  if (!resource::is_dns_name(std::string(c.value))) {
    *c.error = in_quotes(c.value) + " is not the name of an Http2Rpc";
    return false;
  }
  *c.error = "has no effect yet: requests go to the service as plain HTTP";
  return true;
}

bool mcp_server(const AnnotationCall& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  if (on) *c.error = "has no effect yet: the Ingress is served as an ordinary route";
  return true;
}
bool mcp_bool(const AnnotationCall& c) {
  bool unused;
  return parse_bool(c.raw, &unused, c.error);
}
bool mcp_match_type(const AnnotationCall& c) {
  size_t unused;
  return one_word(c, {"exact", "prefix", "suffix", "contains", "regex"}, &unused);
}
bool mcp_upstream_type(const AnnotationCall& c) {
  size_t unused;
  return one_word(c, {"rest", "sse", "streamable"}, &unused);
}
bool mcp_path(const AnnotationCall& c) {
  std::string unused;
  return absolute_path(c, &unused);
}

}  // namespace sluice::compile::read
