#pragma once
// Base64 (RFC 4648 §4) with padding.

#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// White space is skipped. Nothing if the text is malformed.
std::optional<std::string> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);

}  // namespace sluice
