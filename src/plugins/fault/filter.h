#pragma once
// fault: delays and aborts requests on purpose, to see how clients bear it. See README.md.

#include "plugins/fault/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::fault {

Plugin plugin();

}  // namespace sluice::plugins::fault
