#pragma once
// Distributed tracing as workers read it. Plain immutable data.

#include <chrono>
#include <cstdint>
#include <string>

namespace sluice::config {

// Where spans go (ConfigMap higress-config, `tracing`). Each provider has its own propagation: OpenTelemetry W3C Trace
// Context, Zipkin B3, SkyWalking sw8.
struct Tracing {
  enum class Provider : uint8_t { kOtlpGrpc, kOtlpHttp, kZipkin, kSkyWalking };
  Provider provider = Provider::kOtlpGrpc;
  uint32_t cluster = 0;  // slot in Snapshot::clusters
  std::string cluster_name;
  uint32_t sampling = 10000;  // of 10,000 requests that bring no decision of their own
  std::chrono::milliseconds timeout{500};
  std::string service_name;  // as traces show the gateway
  std::string path;          // providers over HTTP: where to post
  std::string access_token;  // SkyWalking; a secret
};

// What a route says about tracing.
struct RouteTracing {
  enum class Switch : uint8_t { kUnset, kOff, kOn };
  Switch enable = Switch::kUnset;
  Switch trust_incoming = Switch::kUnset;  // kOff: a trace context that the client sends is dropped
  std::string operation;                   // the span's name; empty: "<service>:<port><path>*"
};

}  // namespace sluice::config
