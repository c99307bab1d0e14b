#pragma once
// response-rewrite: changes what responses say about the address of the service. See README.md.

#include "plugins/registry.h"

namespace sluice::plugins::response_rewrite {

Plugin plugin();

}  // namespace sluice::plugins::response_rewrite
