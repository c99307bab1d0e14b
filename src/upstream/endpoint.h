#pragma once
// A worker's run-time state of one endpoint: its connections, load and recent failures. It outlives the endpoint set
// that named it as long as requests are under way.

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "base/string_map.h"
#include "config/cluster.h"
#include "http/stream.h"

namespace sluice::upstream {

class Pool;

// How long an endpoint has taken to answer of late: jumps up with a slow answer, comes down with faster ones and with
// time, by the factor e in kDecayNs.
class LatencyEstimate {
 public:
  static constexpr double kDecayNs = 10e9;

  void observe(uint64_t now_ns, uint64_t sample_ns) {
    const auto sample = static_cast<double>(sample_ns);
    const double kept = share_left(now_ns);
    value_ = sample > value_ ? sample : value_ * kept + sample * (1 - kept);
    at_ns_ = now_ns;
    known_ = true;
  }
  // False: nothing was observed yet.
  bool known() const { return known_; }
  double at(uint64_t now_ns) const { return value_ * share_left(now_ns); }

 private:
  double share_left(uint64_t now_ns) const {
    return now_ns > at_ns_ ? std::exp(-static_cast<double>(now_ns - at_ns_) / kDecayNs) : 1;
  }
  double value_ = 0;
  uint64_t at_ns_ = 0;
  bool known_ = false;
};

struct EndpointState {
  config::Endpoint config;  // as of the newest endpoint set
  std::string address_text;
  uint64_t pin = 0;  // what the cookie of a persistent affinity says: a hash of the address
  std::unique_ptr<Pool> pool;
  // Where TLS names the request's host (UpstreamTls without a name): a pool per name, so that a connection that was
  // verified for one host never carries requests for another. Made on demand, see ClusterState::pool_for().
  StringMap<std::unique_ptr<Pool>> host_pools;

  uint32_t active_requests = 0;
  uint32_t references = 0;  // requests under way that hold this state
  bool removed = false;     // no longer in the endpoint set
  uint64_t added_ms = 0;    // for slow start
  LatencyEstimate latency;  // with LoadBalancing::kPeakEwma

  // Outlier detection.
  uint32_t consecutive_5xx = 0;
  uint32_t consecutive_gateway_errors = 0;
  uint32_t ejections = 0;         // in a row
  uint64_t ejected_until_ms = 0;  // 0: not ejected
  uint64_t returned_ms = 0;       // end of the last ejection

  // Counters for the admin dump.
  uint64_t requests = 0;
  uint64_t failures = 0;
  uint64_t connections_opened = 0;
  uint64_t connect_failures = 0;

  bool ejected() const { return ejected_until_ms != 0; }
  bool usable() const { return config.healthy && !ejected() && config.weight > 0; }
};

}  // namespace sluice::upstream
