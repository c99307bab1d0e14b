#pragma once
// header-control: removes, sets and appends header fields of requests and responses. See README.md.

#include "plugins/header_control/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::header_control {

Plugin plugin();

}  // namespace sluice::plugins::header_control
