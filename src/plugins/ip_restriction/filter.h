#pragma once
// ip-restriction: lets clients in, or keeps them out, by their address. See README.md.

#include "plugins/ip_restriction/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::ip_restriction {

Plugin plugin();

}  // namespace sluice::plugins::ip_restriction
