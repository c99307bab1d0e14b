#pragma once
// request-buffer: reads request bodies of unknown length whole, so that the upstream is told their length. See
// README.md.

#include "plugins/registry.h"
#include "plugins/request_buffer/config.h"

namespace sluice::plugins::request_buffer {

Plugin plugin();

}  // namespace sluice::plugins::request_buffer
