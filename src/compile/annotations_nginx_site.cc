// Annotations of ingress-nginx about hosts, redirects, responses and mirrors.

#include <algorithm>

#include "compile/annotation_parsers.h"
#include "plugins/schema.h"
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

bool mirror_body(const AnnotationCall& c) { return on_off(c, &c.out.mirror.body); }
bool mirror_host(const AnnotationCall& c) {
  std::string host(c.value);
  if (std::string problem = plugins::check_authority(host); !problem.empty()) {
    *c.error = std::move(problem);
    return false;
  }
  return c.out.mirror.host = std::move(host), true;
}

constexpr Annotation kTable[] = {
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
    // Redirects and responses
    {"temporal-redirect-code", Prefixes::kNginx, Scope::kRoute, temporal_code,
     "Status of `temporal-redirect`: 301, 302, 303, 307 or 308; default 302.", "307"},
    {"proxy-cookie-domain", Prefixes::kNginx, Scope::kRoute, cookie_domain,
     "`from to`: replaces the Domain of cookies that the service sets. `off`: none.", "internal.example example.com"},
    {"proxy-cookie-path", Prefixes::kNginx, Scope::kRoute, cookie_path,
     "`from to`: replaces the beginning of the Path of cookies. `off`: none.", "/app/ /"},
    {"proxy-redirect-from", Prefixes::kNginx, Scope::kRoute, to_text<&O::redirect_from>,
     "Beginning of Location and Refresh that is replaced, or a regular expression after `~`. `off`, `default`: none.",
     "http://internal:8080/"},
    {"proxy-redirect-to", Prefixes::kNginx, Scope::kRoute, to_text<&O::redirect_to>,
     "What is put in its place; may hold groups and variables.", "https://$host/"},
    {"disable-proxy-intercept-errors", Prefixes::kNginx, Scope::kRoute, no_interception,
     "`true`: `custom-http-errors` has no effect on these routes.", "true"},
    // Mirrors
    {"mirror-host", Prefixes::kNginx, Scope::kRoute, mirror_host, "Host of the copies.", "shadow.example.com",
     Status::kWorks, "Also for the copies of `mirror-target-service`."},
    {"mirror-request-body", Prefixes::kNginx, Scope::kRoute, mirror_body, "`off`: the copies have no body.", "off"},
};

}  // namespace

std::span<const Annotation> nginx_site_annotations() { return kTable; }

}  // namespace sluice::compile
