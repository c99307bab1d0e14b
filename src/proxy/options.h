#pragma once
// Start-up options of the data plane: flags, not live configuration.

#include <cstdint>
#include <string>
#include <vector>

#include "http/http1_server.h"
#include "http/http2_settings.h"
#include "net/address.h"

namespace sluice::proxy {

struct ListenerOptions {
  net::Address address;
  bool tls = false;
  bool accept_proxy_protocol = false;  // a PROXY header is expected, optional per connection
};

struct Options {
  std::vector<ListenerOptions> listeners;
  uint32_t workers = 1;
  uint32_t max_connections = 16'000;          // accepted connections, all workers together
  uint64_t max_memory_bytes = 0;              // of I/O blocks per worker; above it new requests get 503; 0: no limit
  uint32_t trusted_hops = 0;                  // proxies in front of us whose X-Forwarded-For entry is believed
  std::string server_header = "istio-envoy";  // value of the `server` response field; empty: the upstream's passes
  http::Http1Settings http1;
  http::Http2Settings http2;
  uint64_t drain_deadline_ms = 30'000;
};

}  // namespace sluice::proxy
