#pragma once
// redirect: answers with another location. See README.md.

#include "plugins/redirect/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::redirect {

Plugin plugin();

// Whether a request is redirected: always, or only if it came without TLS to us or to a proxy we
// trust.
bool applies(const Config& config, const http::RequestHead& request, bool tls);

// The Location of the request, in `arena`.
std::string_view location(const Config& config, const http::RequestHead& request, bool tls, Arena& arena);

}  // namespace sluice::plugins::redirect
