#pragma once
// The Snapshot: the immutable picture of the configuration that workers read. The control plane builds the next one
// (sharing all that did not change), publishes it with one atomic store, and never touches it again.
//
// Lookups on the request path: hosts (by name) → VirtualHost → Route → cluster slot → Cluster. See config/router.h.

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "config/cluster.h"
#include "config/persistent.h"
#include "config/route.h"
#include "config/tracing.h"

namespace sluice::config {

// Of the 2xx responses of these hosts only a share is logged.
struct AccessLogFilter {
  std::shared_ptr<const re2::RE2> host;  // full match
  uint32_t sample_percent = 100;
};

// Global options (ConfigMap higress-config, key `higress`, §D.2 of its reference).
// What is done to a request's path before it is routed, in Istio's words.
enum class PathNormalization : uint8_t {
  kNone,
  kBase,                   // dot segments are resolved, a backslash is a slash
  kMergeSlashes,           // kBase, then repeated slashes become one
  kDecodeAndMergeSlashes,  // escaped slashes and backslashes are decoded, then kMergeSlashes
};

// What becomes of x-forwarded-client-cert, in Envoy's words. A certificate is one that has been verified.
enum class ClientCertDetails : uint8_t {
  kSanitize,           // it is removed
  kForwardOnly,        // it is passed on if the client has a certificate, else removed
  kAppendForward,      // the client's certificate is added to it; without one it is removed
  kSanitizeSet,        // it says the client's certificate, or is removed
  kAlwaysForwardOnly,  // it is passed on
};

struct Globals {
  std::chrono::milliseconds downstream_idle_timeout{180000};  // connection and stream idle; 0: none
  uint32_t max_request_headers_bytes = 60 * 1024;
  uint32_t max_request_header_count = 100;
  uint32_t downstream_buffer_limit = 32768;
  uint32_t h2_max_concurrent_streams = 100;
  uint32_t h2_initial_stream_window = 65535;
  uint32_t h2_initial_connection_window = 1048576;
  std::chrono::milliseconds upstream_idle_timeout{10000};
  uint32_t upstream_buffer_limit = 10485760;
  std::chrono::milliseconds route_timeout{0};  // of routes that have none of their own; 0: none
  bool add_x_real_ip = false;
  bool disable_x_envoy_headers = false;
  FilterChain filters;                       // run before those of the route (gzip …)
  std::shared_ptr<const Tracing> tracing;    // null: off
  std::shared_ptr<const RetryPolicy> retry;  // of routes that have none of their own; null: the built-in policy
  std::optional<uint32_t> trusted_hops;      // unset: as the flag says
  PathNormalization path_normalization = PathNormalization::kBase;
  ClientCertDetails client_cert_details = ClientCertDetails::kSanitizeSet;
  bool proxy_protocol = false;  // as the flag
  bool access_log = true;
  std::string access_log_format;                    // empty: as the flag says; a valid one
  std::vector<AccessLogFilter> access_log_filters;  // the first whose host matches decides; none: all is logged
};

// A host that the TLS listener serves.
struct TlsHost {
  std::string domain;  // "a.b.c", "*.b.c" or "*"
  // Null: the host's certificate is missing or never was good; the handshake is refused (no wildcard steps in).
  std::shared_ptr<const net::TlsContext> context;
  std::string secret;  // "ns/name", for dumps
  bool mutual = false;
};

// A host whose TLS connections go to its service as they are (ssl-passthrough).
struct PassthroughHost {
  std::string domain;                  // "a.b.c" or "*.b.c"
  std::shared_ptr<const Route> route;  // that of `/`: its destinations and name count
  std::vector<net::Cidr> allow, deny;  // clients; `allow` empty: all but those in `deny`
  bool refused = false;                // what restricts access could not be understood: nobody may
};

struct Snapshot {
  uint64_t version = 0;
  std::shared_ptr<const Globals> globals = std::make_shared<Globals>();
  PersistentMap<VirtualHost> hosts;  // key: domain in lower case
  PersistentMap<TlsHost> tls_hosts;  // key: domain in lower case
  // By domain in lower case. Null: there are none, and no ClientHello is looked at.
  std::shared_ptr<const PersistentMap<PassthroughHost>> passthrough_hosts;
  PersistentVector<Cluster> clusters;     // by slot
  PersistentMap<uint32_t> cluster_slots;  // cluster name → slot

  // Route::stats_slot → the route's name. A slot keeps its name for good, so that its counters never change their
  // meaning; slot 0 is "other": what came after the table was full.
  static constexpr uint32_t kMaxRouteNames = 50'000;
  PersistentVector<std::string> route_names;
};

}  // namespace sluice::config
