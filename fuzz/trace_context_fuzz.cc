// Trace contexts of requests: what was read is written in its format's canonical form, and that is read the same.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "proxy/trace_context.h"

using namespace sluice;
using namespace sluice::proxy;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Arena arena;
  http::HeaderMap in(&arena), out(&arena);
  in.add("traceparent", text);
  in.add("tracestate", text);
  in.add("b3", text);
  in.add("sw8", text);
  if (const TraceContext context = read_w3c(in, arena)) {
    write_w3c(context, true, out, arena);
    const TraceContext again = read_w3c(out, arena);
    check(again.trace_id == context.trace_id && again.span_id == context.span_id);
  }
  if (const TraceContext context = read_b3(in)) {
    write_b3(context, 1, true, out, arena);
    const TraceContext again = read_b3(out);
    check(again.trace_id == context.trace_id && again.span_id == context.span_id);
    check(again.short_trace_id == context.short_trace_id);
  }
  if (const SkyWalkingContext context = read_sw8(in, arena)) {
    write_sw8(context, out, arena);
    const SkyWalkingContext again = read_sw8(out, arena);
    check(again.trace_id == context.trace_id && again.address == context.address);
    check(again.parent_span == context.parent_span && again.sampled == context.sampled);
  }
  return 0;
}
