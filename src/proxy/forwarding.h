#pragma once
// The header fields the gateway adds on the way: who the client is, when the request came, which request this is.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/random.h"
#include "config/snapshot.h"
#include "http/headers.h"
#include "http/stream.h"
#include "net/address.h"

namespace sluice::proxy {

// The client as X-Forwarded-For tells it through `trusted_hops` proxies in front of us; the peer itself with none.
net::Address client_address(const http::RequestHead& head, const http::ConnectionInfo& connection,
                            uint32_t trusted_hops);

struct ForwardingFacts {
  const http::ConnectionInfo* connection = nullptr;
  const net::Address* client = nullptr;
  uint32_t trusted_hops = 0;
  uint64_t start_time_ms = 0;  // Unix
  bool add_x_real_ip = false;
  bool x_envoy_headers = true;
  config::ClientCertDetails client_cert_details = config::ClientCertDetails::kSanitizeSet;
};

// Fields of the request to the upstream that do not depend on the route. Values live in the head's arena.
void add_request_fields(http::RequestHead& head, const ForwardingFacts& facts, Random& random);

// The PROXY header that connections to the cluster begin with on behalf of that client; empty: none.
std::string proxy_header(const config::Cluster& cluster, const http::ConnectionInfo& connection);

// kBase: resolves dot segments of the path ("/a/./b/../c" → "/a/c"; %2e counts as a dot, a backslash as a slash),
// keeping repeated slashes and escaped slashes. The query is kept in any case. Returns the path unchanged when there is
// nothing to do.
std::string_view normalize_path(std::string_view target, Arena& arena,
                                config::PathNormalization kind = config::PathNormalization::kBase);

// Formats an unsigned number into the arena.
std::string_view format_number(uint64_t value, Arena& arena);

}  // namespace sluice::proxy
