#include "compile/upstream_policy.h"

#include "plugins/schema.h"

namespace sluice::compile {
namespace {

using plugins::Problem;
using plugins::Schema;
using Policy = UpstreamPolicy;

constexpr int64_t kHour = 3'600'000;
constexpr int64_t kMany = 1'000'000;

const Schema<Policy::HealthCheck>& health_check_schema() {
  using H = Policy::HealthCheck;
  static const auto kSchema =
      Schema<H>()
          .choice("type", &H::type,
                  {{"none", Policy::Check::kNone},
                   {"tcp", Policy::Check::kTcp},
                   {"http", Policy::Check::kHttp},
                   {"grpc", Policy::Check::kGrpc}},
                  "What a probe does: connect, GET `path`, or call grpc.health.v1.Health/Check.")
          .text("path", &H::path, "Path of an HTTP probe.")
          .text("host", &H::host, "Host of an HTTP or gRPC probe; empty: the endpoint's address.")
          .text("service", &H::service, "Service name of a gRPC probe.")
          .integer("interval_ms", &H::interval_ms, 10, kHour, "Time between probes of an endpoint.")
          .integer("timeout_ms", &H::timeout_ms, 10, kHour, "Time for one probe.")
          .integer("unhealthy_threshold", &H::unhealthy_threshold, 1, 1000, "Failures in a row that make it unhealthy.")
          .integer("healthy_threshold", &H::healthy_threshold, 1, 1000,
                   "Successes in a row that make it healthy again.")
          .integer("expected_status_min", &H::expected_status_min, 100, 599, "Lowest status of a good HTTP probe.")
          .integer("expected_status_max", &H::expected_status_max, 100, 599, "Highest status of a good HTTP probe.")
          .check([](const H& h) -> std::optional<Problem> {
            if (h.type == Policy::Check::kHttp && (h.path.empty() || h.path.front() != '/')) {
              return Problem{"path", "must begin with a slash"};
            }
            if (h.expected_status_min > h.expected_status_max) {
              return Problem{"expected_status_min", "is greater than expected_status_max"};
            }
            return std::nullopt;
          });
  return kSchema;
}

const Schema<Policy::Outlier>& outlier_schema() {
  using O = Policy::Outlier;
  static const auto kSchema = Schema<O>()
                                  .integer("consecutive_5xx", &O::consecutive_5xx, 0, kMany,
                                           "Responses 5xx or failures in a row that eject an endpoint; 0: off.")
                                  .integer("consecutive_gateway_errors", &O::consecutive_gateway_errors, 0, kMany,
                                           "Responses 502 to 504 or failures in a row that eject an endpoint; 0: off.")
                                  .integer("base_ejection_ms", &O::base_ejection_ms, 1, kHour,
                                           "Length of the first ejection; the n-th takes n times as long.")
                                  .integer("max_ejection_ms", &O::max_ejection_ms, 1, 24 * kHour, "Longest ejection.")
                                  .integer("max_ejection_percent", &O::max_ejection_percent, 0, 100,
                                           "Share of the endpoints that may be ejected; one always may.");
  return kSchema;
}

const Schema<Policy::Breaker>& breaker_schema() {
  using B = Policy::Breaker;
  static const auto kSchema =
      Schema<B>()
          .integer("max_connections", &B::max_connections, 1, kMany, "Connections of one worker.")
          .integer("max_pending", &B::max_pending, 0, kMany, "Requests of one worker that wait for a connection.")
          .integer("max_requests", &B::max_requests, 0, kMany, "Requests of one worker that are under way.")
          .integer("max_retries", &B::max_retries, 0, kMany, "Retries of one worker that are under way.");
  return kSchema;
}

const Schema<Policy>& schema() {
  using B = Policy::Balancing;
  static const auto kSchema =
      Schema<Policy>()
          .object("health_check", &Policy::health_check, health_check_schema(), "Active health check.")
          .object("outlier_detection", &Policy::outlier_detection, outlier_schema(),
                  "Passive health: ejects endpoints that fail.")
          .object("circuit_breaker", &Policy::circuit_breaker, breaker_schema(),
                  "Limits; beyond them requests get 503 at once.")
          .choice("load_balancing", &Policy::load_balancing,
                  {{"unset", B::kUnset},
                   {"round_robin", B::kRoundRobin},
                   {"least_request", B::kLeastRequest},
                   {"peak_ewma", B::kPeakEwma},
                   {"random", B::kRandom},
                   {"ring_hash", B::kRingHash},
                   {"maglev", B::kMaglev}},
                  "Balancing algorithm; the hashing ones need upstream-hash-by or affinity.")
          .integer("connect_timeout_ms", &Policy::connect_timeout_ms, 1, kHour, "Time to connect, TLS included.")
          .integer("slow_start_ms", &Policy::slow_start_ms, 0, kHour,
                   "A new endpoint's share grows to its own over this time.")
          .integer("panic_threshold_percent", &Policy::panic_threshold_percent, 0, 100,
                   "With fewer usable endpoints than this share, all are used; 0: never.")
          .integer("max_requests_per_connection", &Policy::max_requests_per_connection, 0, kMany, "0: unlimited.")
          .integer("max_concurrent_streams", &Policy::max_concurrent_streams, 1, 100'000,
                   "HTTP/2: more streams than this open another connection.")
          .integer("send_proxy_protocol", &Policy::send_proxy_protocol, 0, 2,
                   "PROXY protocol version to send; 0: none.");
  return kSchema;
}

std::chrono::milliseconds ms(int64_t value) { return std::chrono::milliseconds(value); }

}  // namespace

Result<UpstreamPolicy> UpstreamPolicy::parse(const plugins::ConfigNode& node) { return schema().parse(node); }

std::string UpstreamPolicy::documentation() { return schema().markdown(); }

void UpstreamPolicy::apply(config::Cluster& cluster) const {
  config::HealthCheck& check = cluster.health_check;
  check.kind = static_cast<config::HealthCheck::Kind>(health_check.type);
  check.path = health_check.path;
  check.host = health_check.host;
  check.grpc_service = health_check.service;
  check.interval = ms(health_check.interval_ms);
  check.timeout = ms(health_check.timeout_ms);
  check.unhealthy_threshold = static_cast<uint32_t>(health_check.unhealthy_threshold);
  check.healthy_threshold = static_cast<uint32_t>(health_check.healthy_threshold);
  check.expected_status_min = static_cast<uint16_t>(health_check.expected_status_min);
  check.expected_status_max = static_cast<uint16_t>(health_check.expected_status_max);

  cluster.outlier.consecutive_5xx = static_cast<uint32_t>(outlier_detection.consecutive_5xx);
  cluster.outlier.consecutive_gateway_errors = static_cast<uint32_t>(outlier_detection.consecutive_gateway_errors);
  cluster.outlier.base_ejection_time = ms(outlier_detection.base_ejection_ms);
  cluster.outlier.max_ejection_time = ms(outlier_detection.max_ejection_ms);
  cluster.outlier.max_ejection_percent = static_cast<uint32_t>(outlier_detection.max_ejection_percent);

  cluster.circuit_breaker.max_connections = static_cast<uint32_t>(circuit_breaker.max_connections);
  cluster.circuit_breaker.max_pending = static_cast<uint32_t>(circuit_breaker.max_pending);
  cluster.circuit_breaker.max_requests = static_cast<uint32_t>(circuit_breaker.max_requests);
  cluster.circuit_breaker.max_retries = static_cast<uint32_t>(circuit_breaker.max_retries);

  switch (load_balancing) {
    case Balancing::kUnset:
      break;
    case Balancing::kRoundRobin:
      cluster.load_balancing = config::LoadBalancing::kRoundRobin;
      break;
    case Balancing::kPeakEwma:
      cluster.load_balancing = config::LoadBalancing::kPeakEwma;
      break;
    case Balancing::kLeastRequest:
      cluster.load_balancing = config::LoadBalancing::kLeastRequest;
      break;
    case Balancing::kRandom:
      cluster.load_balancing = config::LoadBalancing::kRandom;
      break;
    case Balancing::kRingHash:
      cluster.load_balancing = config::LoadBalancing::kRingHash;
      break;
    case Balancing::kMaglev:
      cluster.load_balancing = config::LoadBalancing::kMaglev;
      break;
  }
  cluster.connect_timeout = ms(connect_timeout_ms);
  cluster.slow_start = ms(slow_start_ms);
  cluster.panic_threshold_percent = static_cast<uint32_t>(panic_threshold_percent);
  cluster.max_requests_per_connection = static_cast<uint32_t>(max_requests_per_connection);
  cluster.max_concurrent_streams = static_cast<uint32_t>(max_concurrent_streams);
  cluster.send_proxy_protocol = static_cast<uint8_t>(send_proxy_protocol);
}

}  // namespace sluice::compile
