#pragma once
// mirror: sends a copy of each request to another cluster and drops the answer. See README.md.

#include "plugins/mirror/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::mirror {

Plugin plugin();

}  // namespace sluice::plugins::mirror
