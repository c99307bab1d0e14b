#pragma once
// The users of a Secret for basic authentication (auth-secret).

#include <string>
#include <vector>

#include "base/result.h"
#include "resource/objects.h"

namespace sluice::compile {

// "name:hash" for each user: the lines of the key `auth`, or with `is_map` a user per key. Errors name the line or key
// and tell nothing of its content.
Result<std::vector<std::string>> read_users(const resource::Secret& secret, bool is_map);

}  // namespace sluice::compile
