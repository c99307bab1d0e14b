// The annotations that ingress-nginx knows and Higress does not.

#include "compile/annotation_parsers.h"

namespace sluice::compile {
namespace {

using namespace read;
using O = IngressOptions;
using Scope = AnnotationScope;
using Status = AnnotationStatus;

constexpr Annotation kTable[] = {
    {"custom-headers", Prefixes::kBoth, Scope::kRoute, custom_headers,
     "ConfigMap whose entries are set as fields of the response.", "default/response-headers", Status::kWorks,
     "Any field may be set (nginx: those of a global list), but those that frame the message. Followed live."},
    {"x-forwarded-prefix", Prefixes::kBoth, Scope::kRoute, forwarded_prefix,
     "`X-Forwarded-Prefix` that the upstream gets where `rewrite-target` or `rewrite-path` changes the path.", "/app"},
    {"enable-access-log", Prefixes::kBoth, Scope::kRoute, to_bool<&O::access_log>,
     "`false`: the routes' requests are not in the access log.", "false"},
    {"enable-opentelemetry", Prefixes::kBoth, Scope::kRoute, tracing_switch,
     "Tracing on or off for the routes, where it is configured at all.", "false", Status::kWorks,
     "Of any provider, not only OpenTelemetry."},
    {"opentelemetry-trust-incoming-span", Prefixes::kBoth, Scope::kRoute, tracing_trust,
     "`false`: a trace context that the client sends is dropped.", "false"},
    {"opentelemetry-operation-name", Prefixes::kBoth, Scope::kRoute, tracing_operation, "Name of the routes' spans.",
     "shop", Status::kWorks, "Without variables."},
    {"relative-redirects", Prefixes::kBoth, Scope::kRoute, to_bool<&O::relative_redirects>,
     "`Location` of `app-root` without scheme and host.", "true"},
    {"use-port-in-redirects", Prefixes::kBoth, Scope::kRoute, any_bool, "Redirects keep the port.", "true",
     Status::kAccepted,
     "`Location` has the port that the client asked for, as `Host` tells it; one of https has none of http."},
    {"connection-proxy-header", Prefixes::kBoth, Scope::kRoute, ignored, "`Connection` of requests to the upstream.",
     "keep-alive", Status::kAccepted, "No effect: connections to upstreams are always kept."},
    {"enable-rewrite-log", Prefixes::kBoth, Scope::kRoute, any_bool, "Logs rewrites.", "true", Status::kAccepted,
     "No effect: `sluice explain` tells them, and the access log has the path before and after."},
    {"http2-push-preload", Prefixes::kBoth, Scope::kRoute, any_bool, "HTTP/2 server push.", "true", Status::kAccepted,
     "No effect: browsers have given it up."},
    {"preserve-trailing-slash", Prefixes::kBoth, Scope::kRoute, any_bool, "Redirects to https keep a trailing slash.",
     "true", Status::kAccepted, "They always do."},
};

}  // namespace

std::span<const Annotation> nginx_annotations() { return kTable; }

}  // namespace sluice::compile
