#pragma once
// basic-auth: asks for a name and password (RFC 7617) and checks them against hashes. See README.md.

#include "plugins/basic_auth/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::basic_auth {

Plugin plugin();

}  // namespace sluice::plugins::basic_auth
