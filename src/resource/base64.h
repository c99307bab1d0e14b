#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::resource {

// Standard base64 with padding; white space is skipped. Nothing if it is malformed.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace sluice::resource
