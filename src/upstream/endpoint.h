#pragma once
// A worker's run-time state of one endpoint: its connections, load and recent failures. It outlives the endpoint set
// that named it as long as requests are under way.

#include <cstdint>
#include <memory>
#include <string>

#include "base/string_map.h"
#include "config/cluster.h"
#include "http/stream.h"

namespace sluice::upstream {

class Pool;

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
