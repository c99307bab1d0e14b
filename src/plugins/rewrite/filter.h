#pragma once
// rewrite: changes the path and the host of requests on their way to the upstream. See README.md.

#include "plugins/registry.h"
#include "plugins/rewrite/config.h"

namespace sluice::plugins::rewrite {

Plugin plugin();

}  // namespace sluice::plugins::rewrite
