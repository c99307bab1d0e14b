#pragma once
// local-rate-limit: refuses requests beyond a rate, counted in this process. See README.md.

#include "plugins/local_rate_limit/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::local_rate_limit {

Plugin plugin();

}  // namespace sluice::plugins::local_rate_limit
