#pragma once
// directives: what the common directives of nginx do to a request and its response. See README.md.

#include "plugins/registry.h"

namespace sluice::plugins::directives {

Plugin plugin();

}  // namespace sluice::plugins::directives
