#pragma once
// bandwidth-limit: slows responses down. See README.md.

#include "plugins/bandwidth_limit/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::bandwidth_limit {

Plugin plugin();

}  // namespace sluice::plugins::bandwidth_limit
