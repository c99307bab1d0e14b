#pragma once
// size-limit: bounds request bodies and response heads. See README.md.

#include "plugins/registry.h"
#include "plugins/size_limit/config.h"

namespace sluice::plugins::size_limit {

Plugin plugin();

}  // namespace sluice::plugins::size_limit
