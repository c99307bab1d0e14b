#pragma once
// Trace contexts: what tells the servers on a request's way that they work on the same trace.
//
// W3C Trace Context (traceparent, tracestate; version 00, later versions read as it says), B3 (x-b3-*, and `b3` in one
// field) and SkyWalking's sw8 (cross-process propagation headers protocol 3).

#include <array>
#include <cstdint>
#include <string_view>

#include "base/arena.h"
#include "base/random.h"
#include "http/headers.h"

namespace sluice::proxy {

struct TraceContext {
  enum class Decision : uint8_t { kNone, kDrop, kSample };

  std::array<uint8_t, 16> trace_id{};
  uint64_t span_id = 0;         // of the sender; 0: no context
  bool short_trace_id = false;  // B3 with 64 bits: passed on as it came
  Decision decision = Decision::kNone;
  bool debug = false;           // x-b3-flags: 1
  std::string_view tracestate;  // W3C; as received

  explicit operator bool() const { return span_id != 0; }
};

// The caller's segment in SkyWalking's terms; texts are decoded, in the arena.
struct SkyWalkingContext {
  std::string_view trace_id, parent_segment, parent_service, parent_instance, parent_endpoint, address;
  uint32_t parent_span = 0;
  bool sampled = true;
  explicit operator bool() const { return !trace_id.empty(); }
};

// A context of which any part is malformed is none (the trace begins here).
TraceContext read_w3c(const http::HeaderMap& headers, Arena& arena);
TraceContext read_b3(const http::HeaderMap& headers);
SkyWalkingContext read_sw8(const http::HeaderMap& headers, Arena& arena);

void write_w3c(const TraceContext& context, bool sampled, http::HeaderMap& headers, Arena& arena);
// `parent`: the span above context.span_id; 0: none.
void write_b3(const TraceContext& context, uint64_t parent, bool sampled, http::HeaderMap& headers, Arena& arena);
// `text` fields are not encoded yet.
void write_sw8(const SkyWalkingContext& context, http::HeaderMap& headers, Arena& arena);

// Removes whatever contexts of these formats a request has.
void remove_contexts(http::HeaderMap& headers);

// Lower-case hexadecimal, into the arena.
std::string_view hex_trace_id(const TraceContext& context, Arena& arena);
std::string_view hex_span_id(uint64_t id, Arena& arena);

std::array<uint8_t, 16> random_trace_id(Random& random);
uint64_t random_span_id(Random& random);

}  // namespace sluice::proxy
