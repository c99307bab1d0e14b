#pragma once
// The first message of a TLS client, as far as it says which host is wanted (RFC 8446 §4.1.2, RFC 6066 §3), read
// without a handshake: for connections that are passed on as they are.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::net {

struct ClientHello {
  enum class Status : uint8_t {
    kNeedMore,  // a valid beginning; parse again with more bytes
    kInvalid,   // no ClientHello, a malformed one, or one above kClientHelloMax
    kDone,
  };
  Status status = Status::kNeedMore;
  // kDone: the name in lower case without a trailing dot; empty if there is none, or none that is a host name.
  std::string server_name;
};

// Bytes on the wire within which a ClientHello must end to be understood.
inline constexpr size_t kClientHelloMax = 16384;

// Parses the ClientHello at the start of `bytes`, which holds everything received so far. It may lie in several TLS
// records. Never asks for more than kClientHelloMax bytes.
ClientHello parse_client_hello(std::string_view bytes);

}  // namespace sluice::net
