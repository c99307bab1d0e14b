#pragma once
// client-limit: refuses what one client asks for beyond a rate, or at the same time. See README.md.

#include "plugins/client_limit/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::client_limit {

Plugin plugin();

}  // namespace sluice::plugins::client_limit
