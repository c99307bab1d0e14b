#pragma once
// The annotations of an Ingress, read into typed options. Which there are is written down in tables,
// compile/annotation_table.h.
//
// An annotation is written with the prefix `nginx.ingress.kubernetes.io/` or `higress.io/`. Where
// both are read, the nginx one wins if it is present and valid. A value that can't be understood is
// reported and dropped; the others apply.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compile/upstream_policy.h"
#include "config/route.h"
#include "plugins/config_node.h"
#include "resource/diagnostic.h"
#include "resource/objects.h"

namespace sluice::compile {

// One line of higress.io/destination.
struct DestinationLine {
  uint32_t weight = 100;
  std::string host;
  uint16_t port = 0;  // 0: the service's only port
  std::string subset;
};

struct SecretRef {
  std::string ns, name;
  bool empty() const { return name.empty(); }
  std::string to_string() const { return ns + "/" + name; }
  bool operator==(const SecretRef&) const = default;
};

// What the oldest Ingress that says any of it decides for a service and port.
struct ServiceOptions {
  bool any = false;
  enum class Protocol : uint8_t { kUnset, kHttp, kHttp2, kHttps, kGrpc, kGrpcs } protocol = Protocol::kUnset;
  SecretRef client_secret;     // proxy-ssl-secret
  std::optional<bool> verify;  // absent: if there is a CA
  std::string ssl_name;
  bool send_server_name = false;
  std::string ciphers;                           // of TLS 1.2 to the service; empty: default
  std::string tls_min_version, tls_max_version;  // "TLSv1.2"; empty: default
  int64_t verify_depth = 0;                      // of the service's certificate chain; 0: unlimited
  int64_t connect_timeout_seconds = 0;           // 0: the default
  bool cluster_ip = false;                       // service-upstream
  bool hash_by_subset = false;
  int64_t hash_subset = 3;  // endpoints in a subset
  std::optional<config::LoadBalancing> load_balancing;
  config::HashPolicy hash;  // upstream-hash-by
  bool affinity = false;    // the cookie below beats `hash`
  config::AffinityCookie cookie;
  std::optional<bool> affinity_sticky;  // towards canaries too
  std::string cookie_name = "INGRESSCOOKIE";
  std::optional<int64_t> cookie_max_age, cookie_expires;
  std::shared_ptr<const UpstreamPolicy> policy;  // sluice.io/upstream; null: none

  // Says something about TLS to the service.
  bool has_tls() const {
    return !client_secret.empty() || verify || !ciphers.empty() || !tls_min_version.empty() || verify_depth > 0 ||
           send_server_name;
  }
};

// What the oldest Ingress of a host that says any of it decides for the host.
struct TlsOptions {
  bool any = false;
  SecretRef client_ca;  // auth-tls-secret
  enum class Verify : uint8_t { kOn, kOff, kOptional, kOptionalNoCa } verify = Verify::kOn;
  int64_t verify_depth = -1;
  bool error_page = false;  // there is one: a handshake must not fail for want of a certificate
  bool asks_clients() const { return !client_ca.empty() && verify != Verify::kOff; }
  std::string ciphers;
  std::string min_version, max_version;  // "TLSv1.2"; empty: default
  bool client_prefers_ciphers = false;
};

// key and value of a header edit
using HeaderEdits = std::vector<std::pair<std::string, std::string>>;

struct HeaderControl {
  HeaderEdits add, update;
  std::vector<std::string> remove;
  bool empty() const { return add.empty() && update.empty() && remove.empty(); }
};

struct CorsOptions {
  bool enable = false;
  std::vector<std::string> allow_origins = {"*"};
  std::vector<std::string> allow_methods, allow_headers;  // empty: the plugin's defaults
  std::vector<std::string> expose_headers;
  bool allow_credentials = true;
  int64_t max_age = 1728000;
};

struct RateLimitOptions {
  int64_t rpm = 0, rps = 0;
  int64_t burst_multiplier = 5;
};

struct RetryOptions {
  bool any = false;
  std::optional<int64_t> tries;
  int64_t timeout_seconds = 0;
  std::string conditions;
};

struct RedirectOptions {
  std::string temporal, permanent;
  int64_t temporal_code = 302;
  int64_t permanent_code = 301;
  std::optional<bool> to_https;  // ssl-redirect
  bool force_https = false;      // force-ssl-redirect
};

struct FilterOptions {
  std::string name;
  plugins::ConfigNode config;
};

// A canary Ingress adds itself to the routes of another: by a header, or else a cookie, or else a share of the
// requests.
struct CanaryOptions {
  bool enable = false;
  std::string header, header_value, header_pattern, cookie;
  int64_t weight = 0;
  std::optional<int64_t> weight_total;
};

// Who may come at all. `allow` empty: everybody but those in `deny`.
struct AddressOptions {
  std::vector<std::string> allow, deny;  // IP or CIDR
  bool any() const { return !allow.empty() || !deny.empty(); }
};

struct AuthOptions {
  std::string type;  // auth-type as written; empty: none
  std::string realm;
  SecretRef secret;
  bool secret_is_map = false;  // auth-secret-type auth-map: a key per user
  bool any() const { return !type.empty() || !secret.empty(); }
};

// A request that another service decides about.
struct ExternalAuthOptions {
  std::string url;  // as written; empty: none
  bool https = false;
  std::string host;  // "$host": that of the rule
  uint16_t port = 0;
  std::string path;  // with variables, as the texts below
  std::string method, signin, signin_param, request_redirect, cache_key;
  std::vector<std::string> response_headers, cache_duration;
  SecretRef headers_map;                                    // a ConfigMap
  std::vector<std::pair<std::string, std::string>> fields;  // auth-snippet: further ones of the call
  bool always_set_cookie = false;
  bool global = true;       // the global one applies where there is no URL
  bool unreadable = false;  // of the global one: it was given and never understood; the routes are closed
  bool operator==(const ExternalAuthOptions&) const = default;
};

// Per client address.
struct ClientLimitOptions {
  int64_t rps = 0, rpm = 0, connections = 0;  // 0: no limit
  int64_t burst_multiplier = 5;
  int64_t status = 503;
  std::vector<std::string> exempt;          // IP or CIDR
  int64_t bytes_per_second = 0, after = 0;  // of a response
  bool any() const { return rps > 0 || rpm > 0 || connections > 0; }
};

struct SizeOptions {
  int64_t request_body = 0, response_head = 0;  // bytes; 0: no limit
};

// What is asked of a client's certificate beyond the handshake.
struct ClientCertificateOptions {
  std::string match_subject;  // a regular expression
  std::string error_page;
  bool pass = false;
};

struct MirrorOptions {
  std::string service_ns, service;  // mirror-target-service
  uint16_t service_port = 0;        // 0: its first port
  std::string fqdn;                 // beats the service
  int64_t fqdn_port = 80;
  std::string url;       // mirror-target without scheme and host, with variables; beats both
  std::string url_host;  // empty: no URL
  uint16_t url_port = 0;
  bool url_https = false;
  int64_t percentage = 100;
  std::string host;  // of the copies; empty: the request's with `-shadow`
  bool body = true;
  bool any() const { return !service.empty() || !fqdn.empty() || !url_host.empty(); }
};

struct FallbackOptions {
  std::string ns, service;            // default-backend
  std::vector<uint16_t> error_codes;  // custom-http-errors
  bool intercept = true;              // false: error_codes have no effect
};

// What is replaced in responses, and by what.
struct ResponseOptions {
  HeaderEdits cookie_domain, cookie_path;
};

struct IngressOptions {
  bool as_nginx = false;  // sluice.io/compat: where nginx and Higress differ, as nginx
  CanaryOptions canary;
  // Not empty: the routes answer 503, because an annotation that restricts access could not be understood. Says which.
  std::string refusal;
  AddressOptions addresses;
  AuthOptions auth;
  ExternalAuthOptions external_auth;
  bool satisfy_any = false;  // an allowed address, or authentication
  ClientLimitOptions client_limit;
  SizeOptions size;
  ClientCertificateOptions client_certificate;
  SecretRef custom_headers;  // a ConfigMap of response headers
  std::string forwarded_prefix;
  bool access_log = true, relative_redirects = false;
  bool http10 = false;  // towards the service
  config::RouteTracing tracing;
  MirrorOptions mirror;
  FallbackOptions fallback;
  // Routes.
  std::string rewrite_target, rewrite_path, upstream_vhost, app_root;
  bool use_regex = false, full_path_regex = false, ignore_path_case = false;
  std::string raw_methods;  // as written, part of the rule key
  std::vector<std::string> methods;
  std::vector<config::ValueMatch> conditions;  // sorted, so that equal sets are equal lists
  int64_t timeout_seconds = 0;
  int64_t read_timeout_seconds = 0, send_timeout_seconds = 0;  // 0: none
  RetryOptions retry;
  RedirectOptions redirect;
  CorsOptions cors;
  HeaderControl request_headers, response_headers;
  RateLimitOptions rate_limit;
  ResponseOptions response;
  plugins::ConfigNode directives;          // of snippets: a list of steps; null: none
  std::string redirect_from, redirect_to;  // of Location; empty: kept
  std::vector<FilterOptions> filters;      // sluice.io/filters, in order
  std::vector<DestinationLine> destinations;
  // Services and hosts.
  std::vector<std::string> aliases;
  bool from_to_www = false;
  bool ssl_passthrough = false;
  ServiceOptions service;
  TlsOptions tls;

  bool has_rewrite_family() const {
    return !rewrite_target.empty() || !rewrite_path.empty() || use_regex || full_path_regex || !upstream_vhost.empty();
  }
};

// Reads all annotations of the Ingress. Messages are appended to `out`. `as_nginx`: whose meaning holds if the Ingress
// does not say.
IngressOptions parse_annotations(const resource::Ingress& ingress, bool as_nginx, resource::Diagnostics& out);

// What an annotation applies to. The routes of a canary Ingress are copies of their base's: of kRoute annotations a
// canary keeps only those that say so (kCanaryRoute).
enum class AnnotationScope : uint8_t { kMatch, kRoute, kCanaryRoute, kCanary, kService, kHost };
enum class AnnotationStatus : uint8_t { kWorks, kAccepted };

// For documentation and completeness tests: each known key.
struct AnnotationInfo {
  std::string_view key;  // without prefix; a family ends in '*'
  bool nginx, higress;   // the prefixes that are read; neither: sluice.io/
  AnnotationStatus status;
  std::string_view difference;  // to what the key means elsewhere, or what an accepted one does; empty: none
};
std::vector<AnnotationInfo> known_annotations();
// What is known of a key with its prefix. Nothing: it is one of ours, nginx's or Higress's prefixes, but not known, or
// not read with that prefix.
std::optional<AnnotationInfo> annotation_info(std::string_view key);
// Whether the key has one of those prefixes.
bool is_gateway_annotation(std::string_view key);
// The annotations that the Ingress gives and that have no effect because it is a canary: their full keys.
std::vector<std::string> without_effect_in_canary(const resource::Ingress& ingress);

// Those that keep somebody out, but not out of TLS connections that are passed through: their full keys.
std::vector<std::string> without_effect_in_passthrough(const resource::Ingress& ingress);

// All tables as Markdown.
std::string annotations_documentation();

// Whether a path with these options is a regular expression (Higress: when a rewrite may refer to
// parts of it).
bool path_is_regex(const IngressOptions& options, std::string_view path);

}  // namespace sluice::compile
