#include "compile/annotations.h"

#include <re2/re2.h>

#include <algorithm>
#include <unordered_map>

#include "compile/annotation_values.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

using resource::in_quotes;

constexpr std::string_view kNginx = "nginx.ingress.kubernetes.io/";
constexpr std::string_view kHigress = "higress.io/";
constexpr std::string_view kSluice = "sluice.io/";

struct Call {
  std::string_view value;  // trimmed line by line; never empty
  std::string_view raw;
  const std::string& ns;
  IngressOptions& out;
  std::string* error;
};
using Parse = bool (*)(const Call&);

enum class Prefixes : uint8_t { kBoth, kHigressOnly, kSluiceOnly };

struct Annotation {
  std::string_view key;
  Prefixes prefixes;
  Parse parse;
};

// --- what the table is written in ---

template <auto Member>
bool to_text(const Call& c) {
  return c.out.*Member = c.value, true;
}
template <auto Member>
bool to_bool(const Call& c) {
  return parse_bool(c.raw, &(c.out.*Member), c.error);
}
template <auto Part, auto Member>
bool part_text(const Call& c) {
  return c.out.*Part.*Member = c.value, true;
}
template <auto Part, auto Member>
bool part_bool(const Call& c) {
  return parse_bool(c.raw, &(c.out.*Part.*Member), c.error);
}
template <auto Part, auto Member>
bool part_int(const Call& c) {
  int64_t value;
  if (!parse_int(c.raw, &value, c.error)) return false;
  return c.out.*Part.*Member = value, true;
}
template <auto Part, auto Member>
bool part_edits(const Call& c) {
  return parse_header_edits(c.value, &(c.out.*Part.*Member), c.error);
}
template <auto Part, auto Member>
bool part_names(const Call& c) {
  return parse_header_names(c.value, &(c.out.*Part.*Member), c.error);
}

using O = IngressOptions;
using S = ServiceOptions;

bool one_word(const Call& c, std::initializer_list<std::string_view> words, size_t* index) {
  std::string list;
  for (size_t i = 0; i < words.size(); ++i) {
    if (iequals(c.value, words.begin()[i])) return *index = i, true;
    list += (i ? ", " : "") + std::string(words.begin()[i]);
  }
  *c.error = in_quotes(c.value) + " is not one of " + list;
  return false;
}

bool absolute_path(const Call& c, std::string* out) {
  if (c.value[0] != '/') {
    *c.error = in_quotes(c.value) + " must begin with '/'";
    return false;
  }
  return *out = c.value, true;
}

bool on_off(const Call& c, bool* out) {
  if (c.value == "on" || c.value == "off") return *out = c.value == "on", true;
  *c.error = in_quotes(c.value) + " is not on or off";
  return false;
}

// --- values that need more than that ---

bool methods(const Call& c) {
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

bool timeout(const Call& c) {
  int64_t seconds;
  if (!parse_int(c.raw, &seconds, c.error)) return false;
  if (seconds < 0 || seconds > 86400 * 365) {
    *c.error = in_quotes(c.raw) + " is not a number of seconds";
    return false;
  }
  return c.out.timeout_seconds = seconds, true;
}

bool retry_conditions(const Call& c) {
  c.out.retry.any = true;
  return c.out.retry.conditions = c.value, true;
}
bool retry_tries(const Call& c) {
  int64_t tries;
  if (!parse_int(c.raw, &tries, c.error)) return false;
  c.out.retry.any = true;
  return c.out.retry.tries = std::clamp<int64_t>(tries, 0, 1000), true;
}
bool retry_timeout(const Call& c) {
  int64_t seconds;
  if (!parse_int(c.raw, &seconds, c.error)) return false;
  c.out.retry.any = true;
  return c.out.retry.timeout_seconds = std::clamp<int64_t>(seconds, 0, 86400), true;
}

template <auto Member>
bool redirect_url(const Call& c) {
  std::string scheme, host, path;
  if (!parse_url(c.value, &scheme, &host, &path)) {
    *c.error = in_quotes(c.value) + " is not an http or https URL";
    return false;
  }
  return c.out.redirect.*Member = c.value, true;
}

bool permanent_code(const Call& c) {
  int64_t code;
  if (!parse_int(c.raw, &code, c.error)) return false;
  if (code != 301 && code != 302 && code != 303 && code != 307 && code != 308) {
    *c.error = in_quotes(c.raw) + " is not one of 301, 302, 303, 307, 308; 301 is used";
    code = 301;
  }
  return c.out.redirect.permanent_code = code, true;
}

bool ssl_redirect(const Call& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  return c.out.redirect.to_https |= on, true;
}

bool rewrite_target(const Call& c) { return to_text<&O::rewrite_target>(c); }
bool app_root(const Call& c) { return absolute_path(c, &c.out.app_root); }

bool protocol(const Call& c) {
  size_t index;
  if (!one_word(c, {"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPCS"}, &index)) {
    *c.error += "; HTTP is used";
    index = 0;
  }
  c.out.service.protocol = static_cast<S::Protocol>(index + 1);
  return c.out.service.any = true;
}

bool load_balance(const Call& c) {
  size_t index;
  if (!one_word(c, {"round_robin", "random", "least_conn", "least_request", "passthrough", "mcp-sse"}, &index)) {
    *c.error += "; least_request is used";
    index = 3;
  }
  if (index >= 4) *c.error = "not supported yet: " + std::string(c.value) + "; least_request is used";
  using config::LoadBalancing;
  static constexpr LoadBalancing kKinds[] = {LoadBalancing::kRoundRobin,   LoadBalancing::kRandom,
                                             LoadBalancing::kLeastRequest, LoadBalancing::kLeastRequest,
                                             LoadBalancing::kLeastRequest, LoadBalancing::kLeastRequest};
  c.out.service.load_balancing = kKinds[index];
  return c.out.service.any = true;
}

bool hash_by(const Call& c) {
  if (!parse_hash_by(c.value, &c.out.service.hash, c.error)) {
    c.out.service.load_balancing = config::LoadBalancing::kRoundRobin;
  }
  return c.out.service.any = true;
}

bool affinity(const Call& c) { return c.out.service.any = c.out.service.affinity = true; }
bool cookie_name(const Call& c) { return c.out.service.cookie_name = c.value, affinity(c); }
bool cookie_path(const Call& c) { return c.out.service.cookie_path = c.value, affinity(c); }
template <auto Member>
bool cookie_age(const Call& c) {
  int64_t seconds;
  if (!parse_int(c.raw, &seconds, c.error)) return false;
  if (seconds < 0) {
    *c.error = in_quotes(c.raw) + " is not a number of seconds";
    return false;
  }
  c.out.service.*Member = seconds;
  return c.out.service.any = true;
}

bool ssl_secret(const Call& c) {
  if (!parse_secret_ref(c.value, c.ns, &c.out.service.client_secret, c.error)) return false;
  return c.out.service.any = true;
}
bool ssl_verify(const Call& c) {
  if (!on_off(c, &c.out.service.verify)) return false;
  return c.out.service.any = true;
}
bool ssl_name(const Call& c) { return c.out.service.ssl_name = c.value, c.out.service.any = true; }
bool ssl_server_name(const Call& c) {
  if (!on_off(c, &c.out.service.send_server_name)) return false;
  return c.out.service.any = true;
}

bool auth_tls_secret(const Call& c) {
  if (!parse_secret_ref(c.value, c.ns, &c.out.tls.client_ca, c.error)) return false;
  return c.out.tls.any = true;
}
// Names that are not offered are dropped; if none is left the default list applies.
bool ssl_cipher(const Call& c) {
  static constexpr std::string_view kOffered[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
                                                  "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
                                                  "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"};
  std::string list;
  for (const std::string& name : split_list(c.value, ":")) {
    if (std::find(std::begin(kOffered), std::end(kOffered), name) == std::end(kOffered)) {
      *c.error = in_quotes(name) + " is ignored: it is not a cipher suite of TLS 1.2 with ECDHE and AEAD";
    } else {
      list += (list.empty() ? "" : ":") + name;
    }
  }
  c.out.tls.ciphers = std::move(list);
  return c.out.tls.any = true;
}
template <auto Member>
bool tls_version(const Call& c) {
  static constexpr std::string_view kVersions[] = {"TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
  auto at = std::find(std::begin(kVersions), std::end(kVersions), c.value);
  if (at == std::end(kVersions)) {
    *c.error = in_quotes(c.value) + " is not one of TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3";
    return false;
  }
  if (at - kVersions < 2) *c.error = in_quotes(c.value) + " is not offered: TLSv1.2 is the lowest version";
  c.out.tls.*Member = std::max<std::string_view>(*at, "TLSv1.2");
  return c.out.tls.any = true;
}

bool allow_origins(const Call& c) {
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

template <auto Member>
bool cors_list(const Call& c) {
  return c.out.cors.*Member = split_list(c.value, ","), true;
}

bool destination(const Call& c) { return parse_destinations(c.value, &c.out.destinations, c.error); }
bool filters(const Call& c) { return parse_filters(c.raw, &c.out.filters, c.error); }
bool upstream(const Call& c) { return c.out.service.any = parse_upstream(c.raw, &c.out.service.policy, c.error); }

// --- the table ---

constexpr Annotation kTable[] = {
    // Routing
    {"canary", Prefixes::kBoth, to_bool<&O::canary>},
    {"destination", Prefixes::kHigressOnly, destination},
    {"rewrite-target", Prefixes::kBoth, rewrite_target},
    {"rewrite-path", Prefixes::kHigressOnly, to_text<&O::rewrite_path>},
    {"use-regex", Prefixes::kBoth, to_bool<&O::use_regex>},
    {"full-path-regex", Prefixes::kHigressOnly, to_bool<&O::full_path_regex>},
    {"upstream-vhost", Prefixes::kBoth, to_text<&O::upstream_vhost>},
    {"ignore-path-case", Prefixes::kBoth, to_bool<&O::ignore_path_case>},
    {"match-method", Prefixes::kHigressOnly, methods},
    {"app-root", Prefixes::kBoth, app_root},
    {"temporal-redirect", Prefixes::kBoth, redirect_url<&RedirectOptions::temporal>},
    {"permanent-redirect", Prefixes::kBoth, redirect_url<&RedirectOptions::permanent>},
    {"permanent-redirect-code", Prefixes::kBoth, permanent_code},
    {"ssl-redirect", Prefixes::kBoth, ssl_redirect},
    {"force-ssl-redirect", Prefixes::kBoth, ssl_redirect},
    // Resilience and limits
    {"timeout", Prefixes::kHigressOnly, timeout},
    {"proxy-next-upstream", Prefixes::kBoth, retry_conditions},
    {"proxy-next-upstream-tries", Prefixes::kBoth, retry_tries},
    {"proxy-next-upstream-timeout", Prefixes::kBoth, retry_timeout},
    {"route-limit-rpm", Prefixes::kHigressOnly, part_int<&O::rate_limit, &RateLimitOptions::rpm>},
    {"route-limit-rps", Prefixes::kHigressOnly, part_int<&O::rate_limit, &RateLimitOptions::rps>},
    {"route-limit-burst-multiplier", Prefixes::kHigressOnly,
     part_int<&O::rate_limit, &RateLimitOptions::burst_multiplier>},
    // Service
    {"backend-protocol", Prefixes::kBoth, protocol},
    {"proxy-ssl-secret", Prefixes::kBoth, ssl_secret},
    {"proxy-ssl-verify", Prefixes::kBoth, ssl_verify},
    {"proxy-ssl-name", Prefixes::kBoth, ssl_name},
    {"proxy-ssl-server-name", Prefixes::kBoth, ssl_server_name},
    {"load-balance", Prefixes::kBoth, load_balance},
    {"upstream-hash-by", Prefixes::kBoth, hash_by},
    {"affinity", Prefixes::kBoth, affinity},
    {"session-cookie-name", Prefixes::kBoth, cookie_name},
    {"session-cookie-path", Prefixes::kBoth, cookie_path},
    {"session-cookie-max-age", Prefixes::kBoth, cookie_age<&S::cookie_max_age>},
    {"session-cookie-expires", Prefixes::kBoth, cookie_age<&S::cookie_expires>},
    // Host
    {"auth-tls-secret", Prefixes::kBoth, auth_tls_secret},
    {"ssl-cipher", Prefixes::kBoth, ssl_cipher},
    {"tls-min-protocol-version", Prefixes::kBoth, tls_version<&TlsOptions::min_version>},
    {"tls-max-protocol-version", Prefixes::kBoth, tls_version<&TlsOptions::max_version>},
    // Filters
    {"enable-cors", Prefixes::kBoth, part_bool<&O::cors, &CorsOptions::enable>},
    {"cors-allow-origin", Prefixes::kBoth, allow_origins},
    {"cors-allow-methods", Prefixes::kBoth, cors_list<&CorsOptions::allow_methods>},
    {"cors-allow-headers", Prefixes::kBoth, cors_list<&CorsOptions::allow_headers>},
    {"cors-expose-headers", Prefixes::kBoth, cors_list<&CorsOptions::expose_headers>},
    {"cors-allow-credentials", Prefixes::kBoth, part_bool<&O::cors, &CorsOptions::allow_credentials>},
    {"cors-max-age", Prefixes::kBoth, part_int<&O::cors, &CorsOptions::max_age>},
    {"request-header-control-add", Prefixes::kHigressOnly, part_edits<&O::request_headers, &HeaderControl::add>},
    {"request-header-control-update", Prefixes::kHigressOnly, part_edits<&O::request_headers, &HeaderControl::update>},
    {"request-header-control-remove", Prefixes::kHigressOnly, part_names<&O::request_headers, &HeaderControl::remove>},
    {"response-header-control-add", Prefixes::kHigressOnly, part_edits<&O::response_headers, &HeaderControl::add>},
    {"response-header-control-update", Prefixes::kHigressOnly,
     part_edits<&O::response_headers, &HeaderControl::update>},
    {"response-header-control-remove", Prefixes::kHigressOnly,
     part_names<&O::response_headers, &HeaderControl::remove>},
    {"filters", Prefixes::kSluiceOnly, filters},
    {"upstream", Prefixes::kSluiceOnly, upstream},
};

const Annotation* find_annotation(std::string_view key) {
  static const auto* const kByKey = [] {
    auto* map = new std::unordered_map<std::string_view, const Annotation*>;
    for (const Annotation& annotation : kTable) map->emplace(annotation.key, &annotation);
    return map;
  }();
  auto at = kByKey->find(key);
  return at == kByKey->end() ? nullptr : at->second;
}

// --- match-header and its relatives: the name is part of the key ---

struct Family {
  std::string_view infix;
  config::ValueMatch::Source source;
};
constexpr Family kFamilies[] = {
    {"-match-header-", config::ValueMatch::Source::kHeader},
    {"-match-query-", config::ValueMatch::Source::kQuery},
    {"-match-pseudo-header-", config::ValueMatch::Source::kAuthority},
};

bool set_pseudo_header(config::ValueMatch& match) {
  using Source = config::ValueMatch::Source;
  if (match.name == "authority") return match.source = Source::kAuthority, true;
  if (match.name == "path") return match.source = Source::kPath, true;
  if (match.name == "method") return match.source = Source::kMethod, true;
  if (match.name == "scheme") return match.source = Source::kScheme, true;
  return false;
}

bool read_match_kind(std::string_view kind, std::string_view value, config::ValueMatch& match, std::string& error) {
  match.value = value;
  if (kind == "exact") return match.kind = config::ValueMatch::Kind::kExact, true;
  if (kind == "prefix") return match.kind = config::ValueMatch::Kind::kPrefix, true;
  match.kind = config::ValueMatch::Kind::kRegex;
  if (match.source == config::ValueMatch::Source::kQuery && value == "*") {
    return match.kind = config::ValueMatch::Kind::kPresent, true;
  }
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto regex = std::make_shared<re2::RE2>(re2::StringPiece(value.data(), value.size()), options);
  if (!regex->ok()) {
    error = in_quotes(value) + " is not a regular expression: " + regex->error();
    return false;
  }
  return match.regex = std::move(regex), true;
}

// Returns true if the key belongs to a family.
bool read_match(std::string_view key, std::string_view value, IngressOptions& out, std::string& error) {
  std::string_view kind = key.substr(0, key.find('-'));
  if (kind != "exact" && kind != "prefix" && kind != "regex") return false;
  std::string_view rest = key.substr(kind.size());
  for (const Family& family : kFamilies) {
    if (!rest.starts_with(family.infix)) continue;
    config::ValueMatch match;
    match.source = family.source;
    match.name = rest.substr(family.infix.size());
    bool query = family.source == config::ValueMatch::Source::kQuery;
    if (!query) match.name = resource::to_lower(match.name);
    bool pseudo = family.source == config::ValueMatch::Source::kAuthority;
    if (match.name.empty()) {
      error = "the key names no header or parameter";
    } else if (pseudo && !set_pseudo_header(match)) {
      error = in_quotes(match.name) + " is not one of authority, path, method, scheme";
    } else if (read_match_kind(kind, value, match, error)) {
      out.conditions.push_back(std::move(match));
    }
    return true;
  }
  return false;
}

// --- applying ---

struct Given {
  const resource::Pair* nginx = nullptr;
  const resource::Pair* higress = nullptr;
};

class AnnotationReader {
 public:
  AnnotationReader(const resource::Ingress& ingress, resource::Diagnostics& diagnostics)
      : ingress_(ingress), diagnostics_(diagnostics) {}

  IngressOptions read() {
    for (const resource::Pair& pair : ingress_.meta.annotations) collect(pair);
    // In the order of the table, so that nothing depends on the order in the file.
    for (const Annotation& annotation : kTable) {
      if (given_.empty()) break;
      if (auto at = given_.find(&annotation); at != given_.end()) apply(annotation, at->second);
    }
    std::sort(out_.conditions.begin(), out_.conditions.end(), [](const auto& a, const auto& b) {
      return std::tie(a.source, a.name, a.kind, a.value) < std::tie(b.source, b.name, b.kind, b.value);
    });
    return std::move(out_);
  }

 private:
  void collect(const resource::Pair& pair) {
    std::string_view key = pair.key;
    bool nginx = key.starts_with(kNginx);
    bool higress = !nginx && key.starts_with(kHigress);
    bool sluice = !nginx && !higress && key.starts_with(kSluice);
    if (!nginx && !higress && !sluice) return;
    std::string_view name = key.substr(nginx ? kNginx.size() : higress ? kHigress.size() : kSluice.size());
    if (const Annotation* annotation = find_annotation(name)) {
      bool read = annotation->prefixes == Prefixes::kBoth          ? nginx || higress
                  : annotation->prefixes == Prefixes::kHigressOnly ? higress
                                                                   : sluice;
      if (read) {
        (nginx ? given_[annotation].nginx : given_[annotation].higress) = &pair;
        return;
      }
      std::string right(annotation->prefixes == Prefixes::kSluiceOnly ? kSluice : kHigress);
      return report(resource::Severity::kWarning, pair,
                    "is not read with this prefix; write " + right + std::string(name));
    }
    std::string error;
    if (higress && read_match(name, pair.value, out_, error)) {
      if (!error.empty()) report(resource::Severity::kError, pair, error);
      return;
    }
    report(resource::Severity::kWarning, pair, "is not supported and has no effect");
  }

  void apply(const Annotation& annotation, const Given& given) {
    if (given.nginx && apply(annotation, *given.nginx)) return;
    if (given.higress) apply(annotation, *given.higress);
  }

  bool apply(const Annotation& annotation, const resource::Pair& pair) {
    std::string value = trim_lines(pair.value);
    if (trim(value).empty()) return report(resource::Severity::kWarning, pair, "is empty and has no effect"), false;
    std::string error;
    bool good = annotation.parse({value, pair.value, ingress_.meta.ns, out_, &error});
    if (!error.empty()) report(good ? resource::Severity::kWarning : resource::Severity::kError, pair, error);
    return good;
  }

  void report(resource::Severity severity, const resource::Pair& pair, std::string message) {
    diagnostics_.push_back({severity, ingress_.meta.file ? *ingress_.meta.file : std::string(), pair.mark.line,
                            pair.mark.column, ingress_.key().to_string(), "metadata.annotations[" + pair.key + "]",
                            std::move(message)});
  }

  const resource::Ingress& ingress_;
  resource::Diagnostics& diagnostics_;
  IngressOptions out_;
  std::unordered_map<const Annotation*, Given> given_;
};

}  // namespace

IngressOptions parse_annotations(const resource::Ingress& ingress, resource::Diagnostics& out) {
  return AnnotationReader(ingress, out).read();
}

std::vector<AnnotationInfo> known_annotations() {
  std::vector<AnnotationInfo> out;
  for (const Annotation& annotation : kTable) {
    out.push_back({annotation.key, annotation.prefixes != Prefixes::kBoth});
  }
  return out;
}

bool path_is_regex(const IngressOptions& options, std::string_view path) {
  if (!options.has_rewrite_family()) return false;
  if (options.use_regex || options.full_path_regex) return true;
  const std::string& target = options.rewrite_target;
  if (target.empty()) return false;
  return path.find_first_of("\\.+*?()|[]{}^$") != path.npos || target.find_first_of("$\\") != target.npos;
}

}  // namespace sluice::compile
