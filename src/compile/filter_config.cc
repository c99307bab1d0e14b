#include "compile/filter_config.h"

#include <re2/re2.h>

#include <algorithm>

namespace sluice::compile {
namespace {

using plugins::ConfigNode;

ConfigNode text(std::string value) { return ConfigNode::scalar(std::move(value), true); }
ConfigNode number(int64_t value) { return ConfigNode::scalar(std::to_string(value)); }
ConfigNode boolean(bool value) { return ConfigNode::scalar(value ? "true" : "false"); }

ConfigNode text_list(const std::vector<std::string>& values) {
  ConfigNode out = ConfigNode::list();
  for (const std::string& value : values) out.add(text(value));
  return out;
}

FilterSpec cors(CorsOptions options, bool as_nginx) {
  if (as_nginx && options.allow_headers.empty()) {
    options.allow_headers = {"DNT",           "Keep-Alive",   "User-Agent", "X-Requested-With", "If-Modified-Since",
                             "Cache-Control", "Content-Type", "Range",      "Authorization"};
  }
  FilterSpec out{"cors", ConfigNode::map(), "enable-cors"};
  out.config.set("allow_origins", text_list(options.allow_origins));
  if (!options.allow_methods.empty()) out.config.set("allow_methods", text_list(options.allow_methods));
  if (!options.allow_headers.empty()) out.config.set("allow_headers", text_list(options.allow_headers));
  if (!options.expose_headers.empty()) out.config.set("expose_headers", text_list(options.expose_headers));
  out.config.set("allow_credentials", boolean(options.allow_credentials));
  out.config.set("max_age", number(options.max_age));
  return out;
}

FilterSpec rate_limit(const RateLimitOptions& options) {
  FilterSpec out{"local-rate-limit", ConfigNode::map(), "route-limit", true};
  int64_t rate = options.rpm > 0 ? options.rpm : options.rps;
  int64_t multiplier = options.burst_multiplier > 0 ? options.burst_multiplier : 5;
  int64_t size = rate > INT32_MAX / multiplier ? INT32_MAX : rate * multiplier;
  out.config.set("max_tokens", number(size));
  out.config.set("tokens_per_fill", number(std::min<int64_t>(rate, INT32_MAX)));
  out.config.set("fill_interval_ms", number(options.rpm > 0 ? 60000 : 1000));
  return out;
}

ConfigNode edits(const HeaderEdits& list) {
  ConfigNode out = ConfigNode::list();
  for (const auto& [name, value] : list) {
    if (name == "host" || name.starts_with(':')) continue;
    ConfigNode& edit = out.add(ConfigNode::map());
    edit.set("name", text(name));
    edit.set("value", text(value));
  }
  return out;
}

ConfigNode header_control(const HeaderControl& control) {
  ConfigNode out = ConfigNode::map();
  std::vector<std::string> remove = control.remove;
  std::erase_if(remove, [](const std::string& name) { return name == "host"; });
  if (!remove.empty()) out.set("remove", text_list(remove));
  ConfigNode update = edits(control.update), add = edits(control.add);
  if (!update.items().empty()) out.set("update", std::move(update));
  if (!add.items().empty()) out.set("add", std::move(add));
  return out;
}

// Host in a request header edit stands for the authority; update beats add.
std::string edited_host(const HeaderControl& control) {
  for (const HeaderEdits* list : {&control.update, &control.add}) {
    for (const auto& [name, value] : *list) {
      if (name == "host" || name == ":authority") return value;
    }
  }
  return {};
}

std::string escaped(std::string_view literal) {
  return re2::RE2::QuoteMeta(re2::StringPiece(literal.data(), literal.size()));
}

// `or_authenticated`: those who are not on the list may authenticate instead.
FilterSpec addresses(const AddressOptions& options, bool or_authenticated) {
  FilterSpec out{"ip-restriction", ConfigNode::map(), "source-range"};
  if (!options.allow.empty() && !or_authenticated) out.config.set("allow", text_list(options.allow));
  if (!options.deny.empty()) out.config.set("deny", text_list(options.deny));
  out.config.set("body", text("RBAC: access denied"));
  out.guards = true;
  return out;
}

FilterSpec basic_auth(const IngressOptions& annotations, const std::vector<std::string>& users) {
  const AuthOptions& options = annotations.auth;
  FilterSpec out{"basic-auth", ConfigNode::map(), "auth-secret"};
  if (annotations.satisfy_any) out.config.set("skip_addresses", text_list(annotations.addresses.allow));
  if (!options.realm.empty()) out.config.set("realm", text(options.realm));
  out.config.set("users", text_list(users));
  out.guards = true;
  return out;
}

FilterSpec ext_auth(const IngressOptions& annotations, const AuthTarget& target) {
  const ExternalAuthOptions& options = annotations.external_auth;
  FilterSpec out{"ext-auth", ConfigNode::map(), "auth-url", true};
  out.guards = true;
  out.config.set("cluster", text(target.cluster));
  out.config.set("host", text(target.host));
  out.config.set("path", text(options.path));
  const auto set = [&](const char* field, const std::string& value) {
    if (!value.empty()) out.config.set(field, text(value));
  };
  set("method", options.method);
  set("signin", options.signin);
  set("signin_redirect_param", options.signin_param);
  set("request_redirect", options.request_redirect);
  set("cache_key", options.cache_key);
  if (!target.headers.empty()) {
    ConfigNode& headers = out.config.set("headers", ConfigNode::list());
    for (const auto& [name, value] : target.headers) {
      ConfigNode& header = headers.add(ConfigNode::map());
      header.set("name", text(name));
      header.set("value", text(value));
    }
  }
  if (!options.response_headers.empty()) out.config.set("response_headers", text_list(options.response_headers));
  if (!options.cache_duration.empty()) out.config.set("cache_duration", text_list(options.cache_duration));
  if (options.always_set_cookie) out.config.set("always_set_cookie", boolean(true));
  if (annotations.satisfy_any) out.config.set("skip_addresses", text_list(annotations.addresses.allow));
  return out;
}

FilterSpec client_certificate(const IngressOptions& annotations) {
  using Verify = TlsOptions::Verify;
  const ClientCertificateOptions& options = annotations.client_certificate;
  FilterSpec out{"client-certificate", ConfigNode::map(), "auth-tls-"};
  out.guards = true;
  out.config.set("required", boolean(annotations.tls.verify == Verify::kOn));
  out.config.set("verified",
                 boolean(annotations.tls.verify == Verify::kOn || annotations.tls.verify == Verify::kOptional));
  if (!options.match_subject.empty()) out.config.set("match_subject", text(options.match_subject));
  if (!options.error_page.empty()) out.config.set("error_page", text(options.error_page));
  out.config.set("pass_certificate", boolean(options.pass));
  return out;
}

FilterSpec client_limit(const ClientLimitOptions& options, std::string_view ingress) {
  FilterSpec out{"client-limit", ConfigNode::map(), "limit-"};
  out.config.set("scope", text(std::string(ingress)));
  out.config.set("requests_per_second", number(options.rps));
  out.config.set("requests_per_minute", number(options.rpm));
  out.config.set("burst_multiplier", number(options.burst_multiplier));
  out.config.set("connections", number(options.connections));
  out.config.set("exempt", text_list(options.exempt));
  out.config.set("status", number(options.status));
  return out;
}

FilterSpec bandwidth_limit(const ClientLimitOptions& options) {
  FilterSpec out{"bandwidth-limit", ConfigNode::map(), "limit-rate"};
  out.config.set("bytes_per_second", number(options.bytes_per_second));
  out.config.set("after_bytes", number(options.after));
  return out;
}

FilterSpec size_limit(const char* field, int64_t bytes, const char* source) {
  FilterSpec out{"size-limit", ConfigNode::map(), source};
  out.config.set(field, number(bytes));
  return out;
}

FilterSpec mirror(const MirrorOptions& options, const std::string& cluster) {
  FilterSpec out{"mirror", ConfigNode::map(), "mirror-"};
  out.stage = FilterSpec::Stage::kLate;
  out.config.set("cluster", text(cluster));
  if (!options.host.empty() || !options.url_host.empty()) {
    out.config.set("host", text(options.host.empty() ? options.url_host : options.host));
  }
  if (!options.url_host.empty()) out.config.set("target", text(options.url));
  if (!options.body) out.config.set("body", boolean(false));
  if (options.percentage < 100) out.config.set("percentage", number(options.percentage));
  return out;
}

ConfigNode rules(const HeaderEdits& pairs) {
  ConfigNode out = ConfigNode::list();
  for (const auto& [from, to] : pairs) {
    ConfigNode& rule = out.add(ConfigNode::map());
    rule.set("from", text(from));
    rule.set("to", text(to));
  }
  return out;
}

std::vector<FilterSpec> response_rewrites(const IngressOptions& options) {
  std::vector<FilterSpec> out;
  auto add = [&](const char* field, const HeaderEdits& pairs, const char* source) {
    if (pairs.empty()) return;
    FilterSpec& spec = out.emplace_back(FilterSpec{"response-rewrite", ConfigNode::map(), source});
    spec.config.set(field, rules(pairs));
  };
  add("cookie_domain", options.response.cookie_domain, "proxy-cookie-domain");
  add("cookie_path", options.response.cookie_path, "proxy-cookie-path");
  const std::string& from = options.redirect_from;
  if (!from.empty() && from != "off" && from != "default" && !options.redirect_to.empty()) {
    add("location", {{from, options.redirect_to}}, "proxy-redirect-from");
  }
  return out;
}

bool is_guard(std::string_view plugin) {
  return plugin == "ip-restriction" || plugin == "basic-auth" || plugin == "ext-auth" || plugin == "client-certificate";
}

// A replacement text that stands for itself.
std::string literal_replacement(std::string_view value) {
  std::string out;
  for (char c : value) {
    if (c == '\\') out += '\\';
    out += c;
  }
  return out;
}

// `by` is how the plugin finds what it replaces: "regex", "literal" or "prefix"; empty: the whole
// path.
struct PathRewrite {
  const char* by;
  std::string what, replacement;
};

PathRewrite by_rewrite_path(const std::string& target, const config::PathMatch& path) {
  if (path.kind != config::PathMatch::Kind::kPrefix) return {"", {}, target};
  if (!path.text.empty() && !path.ignore_case && !target.ends_with('/')) return {"prefix", path.text, target};
  // "/p" → "X", "/p/y" → "X/y"; an X that ends with a slash doesn't get a second one.
  std::string start = std::string(path.ignore_case ? "(?i)" : "") + "^" + escaped(path.text);
  std::string to = literal_replacement(target);
  if (target.ends_with('/')) return {"regex", start + "(/|$)", to};
  return {"regex", start + "(/.*)?$", to + "\\1"};
}

PathRewrite by_rewrite_target(const std::string& target, const config::PathMatch& path) {
  using Kind = config::PathMatch::Kind;
  // $1 means a group when any $ is followed by a digit.
  bool groups = false;
  for (size_t i = 0; i + 1 < target.size(); ++i)
    groups |= target[i] == '$' && target[i + 1] >= '0' && target[i + 1] <= '9';
  std::string to = target;
  if (groups) std::replace(to.begin(), to.end(), '$', '\\');
  const std::string start = path.ignore_case ? "(?i)" : "";
  if (path.kind == Kind::kPrefixRegex) return {"regex", start + path.text + ".*", to};
  if (path.kind == Kind::kFullRegex) return {"regex", start + path.text + "$", to};
  if (path.text.empty()) return {"regex", "^/", to};
  // Every occurrence of the path's text, as Higress does it.
  if (path.ignore_case) return {"regex", "(?i)" + escaped(path.text), to};
  return {"literal", path.text, to};
}

std::optional<FilterSpec> rewrite(const IngressOptions& options, const config::PathMatch& path) {
  FilterSpec out{"rewrite", ConfigNode::map(), "rewrite-target"};
  out.stage = FilterSpec::Stage::kLate;
  if (!options.upstream_vhost.empty()) {
    out.config.set("host", text(options.upstream_vhost));
    out.source = "upstream-vhost";
  }
  if (!options.rewrite_path.empty() || !options.rewrite_target.empty()) {
    PathRewrite by = options.rewrite_path.empty() ? by_rewrite_target(options.rewrite_target, path)
                                                  : by_rewrite_path(options.rewrite_path, path);
    out.source = options.rewrite_path.empty() ? "rewrite-target" : "rewrite-path";
    ConfigNode& node = out.config.set("path", ConfigNode::map());
    if (*by.by) node.set(by.by, text(by.what));
    node.set("replacement", text(by.replacement));
  }
  if (out.config.entries().empty()) return std::nullopt;
  return out;
}

void append_text(const ConfigNode& node, std::string& out) {
  switch (node.kind()) {
    case ConfigNode::Kind::kNull:
      out += '~';
      return;
    case ConfigNode::Kind::kScalar:
      out += node.quoted() ? "\"" : "'";
      out += std::to_string(node.text().size()) + ":" + node.text();
      return;
    case ConfigNode::Kind::kList:
      out += '[';
      for (const ConfigNode& item : node.items()) append_text(item, out);
      out += ']';
      return;
    case ConfigNode::Kind::kMap:
      out += '{';
      for (const auto& [key, value] : node.entries()) {
        out += std::to_string(key.size()) + ":" + key;
        append_text(value, out);
      }
      out += '}';
      return;
  }
}

}  // namespace

FilterSpec redirect_filter(const config::Redirect& redirect, std::string source) {
  FilterSpec out{"redirect", ConfigNode::map(), std::move(source)};
  out.config.set("status", number(redirect.status));
  if (!redirect.scheme.empty()) out.config.set("scheme", text(redirect.scheme));
  if (!redirect.host.empty()) out.config.set("host", text(redirect.host));
  if (!redirect.path.empty()) out.config.set("path", text(redirect.path));
  if (redirect.relative) out.config.set("relative", boolean(true));
  if (redirect.https_only_on_plaintext) out.config.set("https_only_on_plaintext", boolean(true));
  return out;
}

namespace {

// header-control reads operators in a value.
HeaderEdits literal(HeaderEdits edits) {
  for (auto& [name, value] : edits) {
    for (size_t at = value.find('%'); at != value.npos; at = value.find('%', at + 2)) value.insert(at, 1, '%');
  }
  return edits;
}

// Not of kHeaderEdits, which a canary replaces.
FilterSpec fixed_headers(const char* direction, HeaderEdits fields, const char* source, FilterSpec::Stage stage) {
  HeaderControl control;
  control.update = literal(std::move(fields));
  FilterSpec out{"header-control", ConfigNode::map(), source};
  out.stage = stage;
  out.config.set(direction, header_control(control));
  return out;
}

void add_header_edits(const IngressOptions& options, std::vector<FilterSpec>& out) {
  ConfigNode request = header_control(options.request_headers);
  ConfigNode response = header_control(options.response_headers);
  if (!request.entries().empty() || !response.entries().empty()) {
    FilterSpec headers{"header-control", ConfigNode::map(), "request-header-control"};
    headers.stage = FilterSpec::Stage::kHeaderEdits;
    if (request.entries().empty()) headers.source = "response-header-control";
    if (!request.entries().empty()) headers.config.set("request", std::move(request));
    if (!response.entries().empty()) headers.config.set("response", std::move(response));
    out.push_back(std::move(headers));
  }
  const std::string host = edited_host(options.request_headers);
  if (host.empty() || !options.upstream_vhost.empty()) return;
  FilterSpec authority{"rewrite", ConfigNode::map(), "request-header-control-update"};
  authority.stage = FilterSpec::Stage::kHeaderEdits;
  authority.config.set("host", text(host));
  out.push_back(std::move(authority));
}

}  // namespace

std::vector<FilterSpec> route_filters(const IngressOptions& options, const RouteFacts& facts) {
  std::vector<FilterSpec> out;
  if (!options.directives.is_null()) {
    FilterSpec& spec = out.emplace_back(FilterSpec{"directives", ConfigNode::map(), "-snippet"});
    spec.config.set("steps", options.directives);
    spec.guards = true;
  }
  if (options.cors.enable) out.push_back(cors(options.cors, options.as_nginx));
  // Around all that may answer.
  if (!facts.response_headers.empty()) {
    out.push_back(fixed_headers("response", facts.response_headers, "custom-headers", FilterSpec::Stage::kEarly));
  }
  const SizeOptions& size = options.size;
  if (size.request_body > 0) out.push_back(size_limit("request_body_bytes", size.request_body, "proxy-body-size"));
  const bool or_authenticated = options.satisfy_any && (facts.auth_users || facts.auth_target);
  if (!options.addresses.deny.empty() || (!options.addresses.allow.empty() && !or_authenticated)) {
    out.push_back(addresses(options.addresses, or_authenticated));
  }
  // Before authentication: a password is not asked for where it would be sent in clear.
  if (facts.redirect) out.push_back(redirect_filter(*facts.redirect, "redirect"));
  if (!options.tls.client_ca.empty()) out.push_back(client_certificate(options));
  if (options.client_limit.any()) out.push_back(client_limit(options.client_limit, facts.ingress));
  if (options.client_limit.bytes_per_second > 0) out.push_back(bandwidth_limit(options.client_limit));
  if (facts.auth_users) out.push_back(basic_auth(options, *facts.auth_users));
  if (facts.auth_target) out.push_back(ext_auth(options, *facts.auth_target));
  if (options.rate_limit.rpm > 0 || options.rate_limit.rps > 0) out.push_back(rate_limit(options.rate_limit));
  for (const FilterOptions& filter : options.filters) {
    FilterSpec& spec = out.emplace_back(FilterSpec{filter.name, filter.config, "sluice.io/filters"});
    spec.stateful = true;
    spec.guards = is_guard(filter.name);
  }
  for (FilterSpec& spec : response_rewrites(options)) out.push_back(std::move(spec));
  add_header_edits(options, out);
  if (auto spec = rewrite(options, facts.path)) out.push_back(std::move(*spec));
  if (!options.forwarded_prefix.empty() && (!options.rewrite_target.empty() || !options.rewrite_path.empty())) {
    out.push_back(fixed_headers("request", {{"x-forwarded-prefix", options.forwarded_prefix}}, "x-forwarded-prefix",
                                FilterSpec::Stage::kLate));
  }
  if (options.http10) {
    FilterSpec& spec = out.emplace_back(FilterSpec{"request-buffer", ConfigNode::map(), "proxy-http-version"});
    spec.stage = FilterSpec::Stage::kLate;
  }
  if (size.response_head > 0) {
    FilterSpec& spec = out.emplace_back(size_limit("response_head_bytes", size.response_head, "proxy-buffer-size"));
    spec.stage = FilterSpec::Stage::kLate;
  }
  if (!facts.mirror_cluster.empty()) out.push_back(mirror(options.mirror, facts.mirror_cluster));
  return out;
}

std::string fingerprint(const FilterSpec& spec) {
  std::string out = spec.name + ' ';
  append_text(spec.config, out);
  return out;
}

}  // namespace sluice::compile
