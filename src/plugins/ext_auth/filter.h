#pragma once
// ext-auth: asks another service whether a request may pass. See README.md.

#include "plugins/ext_auth/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::ext_auth {

Plugin plugin();

}  // namespace sluice::plugins::ext_auth
