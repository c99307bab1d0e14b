#pragma once
// The little of WebSocket (RFC 6455) that a gateway needs in order to translate handshakes between HTTP versions.

#include <string>
#include <string_view>

namespace sluice::http {

// Sec-WebSocket-Accept for a Sec-WebSocket-Key (§4.2.2).
std::string websocket_accept(std::string_view key);

// A fresh Sec-WebSocket-Key: base64 of 16 random bytes.
std::string websocket_key();

}  // namespace sluice::http
