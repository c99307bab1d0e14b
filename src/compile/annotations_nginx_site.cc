// Annotations of ingress-nginx about hosts, redirects, responses and mirrors.

#include <algorithm>

#include "compile/annotation_parsers.h"
#include "compile/nginx_snippet.h"
#include "plugins/schema.h"
#include "plugins/variables.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

using namespace read;
using resource::in_quotes;
using O = IngressOptions;
using Scope = AnnotationScope;
using Status = AnnotationStatus;

constexpr size_t kMaxAliases = 100;

bool server_alias(const AnnotationCall& c) {
  std::vector<std::string> names;
  for (const std::string& entry : split_list(c.value, ", \t\n")) {
    const std::string name = resource::to_lower(entry);
    if (name.starts_with('~')) {
      *c.error = in_quotes(entry) + " is ignored: a regular expression can't be a host; write names or *.domain";
    } else if (!resource::is_dns_name(name.starts_with("*.") ? name.substr(2) : name)) {
      *c.error = in_quotes(entry) + " is ignored: it is not a host name";
    } else if (names.size() == kMaxAliases) {
      *c.error = in_quotes(entry) + " is ignored: there are more than " + std::to_string(kMaxAliases) + " names";
    } else if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  if (names.empty()) return false;
  return c.out.aliases = std::move(names), true;
}

bool prefer_server_ciphers(const AnnotationCall& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  c.out.tls.client_prefers_ciphers = !on;
  return c.out.tls.any = true;
}

bool temporal_code(const AnnotationCall& c) {
  int64_t code;
  if (!parse_int(c.raw, &code, c.error)) return false;
  if (code != 301 && code != 302 && code != 303 && code != 307 && code != 308) {
    *c.error = in_quotes(c.raw) + " is not one of 301, 302, 303, 307, 308; 302 is used";
    code = 302;
  }
  return c.out.redirect.temporal_code = code, true;
}

bool no_interception(const AnnotationCall& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  return c.out.fallback.intercept = !on, true;
}

bool redirect_from(const AnnotationCall& c) {
  std::string_view pattern = c.value;
  if (pattern.starts_with('~')) {
    pattern.remove_prefix(pattern.starts_with("~*") ? 2 : 1);
    std::shared_ptr<const re2::RE2> unused;
    if (!compile_regex(trim(pattern), &unused, c.error)) return false;
  }
  return c.out.redirect_from = c.value, true;
}

// "off", or lines or `;`-separated pairs "from to".
bool rewrite_pairs(const AnnotationCall& c, std::vector<std::pair<std::string, std::string>>* out) {
  out->clear();
  if (c.value == "off") return true;
  for (const std::string& part : split_list(c.value, "\n;")) {
    std::vector<std::string> words = split_list(part, " \t");
    if (words.size() == 3 && (words[0] == "~" || words[0] == "~*")) {
      words = {words[0] + words[1], words[2]};
    }
    if (words.size() != 2) {
      *c.error = in_quotes(part) + " is not \"off\" or two texts, what to find and what to put in its place";
      return false;
    }
    out->emplace_back(words[0], words[1]);
  }
  return true;
}
bool cookie_domain(const AnnotationCall& c) { return rewrite_pairs(c, &c.out.response.cookie_domain); }
bool cookie_path(const AnnotationCall& c) { return rewrite_pairs(c, &c.out.response.cookie_path); }

// "https://host[:port]$request_uri"; the host has no variables, because its connections outlive a request.
bool mirror_target(const AnnotationCall& c) {
  std::string_view text = c.value;
  const bool https = text.starts_with("https://");
  if (!https && !text.starts_with("http://")) {
    *c.error = in_quotes(c.value) + " is not an http or https URL";
    return false;
  }
  text.remove_prefix(https ? 8 : 7);
  const size_t end = std::min(text.find_first_of("/$"), text.size());
  std::string host = resource::to_lower(text.substr(0, end));
  std::string path(text.substr(end));
  int64_t port = https ? 443 : 80;
  if (const size_t colon = host.rfind(':'); colon != host.npos) {
    if (!parse_int(std::string_view(host).substr(colon + 1), &port, c.error) || port < 1 || port > 65535) return false;
    host.resize(colon);
  }
  if (!resource::is_dns_name(host)) {
    *c.error = in_quotes(host) + " is not a host; variables may stand only behind it";
    return false;
  }
  if (auto parsed = plugins::VariableTemplate::parse(path); !parsed) return *c.error = parsed.error().message, false;
  MirrorOptions& mirror = c.out.mirror;
  mirror.url_host = std::move(host);
  mirror.url_port = static_cast<uint16_t>(port);
  mirror.url_https = https;
  mirror.url = path.empty() ? "/" : path.starts_with("/$request_uri") ? path.substr(1) : path;
  return true;
}

bool mirror_body(const AnnotationCall& c) { return on_off(c, &c.out.mirror.body); }
bool mirror_host(const AnnotationCall& c) {
  std::string host(c.value);
  if (std::string problem = plugins::check_authority(host); !problem.empty()) {
    *c.error = std::move(problem);
    return false;
  }
  return c.out.mirror.host = std::move(host), true;
}

// Adds what can be translated, the host's before the location's, as the table has them.
bool snippet(const AnnotationCall& c) {
  NginxSnippet translated = translate_nginx_snippet(c.raw);
  for (const std::string& problem : translated.problems) *c.error += (c.error->empty() ? "" : "; ") + problem;
  if (!translated.lost_guard.empty()) return false;
  if (translated.steps.items().empty()) return true;
  if (c.out.directives.is_null()) c.out.directives = plugins::ConfigNode::list();
  for (const plugins::ConfigNode& step : translated.steps.items()) c.out.directives.add(step);
  return true;
}

bool stream_snippet(const AnnotationCall& c) {
  *c.error = "has no effect: directives about TCP and UDP servers can't be translated";
  return true;
}

constexpr std::string_view kSnippetDifference =
    "`more_set_headers`, `more_clear_headers`, `more_set_input_headers`, `add_header`, `proxy_set_header`, "
    "`proxy_hide_header`, `return`, `rewrite`, `allow` and `deny`, also in `if` on one variable and in `location` are "
    "translated; each other directive is reported with its line and has no effect. One that was to keep somebody out "
    "closes the routes, as does a mistake in the syntax.";

constexpr Annotation kTable[] = {
    // Snippets
    {"server-snippet", Prefixes::kNginx, Scope::kRoute, snippet, "Directives of nginx for the Ingress's routes.",
     "location ~ /[.]git { deny all; }", Status::kWorks,
     "As `configuration-snippet`; holds for the routes of this Ingress (nginx: for its hosts).", IfInvalid::kClose},
    {"configuration-snippet", Prefixes::kNginx, Scope::kRoute, snippet, "Directives of nginx for the Ingress's routes.",
     "more_set_headers \"X-Frame-Options: DENY\";", Status::kWorks, kSnippetDifference, IfInvalid::kClose},
    {"stream-snippet", Prefixes::kNginx, Scope::kRoute, stream_snippet, "Directives of nginx about TCP and UDP.",
     "server { listen 8000; proxy_pass 127.0.0.1:80; }", Status::kAccepted, "No effect, and reported."},
    // Hosts
    {"server-alias", Prefixes::kNginx, Scope::kHost, server_alias,
     "Further host names, also `*.domain`, for the paths of the Ingress's first host, its canaries included.",
     "b.example.com, *.c.example.com", Status::kWorks,
     "A host with rules of its own wins over an alias, and of several aliases that of the oldest Ingress."},
    {"from-to-www-redirect", Prefixes::kNginx, Scope::kHost, to_bool<&O::from_to_www>,
     "`www.<host>` is redirected to `<host>` with 308, or the other way round for a host that begins with `www.`.",
     "true", Status::kWorks, "A host with rules of its own is not redirected."},
    {"ssl-ciphers", Prefixes::kNginx, Scope::kHost, ssl_cipher, "As `ssl-cipher`.", "ECDHE-RSA-AES128-GCM-SHA256",
     Status::kWorks, "Only ECDHE with AEAD."},
    {"ssl-prefer-server-ciphers", Prefixes::kNginx, Scope::kHost, prefer_server_ciphers,
     "`false`: of the cipher suites of TLS 1.2 the client's preferred one is taken.", "false", Status::kWorks,
     "Suites of equal strength are always the client's choice."},
    {"ssl-passthrough", Prefixes::kBoth, Scope::kHost, to_bool<&O::ssl_passthrough>,
     "TLS connections for the hosts go, as they are, to the service of path `/`; plain HTTP is routed as ever. The "
     "oldest "
     "Ingress of a host decides.",
     "true", Status::kWorks,
     "No flag is needed, and wildcard hosts work. Endpoints are connected to directly (nginx: the ClusterIP). Of what "
     "restricts access only the addresses count for TLS; the others are reported."},
    // Redirects and responses
    {"temporal-redirect-code", Prefixes::kNginx, Scope::kRoute, temporal_code,
     "Status of `temporal-redirect`: 301, 302, 303, 307 or 308; default 302.", "307"},
    {"proxy-cookie-domain", Prefixes::kNginx, Scope::kRoute, cookie_domain,
     "`from to`: replaces the Domain of cookies that the service sets. `off`: none.", "internal.example example.com"},
    {"proxy-cookie-path", Prefixes::kNginx, Scope::kRoute, cookie_path,
     "`from to`: replaces the beginning of the Path of cookies. `off`: none.", "/app/ /"},
    {"proxy-redirect-from", Prefixes::kNginx, Scope::kRoute, redirect_from,
     "Beginning of Location and Refresh that is replaced, or a regular expression after `~`. `off`, `default`: none.",
     "http://internal:8080/"},
    {"proxy-redirect-to", Prefixes::kNginx, Scope::kRoute, to_text<&O::redirect_to>,
     "What is put in its place; may hold groups and variables.", "https://$host/"},
    {"disable-proxy-intercept-errors", Prefixes::kNginx, Scope::kRoute, no_interception,
     "`true`: `custom-http-errors` has no effect on these routes.", "true"},
    // Mirrors
    {"mirror-target", Prefixes::kNginx, Scope::kRoute, mirror_target,
     "A copy of each request goes to this URL, which may hold variables behind the host; the answer is dropped.",
     "https://shadow.example.com$request_uri", Status::kWorks,
     "Beats `mirror-target-service`. Requests with a body of more than 1 MiB are not copied."},
    {"mirror-host", Prefixes::kNginx, Scope::kRoute, mirror_host, "Host of the copies.", "shadow.example.com",
     Status::kWorks, "Also for the copies of `mirror-target-service`."},
    {"mirror-request-body", Prefixes::kNginx, Scope::kRoute, mirror_body, "`off`: the copies have no body.", "off"},
};

}  // namespace

std::span<const Annotation> nginx_site_annotations() { return kTable; }

}  // namespace sluice::compile
