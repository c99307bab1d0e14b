#pragma once
// Which coding a client gets (Accept-Encoding, RFC 9110 §12.5.3).

#include <cstdint>
#include <span>
#include <string_view>

namespace sluice::plugins::compression {

enum class Coding : uint8_t { kIdentity, kGzip, kBrotli, kZstd };

// "gzip", "br", "zstd"; as in Content-Encoding.
std::string_view coding_name(Coding coding);
// kIdentity if it is none of ours.
Coding parse_coding(std::string_view name);

// The coding of `offered` that the client likes best; among equals the one that stands first.
// kIdentity if it accepts none of them, prefers the plain response, or the field can't be
// understood. An empty field: kIdentity.
Coding negotiate(std::string_view accept_encoding, std::span<const Coding> offered);

}  // namespace sluice::plugins::compression
