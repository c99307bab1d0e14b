#pragma once
// The wire formats of tracing providers: OTLP 1.x (opentelemetry-proto trace v1, protobuf), Zipkin v2 JSON, SkyWalking
// v3 segments (skywalking-data-collect-protocol, protobuf).
//
// Finished traces are appended to a batch one by one; a batch becomes one request's body.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "config/tracing.h"
#include "proxy/trace_context.h"

namespace sluice::proxy {

struct TraceSpan {
  uint64_t id = 0;
  uint64_t start_us = 0;  // since the Unix epoch
  uint64_t end_us = 0;
};

struct FinishedTrace {
  TraceContext context;      // trace id, and as span id that of the caller (0: the trace begins here)
  TraceSpan server;          // from the client's request to the end of the response
  TraceSpan upstream;        // id 0: nothing was forwarded
  std::string_view segment;  // SkyWalking
  SkyWalkingContext caller;  // SkyWalking
  std::string_view sw_trace_id;
  std::string_view operation;
  std::string_view upstream_address;  // "ip:port"; may be empty
  bool error = false;
  using Tag = std::pair<std::string_view, std::string_view>;
  std::span<const Tag> tags;
};

// Appends to a batch.
void append_trace(const config::Tracing& tracing, const FinishedTrace& trace, std::string& batch);
// The request body of a batch that is not empty.
std::string trace_request_body(const config::Tracing& tracing, std::string_view batch);
std::string_view trace_content_type(const config::Tracing& tracing);
std::string_view trace_request_path(const config::Tracing& tracing);
inline bool is_grpc(config::Tracing::Provider provider) {
  return provider == config::Tracing::Provider::kOtlpGrpc || provider == config::Tracing::Provider::kSkyWalking;
}
// How SkyWalking names this process.
std::string_view skywalking_instance();

}  // namespace sluice::proxy
