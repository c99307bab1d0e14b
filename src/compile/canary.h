#pragma once
// Canaries: what the routes of canary Ingresses make of their base, the route with the same rule key.
//
// By header or cookie: a copy of the base with the canary's condition added to the base's, its destinations and its
// header edits; it is tried directly before the base, the oldest canary first. By weight: the base gets the canary's
// destinations beside its own, with exact integer weights, and header edits move to the destinations.

#include <memory>
#include <span>

#include "compile/ingress_routes.h"

namespace sluice::compile {

// Nothing for a weight canary.
std::optional<config::ValueMatch> canary_condition(const CanaryOptions& options);

std::shared_ptr<const config::Route> conditional_canary(const HostRoute& base, const HostRoute& canary,
                                                        const config::ValueMatch& condition);
// The base itself for the requests that must not go to the canary.
std::shared_ptr<const config::Route> kept_from_canary(const HostRoute& base, const HostRoute& canary,
                                                      const config::ValueMatch& condition);
// nginx's order: the header, `always` or `never` (or the given value or pattern), then the cookie.
std::vector<CanaryRule::Decision> canary_cascade(const CanaryOptions& options);

// `canaries` by age, not empty.
std::shared_ptr<const config::Route> weighted_canaries(const HostRoute& base,
                                                       std::span<const HostRoute* const> canaries);

}  // namespace sluice::compile
