#pragma once
// Routes and virtual hosts as workers read them. Plain immutable data; the matching itself is in config/router.h.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/cluster.h"
#include "config/tracing.h"

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
  bool ignore_case = false;
  std::string text;
  std::shared_ptr<const re2::RE2> regex;
};

// The filters of a route or destination in the order of the request direction, built and configured.
using FilterChain = std::vector<std::shared_ptr<const filter::Factory>>;

struct Destination {
  uint32_t cluster = 0;  // slot in Snapshot::clusters
  uint32_t weight = 1;
  FilterChain filters;       // run after the route's
  std::string cluster_name;  // for logs, when the slot is empty
};

// The destinations of a route. A single one is held inline, so that the usual route costs no cache line more for it.
class Destinations {
 public:
  void push_back(Destination destination) {
    if (!size_++) {
      one_ = std::move(destination);
      return;
    }
    if (several_.empty()) several_.push_back(std::move(one_));
    several_.push_back(std::move(destination));
  }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const Destination* begin() const { return size_ > 1 ? several_.data() : &one_; }
  const Destination* end() const { return begin() + size_; }
  const Destination& front() const { return *begin(); }
  const Destination& operator[](size_t i) const { return begin()[i]; }

 private:
  size_t size_ = 0;
  Destination one_;
  std::vector<Destination> several_;  // all of them, if more than one
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
  std::chrono::milliseconds total_timeout{0};    // no retry begins after it; 0: none
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
  // Not empty: the service is told, as ingress-nginx does, what it takes over from.
  std::string ingress, ingress_ns;
};

struct Redirect {
  uint16_t status = 301;
  std::string scheme;                    // empty: keep
  std::string host;                      // empty: keep
  std::string path;                      // empty: keep
  bool relative = false;                 // Location is the path alone
  bool https_only_on_plaintext = false;  // ssl-redirect: only for requests that came without TLS
};

// Members are in the order in which a request needs them: with ten thousand routes each request finds its route cold in
// the cache, and pays per line.
struct alignas(64) Route {
  PathMatch path;
  uint32_t stats_slot = 0;  // of `name`; see Snapshot::route_names
  uint32_t total_weight = 0;
  bool access_log = true;
  bool http10 = false;  // to upstreams of HTTP/1

  std::vector<std::string> methods;    // one of them, upper case; empty: any
  std::vector<ValueMatch> conditions;  // all must hold
  Destinations destinations;           // empty: the route answers by itself (redirect) or has no valid backend (503)

  std::chrono::milliseconds timeout{0};       // whole request until the response is complete; 0: none
  std::chrono::milliseconds idle_timeout{0};  // 0: the listener's stream idle timeout
  std::chrono::milliseconds read_timeout{0};  // between two reads from the upstream; 0: none
  std::chrono::milliseconds send_timeout{0};  // between two writes to the upstream; 0: none
  std::shared_ptr<const RetryPolicy> retry;   // null: the default policy
  FilterChain filters;

  std::shared_ptr<const Fallback> fallback;  // null: none
  // The cookie by which a client keeps the destination it first got; null: each request is decided anew.
  std::shared_ptr<const HashPolicy> affinity;

  std::string name;  // as in logs and metrics: "ns/ingress", or "ingress" in the system namespace
  std::shared_ptr<const RouteTracing> tracing;  // null: as the global options say
  std::shared_ptr<const Redirect> redirect;     // what `explain` tells of the redirect filter; null: none
  std::vector<std::string> notes;               // what else `explain` tells: canary, access, mirror
  std::string origin;  // the object and field it came from: "Ingress ns/name spec.rules[0].http.paths[1]"
};

class RouteIndex;  // lookup structure over `routes` for large hosts; config/router.h

// Enough of a route's path to tell, without a look at the route, most paths that can't match it.
struct PathKey {
  const Route* route = nullptr;
  uint64_t tail = 0;  // the text's last eight bytes, or all of a shorter one, padded with zeros
  uint32_t size = 0;  // of the text
  // kAny: regular expressions and what ignores case; only the route itself can tell.
  enum class Kind : uint32_t { kAny, kExact, kPrefix } kind = Kind::kAny;
};

// Made complete by index_paths() of config/router.h.
struct VirtualHost {
  std::vector<PathKey> keys;                         // of `routes`, for lists without an index
  std::vector<std::shared_ptr<const Route>> routes;  // in the order in which they are tried
  std::shared_ptr<const RouteIndex> index;           // null for short lists
  // Client-certificate hosts answer only requests whose SNI is one of them (421 otherwise).
  bool requires_mtls_sni = false;
  std::string domain;  // "a.b.c", "*.b.c" or "*"
};

}  // namespace sluice::config
