#pragma once
// Routes and virtual hosts as workers read them. Plain immutable data; the matching itself is in config/router.h.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/cluster.h"

namespace re2 {
class RE2;
}
namespace sluice::filter {
class Factory;
}

namespace sluice::config {

// A text condition on a header, pseudo-header or query parameter.
struct ValueMatch {
  enum class Kind : uint8_t { kExact, kPrefix, kRegex, kPresent } kind = Kind::kExact;
  enum class Source : uint8_t { kHeader, kQuery, kMethod, kAuthority, kPath, kScheme } source = Source::kHeader;
  std::string name;                       // header (lower case) or query parameter
  std::string value;                      // literal or pattern text
  std::shared_ptr<const re2::RE2> regex;  // full match; set for kRegex
  bool invert = false;
};

struct PathMatch {
  // kPrefix matches element by element: "/a" matches "/a" and "/a/b", not "/ab". `text` has no trailing slash; "" is
  // "/". kPrefixRegex is matched as `text.*`, kFullRegex as `text$`, both anchored at the start.
  enum class Kind : uint8_t { kExact, kPrefix, kPrefixRegex, kFullRegex } kind = Kind::kPrefix;
  std::string text;
  std::shared_ptr<const re2::RE2> regex;
  bool ignore_case = false;
};

// The filters of a route or destination in the order of the request direction, built and configured.
using FilterChain = std::vector<std::shared_ptr<const filter::Factory>>;

struct Destination {
  uint32_t cluster = 0;  // slot in Snapshot::clusters
  uint32_t weight = 1;
  std::string cluster_name;  // for logs, when the slot is empty
  FilterChain filters;       // run after the route's
};

struct RetryPolicy {
  enum On : uint32_t {
    kOn5xx = 1 << 0,             // any 5xx, reset or connection failure
    kOnGatewayError = 1 << 1,    // 502, 503, 504
    kOnConnectFailure = 1 << 2,  // the connection could not be made
    kOnRefusedStream = 1 << 3,   // HTTP/2 REFUSED_STREAM
    kOnReset = 1 << 4,           // no response: reset, disconnect, timeout of the try
    kOnUnavailable = 1 << 5,     // grpc-status 14
    kOnCancelled = 1 << 6,       // grpc-status 1
    kOnStatus = 1 << 7,          // a status in `statuses`
    kNonIdempotent = 1 << 8,     // also POST, PATCH and LOCK
  };
  uint32_t max_retries = 2;
  uint32_t on = kOnConnectFailure | kOnRefusedStream | kOnUnavailable | kOnCancelled | kOnStatus;
  std::vector<uint16_t> statuses = {503};
  std::chrono::milliseconds per_try_timeout{0};  // 0: none
  std::chrono::milliseconds backoff_base{25};
  std::chrono::milliseconds backoff_max{250};
  uint32_t max_replay_bytes = 65536;  // a request body that has grown beyond this can't be retried
};

// Who answers in place of the route's own destinations: when these have no usable endpoint, and when a response has one
// of the statuses.
struct Fallback {
  uint32_t cluster = 0;  // slot in Snapshot::clusters
  std::string cluster_name;
  std::string service;  // "ns/name"
  std::vector<uint16_t> statuses;
};

struct Redirect {
  uint16_t status = 301;
  std::string scheme;                    // empty: keep
  std::string host;                      // empty: keep
  std::string path;                      // empty: keep
  bool https_only_on_plaintext = false;  // ssl-redirect: only for requests that came without TLS
};

// Members are in the order in which a request needs them: with ten thousand routes each request finds its route cold in
// the cache, and pays per line.
struct Route {
  PathMatch path;
  std::vector<std::string> methods;    // one of them, upper case; empty: any
  std::vector<ValueMatch> conditions;  // all must hold

  std::vector<Destination> destinations;  // empty: the route answers by itself (redirect) or has no valid backend (503)
  FilterChain filters;
  std::string name;  // as in logs and metrics: "ns/ingress", or "ingress" in the system namespace

  std::chrono::milliseconds timeout{0};       // whole request until the response is complete; 0: none
  std::chrono::milliseconds idle_timeout{0};  // 0: the listener's stream idle timeout
  std::shared_ptr<const RetryPolicy> retry;   // null: the default policy
  uint32_t total_weight = 0;
  HashPolicy hash;  // source kNone: the cluster's applies

  std::shared_ptr<const Fallback> fallback;  // null: none

  std::shared_ptr<const Redirect> redirect;  // what `explain` tells of the redirect filter; null: none
  std::vector<std::string> notes;            // what else `explain` tells: canary, access, mirror
  std::string origin;  // the object and field it came from: "Ingress ns/name spec.rules[0].http.paths[1]"
};

class RouteIndex;  // lookup structure over `routes` for large hosts; config/router.h

struct VirtualHost {
  std::string domain;                                // "a.b.c", "*.b.c" or "*"
  std::vector<std::shared_ptr<const Route>> routes;  // in the order in which they are tried
  std::shared_ptr<const RouteIndex> index;           // null for short lists
  // Client-certificate hosts answer only requests whose SNI is one of them (421 otherwise).
  bool requires_mtls_sni = false;
};

}  // namespace sluice::config
