#pragma once
// A cluster: where requests of a route can go, and how. Plain immutable data; the run-time state that belongs to it
// (pools, counters, ejections) lives in each worker under the cluster's slot.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/address.h"

namespace sluice::net {
class TlsContext;
}
namespace sluice::plugins {
class VariableTemplate;
}

namespace sluice::config {

using std::chrono::milliseconds;

struct Endpoint {
  net::Address address;
  uint32_t weight = 1;   // 1..65535; 0 receives nothing
  bool healthy = true;   // verdict of the active health check; true when there is none
  std::string hostname;  // the DNS name the address came from, if any
  std::string zone;
  std::vector<std::pair<std::string, std::string>> labels;
};

// The endpoints of a cluster at one moment, in a stable order (sorted by address).
struct EndpointSet {
  std::vector<Endpoint> endpoints;
};

enum class LoadBalancing : uint8_t { kRoundRobin, kLeastRequest, kRandom, kRingHash, kMaglev, kPeakEwma };
enum class UpstreamProtocol : uint8_t { kHttp1, kHttp2 };

// Most that one worker lets be under way to the cluster; beyond it requests fail at once with 503 (flag UO).
// Higress: 10000 each (global.defaultUpstreamConcurrencyThreshold).
struct CircuitBreaker {
  uint32_t max_connections = 10000;
  uint32_t max_pending = 10000;
  uint32_t max_requests = 10000;
  uint32_t max_retries = UINT32_MAX;
};

struct OutlierDetection {
  uint32_t consecutive_5xx = 0;             // 0: off
  uint32_t consecutive_gateway_errors = 0;  // 502, 503, 504 and connection failures; 0: off
  milliseconds base_ejection_time{30000};   // multiplied by the number of ejections in a row
  milliseconds max_ejection_time{300000};
  uint32_t max_ejection_percent = 10;  // at least one endpoint can always be ejected
  bool enabled() const { return consecutive_5xx || consecutive_gateway_errors; }
};

struct HealthCheck {
  enum class Kind : uint8_t { kNone, kTcp, kHttp, kGrpc } kind = Kind::kNone;
  std::string path = "/";
  std::string host;          // Host header; empty: the endpoint's address
  std::string grpc_service;  // grpc.health.v1 service name
  milliseconds interval{5000};
  milliseconds timeout{1000};
  uint32_t unhealthy_threshold = 3;
  uint32_t healthy_threshold = 2;
  uint16_t expected_status_min = 200;
  uint16_t expected_status_max = 299;
};

struct UpstreamTls {
  std::shared_ptr<const net::TlsContext> context;
  std::string sni;  // empty: the request's authority without port
};

// Names that the control plane resolves for the cluster; each address becomes an endpoint with the port.
struct DnsDiscovery {
  std::vector<std::string> names;
  uint16_t port = 0;
};

// The cookie by which a client stays at its endpoint; the gateway sets it when it is absent.
struct AffinityCookie {
  // The value names the endpoint itself, which is kept as long as it exists. Otherwise it is hashed.
  bool persistent = false;
  bool change_on_failure = false;  // a client whose endpoint failed gets another cookie
  std::string path = "/";
  std::string domain;      // empty: the host's own
  std::string same_site;   // "None", "Lax" or "Strict"; empty: not said
  bool omit_none = false;  // SameSite=None is left out for clients known to take it for Strict
  bool secure = false;
  std::chrono::seconds max_age{0};  // 0: session cookie
  std::chrono::seconds expires{0};  // the same as a date; 0: none
};

// What the hashing balancers hash.
struct HashPolicy {
  enum class Source : uint8_t { kNone, kHeader, kCookie, kQuery, kSourceAddress, kPath, kAuthority, kTemplate };
  Source source = Source::kNone;
  std::string name;                                       // header, cookie or query parameter
  std::shared_ptr<const AffinityCookie> cookie;           // kCookie
  std::shared_ptr<const plugins::VariableTemplate> text;  // kTemplate
};

struct Cluster {
  std::string name;     // "outbound|<port>|<subset>|<host>"
  std::string service;  // the host part
  uint16_t port = 0;
  uint32_t slot = 0;  // index in Snapshot::clusters; stays with the name as long as the cluster exists

  UpstreamProtocol protocol = UpstreamProtocol::kHttp1;
  std::shared_ptr<const UpstreamTls> tls;  // null: plaintext
  uint8_t send_proxy_protocol = 0;         // 1 or 2: PROXY protocol version to send; 0: none

  LoadBalancing load_balancing = LoadBalancing::kLeastRequest;
  HashPolicy hash;                       // what the hashing balancers hash, unless the route says otherwise
  uint32_t ring_size = 1024;             // ring hash: minimum number of points
  uint32_t maglev_table = 65537;         // a prime
  uint32_t hash_subset = 0;              // hashing: endpoints that share a hash; 0: one
  milliseconds slow_start{0};            // a new endpoint's weight grows to its own over this time; 0: at once
  uint32_t panic_threshold_percent = 0;  // fewer healthy endpoints than this: use all, healthy or not

  milliseconds connect_timeout{10000};
  milliseconds idle_timeout{10000};          // an unused pooled connection is closed after this; 0: never
  uint32_t max_requests_per_connection = 0;  // 0: unlimited
  uint32_t max_concurrent_streams = 100;     // HTTP/2: more than this opens another connection

  CircuitBreaker circuit_breaker;
  OutlierDetection outlier;
  HealthCheck health_check;
  std::shared_ptr<const DnsDiscovery> dns;  // null: endpoints are given

  std::shared_ptr<const EndpointSet> endpoints;  // never null
};

}  // namespace sluice::config
