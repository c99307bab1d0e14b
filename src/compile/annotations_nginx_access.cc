// The annotations that ingress-nginx knows and Higress does not: who may come, how often, with how much.

#include "compile/annotation_parsers.h"

namespace sluice::compile {
namespace {

using namespace read;
using O = IngressOptions;
using Auth = ExternalAuthOptions;
using Scope = AnnotationScope;
using Status = AnnotationStatus;

constexpr Annotation kTable[] = {
    // Addresses
    {"allowlist-source-range",
     Prefixes::kNginx,
     Scope::kRoute,
     allow_addresses,
     "Another name for `whitelist-source-range`.",
     "10.0.0.0/8",
     Status::kWorks,
     {},
     IfInvalid::kClose},
    {"denylist-source-range", Prefixes::kBoth, Scope::kRoute, deny_addresses,
     "Clients with these addresses (IP or CIDR, comma-separated) get 403, whatever the whitelist says.", "10.9.0.0/16",
     Status::kWorks, "Any entry that is no address closes the route: who was to be kept out is not known.",
     IfInvalid::kClose},
    // Another service decides
    {"auth-url", Prefixes::kBoth, Scope::kRoute, auth_url,
     "Asks this URL whether a request may pass: 2xx lets it, 401 and 403 are given to the client, anything else is "
     "500. "
     "The call has the request's fields, not its body. The host may be a Service, a registry, a name, an IP address, "
     "or "
     "`$host`.",
     "http://auth.default.svc.cluster.local/check?u=$escaped_request_uri", Status::kWorks,
     "`$host` is the rule's host (not with a wildcard host). The certificate of an https URL is not verified, as in "
     "nginx. An unknown variable is an error.",
     IfInvalid::kClose},
    {"auth-method", Prefixes::kBoth, Scope::kRoute, auth_method, "Method of that call; default GET.", "POST",
     Status::kWorks, "", IfInvalid::kClose},
    {"auth-signin", Prefixes::kBoth, Scope::kRoute, auth_signin,
     "Sends the client there (302) instead of a 401; the URL that was asked for goes along in `rd`.",
     "https://login.example.com/start", Status::kWorks, "", IfInvalid::kClose},
    {"auth-signin-redirect-param", Prefixes::kBoth, Scope::kRoute, auth_signin_param,
     "Name of that parameter instead of `rd`.", "next"},
    {"auth-response-headers", Prefixes::kBoth, Scope::kRoute, auth_response_headers,
     "Fields of the answer that the upstream gets. What the client sent under these names never passes.",
     "X-User, X-Email", Status::kWorks, "", IfInvalid::kClose},
    {"auth-request-redirect", Prefixes::kBoth, Scope::kRoute, auth_request_redirect,
     "Value of `X-Auth-Request-Redirect` in the call; default `$request_uri`.",
     "https://$http_host$escaped_request_uri", Status::kWorks, "", IfInvalid::kClose},
    {"auth-proxy-set-headers", Prefixes::kBoth, Scope::kRoute, auth_headers_map,
     "ConfigMap whose entries are fields of the call; values may hold variables.", "default/auth-headers",
     Status::kWorks, "Followed live.", IfInvalid::kClose},
    {"auth-cache-key", Prefixes::kBoth, Scope::kRoute, auth_cache_key,
     "Keeps verdicts under this text, 1024 of each path.", "$remote_addr$http_authorization", Status::kWorks,
     "An answer with `Set-Cookie` is not kept.", IfInvalid::kClose},
    {"auth-cache-duration", Prefixes::kBoth, Scope::kRoute, auth_cache_duration,
     "How long, by status; default `200 202 401 5m`. Only answers that decide are kept.", "200 202 10m, 401 5m",
     Status::kWorks, "", IfInvalid::kClose},
    {"auth-always-set-cookie", Prefixes::kBoth, Scope::kRoute, part_bool<&O::external_auth, &Auth::always_set_cookie>,
     "`Set-Cookie` of the answer goes to the client whatever the response's status; else only with 2xx and 3xx.",
     "true"},
    {"auth-keepalive", Prefixes::kBoth, Scope::kRoute, any_count, "Idle connections to the service.", "10",
     Status::kAccepted, "Calls use the worker's pool of that service; `sluice.io/upstream` of its Ingress bounds it."},
    {"auth-keepalive-requests", Prefixes::kBoth, Scope::kRoute, any_count, "Requests per connection.", "1000",
     Status::kAccepted, "The same."},
    {"auth-keepalive-timeout", Prefixes::kBoth, Scope::kRoute, any_count, "Idle seconds.", "60", Status::kAccepted,
     "The global `upstream.idleTimeout` applies."},
    {"auth-keepalive-share-vars", Prefixes::kBoth, Scope::kRoute, any_bool, "The call has the request's id.", "true",
     Status::kAccepted, "It always has."},
    {"enable-global-auth", Prefixes::kBoth, Scope::kRoute, part_bool<&O::external_auth, &Auth::global>,
     "`false`: the global authentication (`higress-config`, block `globalAuth`) does not hold for the routes.", "false",
     Status::kWorks, "An `auth-url` takes its place in any case."},
    {"auth-snippet", Prefixes::kBoth, Scope::kRoute, auth_snippet, "nginx directives for the call.",
     "proxy_set_header X-A b;", Status::kWorks,
     "`proxy_set_header`, `more_set_input_headers` and `more_clear_input_headers` are translated, with variables; each "
     "other "
     "directive is reported with its line and has no effect.",
     IfInvalid::kClose},
    {"satisfy", Prefixes::kBoth, Scope::kRoute, satisfy,
     "`any`: an address of the whitelist or authentication is enough; `all` (default): both are needed.", "any",
     Status::kWorks,
     "The denylist holds in any case. Where `auth-type` and `auth-url` are both given, both must agree, or the "
     "address.",
     IfInvalid::kClose},
    // Per client
    {"limit-rps", Prefixes::kBoth, Scope::kRoute, limit_rps,
     "Requests of one client address per second; `limit-burst-multiplier` times as many, and one, may come at once. "
     "More "
     "are answered 503.",
     "10", Status::kWorks,
     "Counted for the Ingress as a whole, over all workers, per replica. An IPv6 client is its /64. "
     "`sluice.io/limit-status` chooses another status."},
    {"limit-rpm", Prefixes::kBoth, Scope::kRoute, limit_rpm, "The same per minute. Both may be given.", "300"},
    {"limit-burst-multiplier", Prefixes::kBoth, Scope::kRoute, limit_burst, "Default 5.", "2"},
    {"limit-connections", Prefixes::kBoth, Scope::kRoute, limit_connections,
     "Requests of one client address in progress. More are answered 503.", "20", Status::kWorks,
     "A WebSocket counts until it ends."},
    {"limit-allowlist", Prefixes::kBoth, Scope::kRoute, limit_exempt,
     "Addresses (IP or CIDR) that `limit-rps`, `limit-rpm` and `limit-connections` do not hold for.", "10.0.0.0/8"},
    {"limit-whitelist", Prefixes::kBoth, Scope::kRoute, limit_exempt, "Another name for it; both lists count.",
     "10.0.0.0/8"},
    {"limit-rate", Prefixes::kBoth, Scope::kRoute, limit_rate, "KiB per second of a response's body; 0: no limit.",
     "100", Status::kWorks, "Of each response, not of a connection: HTTP/2 streams have it each."},
    {"limit-rate-after", Prefixes::kBoth, Scope::kRoute, limit_rate_after, "KiB that leave before `limit-rate` holds.",
     "512"},
    // Sizes and buffers
    {"proxy-body-size", Prefixes::kBoth, Scope::kRoute, body_size,
     "Largest request body (`8m`, `512k`; 0: no limit); a larger one is answered 413.", "8m", Status::kWorks,
     "Default no limit, as Higress (nginx: 1m). A body of unknown length is counted while it streams."},
    {"client-body-buffer-size", Prefixes::kBoth, Scope::kRoute, any_size, "Memory for request bodies.", "1m",
     Status::kAccepted, "No effect: bodies stream, nothing is written to disk."},
    {"proxy-request-buffering", Prefixes::kBoth, Scope::kRoute, any_on_off,
     "Whether a request is read whole before the upstream gets it.", "off", Status::kAccepted,
     "Always `off`; a try can be repeated while the body is within 64 KiB."},
    {"proxy-buffer-size", Prefixes::kBoth, Scope::kRoute, head_size,
     "Largest head of an upstream's response; a larger one is answered 502.", "8k", Status::kWorks,
     "Without it: what the gateway reads at most."},
    {"proxy-buffering", Prefixes::kBoth, Scope::kRoute, any_on_off, "Whether responses are collected.", "off",
     Status::kAccepted, "Always `off`: they stream, and a slow client slows the upstream down."},
    {"proxy-buffers-number", Prefixes::kBoth, Scope::kRoute, any_count, "Buffers for that.", "4", Status::kAccepted,
     "No effect: see `proxy-buffering`."},
    {"proxy-busy-buffers-size", Prefixes::kBoth, Scope::kRoute, any_size, "Part of them.", "16k", Status::kAccepted,
     "No effect: see `proxy-buffering`."},
    {"proxy-max-temp-file-size", Prefixes::kBoth, Scope::kRoute, any_size, "Disk for that.", "1024m", Status::kAccepted,
     "No effect: nothing is written to disk."},
    // Client certificates, beside auth-tls-secret
    {"auth-tls-verify-client", Prefixes::kBoth, Scope::kHost, tls_verify_client,
     "`on` (default): a client must show a certificate that verifies. `optional`: it need not show one. "
     "`optional_no_ca`: "
     "it may show any. `off`: it is not asked.",
     "optional", Status::kWorks, "Needs `auth-tls-secret`. Where the handshake decides, it fails (nginx: 400).",
     IfInvalid::kClose},
    {"auth-tls-verify-depth", Prefixes::kBoth, Scope::kHost, tls_verify_depth,
     "Most intermediate CAs between the client's certificate and the CA.", "1", Status::kWorks,
     "Default no limit (nginx: 1).", IfInvalid::kClose},
    {"auth-tls-error-page", Prefixes::kBoth, Scope::kHost, tls_error_page,
     "Where a client without a good certificate is sent (302).", "https://example.com/no-certificate", Status::kWorks,
     "The URL is that of the request's own Ingress."},
    {"auth-tls-match-cn", Prefixes::kBoth, Scope::kRoute, tls_match_cn,
     "Regular expression (RE2) that the certificate's subject must hold a match of; else 403.", "CN=(app|batch)",
     Status::kWorks, "Needs `auth-tls-secret`; without it the routes answer 503.", IfInvalid::kClose},
    {"auth-tls-pass-certificate-to-upstream", Prefixes::kBoth, Scope::kRoute,
     part_bool<&O::client_certificate, &ClientCertificateOptions::pass>,
     "The upstream gets the certificate in `ssl-client-cert` (percent-encoded PEM).", "true", Status::kWorks,
     "With `auth-tls-secret` it always gets `ssl-client-verify`, `ssl-client-subject-dn` and `ssl-client-issuer-dn`, "
     "and "
     "`x-forwarded-client-cert` as Higress sends it."},
    // The firewall
    {"enable-modsecurity", Prefixes::kBoth, Scope::kRoute, waf, "Web application firewall.", "true", Status::kAccepted,
     "Not available: `true` closes the routes, rather than let in what was to be kept out.", IfInvalid::kClose},
    {"enable-owasp-core-rules", Prefixes::kBoth, Scope::kRoute, waf, "Its rules of OWASP.", "true", Status::kAccepted,
     "The same.", IfInvalid::kClose},
    {"modsecurity-snippet", Prefixes::kBoth, Scope::kRoute, waf_detail, "Rules of one's own.", "SecRuleEngine On",
     Status::kAccepted, "No effect, with a message; alone it closes nothing, as it does nothing in nginx."},
    {"modsecurity-transaction-id", Prefixes::kBoth, Scope::kRoute, waf_detail, "Id in its log.", "$request_id",
     Status::kAccepted, "No effect, with a message."},
};

}  // namespace

std::span<const Annotation> nginx_access_annotations() { return kTable; }

}  // namespace sluice::compile
