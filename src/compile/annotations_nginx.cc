// The annotations that ingress-nginx knows and Higress does not.

#include "compile/annotation_parsers.h"

namespace sluice::compile {
namespace {

using namespace read;
using Scope = AnnotationScope;
using Status = AnnotationStatus;

bool unsupported_auth(const AnnotationCall& c) {
  *c.error = "is not supported";
  return false;
}

constexpr Annotation kTable[] = {
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
    {"auth-url", Prefixes::kNginx, Scope::kRoute, unsupported_auth,
     "Asks another service whether the request may pass.", "http://auth.default.svc.cluster.local", Status::kAccepted,
     "Not offered yet: the routes answer 503 rather than be open.", IfInvalid::kClose},
};

}  // namespace

std::span<const Annotation> nginx_annotations() { return kTable; }

}  // namespace sluice::compile
