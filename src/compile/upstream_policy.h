#pragma once
// sluice.io/upstream: how the gateway treats a service's endpoints, beyond what Higress's annotations can say: active
// health checks, outlier detection, circuit breaking, slow start, Maglev, the PROXY protocol. A YAML map; the fields
// are those of the schema in upstream_policy.cc, which is also where the documentation's table comes from.

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "config/cluster.h"
#include "plugins/config_node.h"

namespace sluice::compile {

struct UpstreamPolicy {
  enum class Balancing : uint8_t { kUnset, kRoundRobin, kLeastRequest, kRandom, kRingHash, kMaglev, kPeakEwma };
  enum class Check : uint8_t { kNone, kTcp, kHttp, kGrpc };

  struct HealthCheck {
    Check type = Check::kNone;
    std::string path = "/";
    std::string host;
    std::string service;
    int64_t interval_ms = 5000;
    int64_t timeout_ms = 1000;
    int64_t unhealthy_threshold = 3;
    int64_t healthy_threshold = 2;
    int64_t expected_status_min = 200;
    int64_t expected_status_max = 299;
  };
  struct Outlier {
    int64_t consecutive_5xx = 0;
    int64_t consecutive_gateway_errors = 0;
    int64_t base_ejection_ms = 30000;
    int64_t max_ejection_ms = 300000;
    int64_t max_ejection_percent = 10;
  };
  struct Breaker {
    int64_t max_connections = 10000;
    int64_t max_pending = 10000;
    int64_t max_requests = 10000;
    int64_t max_retries = 10000;
  };

  HealthCheck health_check;
  Outlier outlier_detection;
  Breaker circuit_breaker;
  Balancing load_balancing = Balancing::kUnset;
  int64_t connect_timeout_ms = 10000;
  int64_t slow_start_ms = 0;
  int64_t panic_threshold_percent = 0;
  int64_t max_requests_per_connection = 0;
  int64_t max_concurrent_streams = 100;
  int64_t send_proxy_protocol = 0;

  static Result<UpstreamPolicy> parse(const plugins::ConfigNode& node);
  // The fields as a Markdown table.
  static std::string documentation();

  void apply(config::Cluster& cluster) const;
};

}  // namespace sluice::compile
