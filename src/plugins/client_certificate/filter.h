#pragma once
// client-certificate: what a client's certificate must be, and what the upstream is told of it. See README.md.

#include "plugins/client_certificate/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::client_certificate {

Plugin plugin();

}  // namespace sluice::plugins::client_certificate
