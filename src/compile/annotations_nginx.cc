// The annotations that ingress-nginx knows and Higress does not.

#include "compile/annotation_parsers.h"

namespace sluice::compile {
namespace {

using namespace read;
using Scope = AnnotationScope;
using Status = AnnotationStatus;

constexpr Annotation kTable[] = {
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
