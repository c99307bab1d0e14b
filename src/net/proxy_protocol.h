#pragma once
// The PROXY protocol, versions 1 and 2, as HAProxy's doc/proxy-protocol.txt specifies it: a header
// in front of a connection's own bytes by which a load balancer tells who connected to it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "net/address.h"

namespace sluice::net {

// The parts of a v2 header's TLVs that we use. Views into the parsed bytes; empty if absent.
struct ProxyProtocolTlvs {
  std::string_view alpn;
  std::string_view authority;  // SNI of the original connection
  std::string_view unique_id;  // at most 128 bytes, opaque
  std::string_view netns;
  bool ssl = false;                  // the client connected over SSL/TLS ...
  bool ssl_client_verified = false;  // ... and presented a certificate that verified
  std::string_view ssl_version;
  std::string_view ssl_client_cn;
};

struct ProxyProtocolHeader {
  uint8_t version = 0;
  // A connection of the proxy's own (health check): LOCAL in v2, or nothing told of the client:
  // UNKNOWN in v1, UNSPEC in v2. Addresses are none; use the socket's.
  bool local = false;
  bool datagram = false;  // v2 DGRAM
  Address source, destination;
  ProxyProtocolTlvs tlvs;
};

struct ProxyProtocolResult {
  enum class Status : uint8_t {
    kNeedMore,  // a valid beginning; parse again with more bytes
    kNotProxy,  // these bytes do not start a PROXY header
    kInvalid,   // they do, but it breaks the protocol: close the connection
    kDone,
  };
  Status status = Status::kNeedMore;
  size_t consumed = 0;         // kDone: length of the header
  const char* error = "";      // kInvalid: what is wrong
  ProxyProtocolHeader header;  // kDone; its views live as long as the parsed bytes
};

inline constexpr size_t kProxyProtocolV1Max = 107;
inline constexpr size_t kProxyProtocolV2Max = 16 + 4096;

// Parses a header at the start of `bytes`, which holds everything received so far. Never looks
// beyond the header, and never asks for more than kProxyProtocolV2Max bytes.
ProxyProtocolResult parse_proxy_protocol(std::string_view bytes);

// A v1 header; for anything but two IP addresses of one family: "PROXY UNKNOWN\r\n".
std::string write_proxy_protocol_v1(const Address& source, const Address& destination);

struct ProxyProtocolV2Options {
  std::string_view alpn, authority, unique_id;  // empty: not written; unique_id is cut to 128 bytes
  bool checksum = false;                        // add a CRC-32C
};
// A v2 header for a stream; LOCAL if the addresses are not of one family.
std::string write_proxy_protocol_v2(const Address& source, const Address& destination,
                                    const ProxyProtocolV2Options& options = {});

}  // namespace sluice::net
