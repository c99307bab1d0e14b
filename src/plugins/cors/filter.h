#pragma once
// cors: cross-origin resource sharing (the Fetch standard, "CORS protocol"). See README.md.

#include "plugins/cors/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::cors {

Plugin plugin();

}  // namespace sluice::plugins::cors
