#pragma once
// Tracer: the traces of one worker. A request that is traced carries a Trace; when it ends, its spans join a batch that
// is sent to the provider over the worker's own pools. Bounded: what does not fit a batch while another is on its way
// is dropped and counted.

#include <memory>
#include <string>
#include <string_view>

#include "config/route.h"
#include "event/loop.h"
#include "filter/call.h"
#include "http/stream.h"
#include "proxy/trace_export.h"

namespace sluice::proxy {

class Worker;

// What a request carries while it is traced. Lives on the heap: a tunnel outlives its exchange's arena.
struct Trace {
  std::shared_ptr<const config::Tracing> tracing;
  TraceContext context;  // of the caller, with the trace id in any case
  std::string tracestate, segment, sw_trace_id, log_id;
  SkyWalkingContext caller;
  Arena texts;  // holds `caller`
  uint64_t server_span = 0, upstream_span = 0;
  uint64_t upstream_start_us = 0;
  bool sampled = false;
};

class Tracer final : private filter::CallReceiver {
 public:
  explicit Tracer(Worker& worker) : worker_(worker) {}

  // Continues the caller's trace or begins one. `route` may be null. Null: this request is not traced, and whatever
  // context it brings passes.
  std::unique_ptr<Trace> begin(const std::shared_ptr<const config::Tracing>& tracing, const config::Route* route,
                               http::RequestHead& head);
  // Before the request goes upstream: writes the context for the next server into it. `peer`: what SkyWalking calls the
  // address used at the client's side.
  void inject(Trace& trace, std::string_view operation, std::string_view peer, http::RequestHead& head);
  // The exchange is over. `finished` needs everything but what `trace` knows.
  void finish(const Trace& trace, FinishedTrace& finished);

  // Sends what there is. idle(): nothing is left to send and nothing on its way.
  void flush();
  bool idle() const { return batch_.empty() && !pending(); }
  // Called when the tracer became idle.
  void set_on_idle(std::function<void()> on_idle) { on_idle_ = std::move(on_idle); }

 private:
  void on_call_result(filter::HttpCallResult& result) override;
  void on_timer() { flush(); }

  Worker& worker_;
  std::shared_ptr<const config::Tracing> tracing_;  // that of the batch
  std::string batch_;
  uint32_t batch_spans_ = 0, sent_spans_ = 0;
  bool failing_ = false;  // the last batch was not taken: told once
  event::MemberTimer<Tracer, &Tracer::on_timer> timer_{this};
  std::function<void()> on_idle_;
};

}  // namespace sluice::proxy
