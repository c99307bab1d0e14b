#include "proxy/tracer.h"

#include <algorithm>

#include "proxy/call_out.h"
#include "proxy/worker.h"

namespace sluice::proxy {
namespace {

using Provider = config::Tracing::Provider;
using Decision = TraceContext::Decision;
using Switch = config::RouteTracing::Switch;

constexpr size_t kSendAt = 64 * 1024;      // bytes of a batch that leave at once
constexpr size_t kMaxBatch = 1024 * 1024;  // bytes that wait while another batch is on its way
constexpr uint64_t kSendAfterMs = 1000;

std::string hex_id(Random& random) {
  std::string out;
  for (uint8_t byte : random_trace_id(random)) {
    static constexpr char kHex[] = "0123456789abcdef";
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

}  // namespace

std::unique_ptr<Trace> Tracer::begin(const std::shared_ptr<const config::Tracing>& tracing, const config::Route* route,
                                     http::RequestHead& head) {
  const config::RouteTracing* options = route ? route->tracing.get() : nullptr;
  if (options && options->enable == Switch::kOff) return nullptr;
  if (options && options->trust_incoming == Switch::kOff) remove_contexts(head.headers);
  Arena& arena = *head.headers.arena();
  Random& random = worker_.random();
  auto trace = std::make_unique<Trace>();
  trace->tracing = tracing;
  Decision decision = Decision::kNone;
  switch (tracing->provider) {
    case Provider::kOtlpGrpc:
    case Provider::kOtlpHttp:
      trace->context = read_w3c(head.headers, arena);
      // A caller that speaks B3 only still belongs to the trace.
      if (!trace->context) trace->context = read_b3(head.headers);
      decision = trace->context.decision;
      break;
    case Provider::kZipkin:
      trace->context = read_b3(head.headers);
      if (!trace->context && trace->context.decision == Decision::kNone) trace->context = read_w3c(head.headers, arena);
      decision = trace->context.decision;
      break;
    case Provider::kSkyWalking:
      trace->caller = read_sw8(head.headers, trace->texts);
      if (trace->caller) decision = trace->caller.sampled ? Decision::kSample : Decision::kDrop;
      trace->sw_trace_id = trace->caller ? std::string(trace->caller.trace_id) : hex_id(random);
      trace->segment = hex_id(random);
      break;
  }
  if (!trace->context) trace->context.trace_id = random_trace_id(random);
  trace->tracestate = trace->context.tracestate;
  trace->context.tracestate = trace->tracestate;
  trace->server_span = random_span_id(random);
  trace->log_id = tracing->provider == Provider::kSkyWalking ? trace->sw_trace_id
                                                             : std::string(hex_trace_id(trace->context, arena));
  trace->sampled =
      decision == Decision::kNone ? random.below(10000) < tracing->sampling : decision == Decision::kSample;
  return trace;
}

void Tracer::inject(Trace& trace, std::string_view operation, std::string_view peer, http::RequestHead& head) {
  Arena& arena = *head.headers.arena();
  trace.upstream_span = random_span_id(worker_.random());
  trace.upstream_start_us = worker_.loop().wall_us();
  TraceContext next = trace.context;
  next.span_id = trace.upstream_span;
  switch (trace.tracing->provider) {
    case Provider::kOtlpGrpc:
    case Provider::kOtlpHttp:
      return write_w3c(next, trace.sampled, head.headers, arena);
    case Provider::kZipkin:
      return write_b3(next, trace.server_span, trace.sampled, head.headers, arena);
    case Provider::kSkyWalking: {
      SkyWalkingContext context;
      context.trace_id = trace.sw_trace_id;
      context.parent_segment = trace.segment;
      context.parent_span = 1;
      context.parent_service = trace.tracing->service_name;
      context.parent_instance = skywalking_instance();
      context.parent_endpoint = operation;
      context.address = peer;
      context.sampled = trace.sampled;
      return write_sw8(context, head.headers, arena);
    }
  }
}

void Tracer::finish(const Trace& trace, FinishedTrace& finished) {
  if (!trace.sampled) return;
  const uint32_t spans = trace.upstream_span ? 2 : 1;
  WorkerStats& stats = worker_.stats();
  if (tracing_ != trace.tracing) {
    flush();  // what was collected for another provider
    if (!batch_.empty()) {
      stats.trace_spans_dropped += spans;
      return;
    }
    tracing_ = trace.tracing;
  }
  if (batch_.size() >= kMaxBatch) {
    stats.trace_spans_dropped += spans;
    return;
  }
  finished.context = trace.context;
  finished.server.id = trace.server_span;
  finished.upstream.id = trace.upstream_span;
  finished.upstream.start_us = trace.upstream_start_us;
  finished.upstream.end_us = finished.server.end_us;
  finished.segment = trace.segment;
  finished.sw_trace_id = trace.sw_trace_id;
  finished.caller = trace.caller;
  append_trace(*tracing_, finished, batch_);
  batch_spans_ += spans;
  if (batch_.size() >= kSendAt) {
    flush();
  } else if (!timer_.armed()) {
    worker_.loop().arm(timer_, kSendAfterMs);
  }
}

void Tracer::flush() {
  if (batch_.empty() || pending()) return;
  timer_.cancel();
  sent_spans_ = std::exchange(batch_spans_, 0);
  const std::string batch = std::exchange(batch_, {});
  const std::string body = trace_request_body(*tracing_, batch);
  std::pair<std::string_view, std::string_view> headers[3];
  size_t count = 0;
  headers[count++] = {"content-type", trace_content_type(*tracing_)};
  if (is_grpc(tracing_->provider)) headers[count++] = {"te", "trailers"};
  if (!tracing_->access_token.empty()) headers[count++] = {"authentication", tracing_->access_token};
  filter::HttpCall call;
  call.cluster = tracing_->cluster_name;
  call.method = "POST";
  call.path = trace_request_path(*tracing_);
  call.headers = {headers, count};
  call.body = body;
  call.timeout_ms = static_cast<uint32_t>(tracing_->timeout.count());
  start_call_out(worker_, *worker_.snapshot(), call, *this);
}

void Tracer::on_call_result(filter::HttpCallResult& result) {
  std::string problem = result.error;
  if (result.ok) {
    if (result.status < 200 || result.status > 299) {
      problem = "status " + std::to_string(result.status);
    } else if (is_grpc(tracing_->provider) && result.grpc_status != 0) {
      problem = "grpc-status " + std::to_string(result.grpc_status);
    }
  }
  WorkerStats& stats = worker_.stats();
  (problem.empty() ? stats.trace_spans_sent : stats.trace_spans_failed) += sent_spans_;
  if (problem.empty() == failing_) {
    failing_ = !problem.empty();
    if (failing_) {
      worker_.log(log::Level::kWarning, "tracing", tracing_->cluster_name + " does not take spans: " + problem);
    } else {
      worker_.log(log::Level::kInfo, "tracing", tracing_->cluster_name + " takes spans again");
    }
  }
  if (batch_.size() >= kSendAt) {
    flush();
  } else if (!batch_.empty() && !timer_.armed()) {
    worker_.loop().arm(timer_, kSendAfterMs);
  }
  if (idle() && on_idle_) on_idle_();
}

}  // namespace sluice::proxy
