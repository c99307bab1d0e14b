#include "proxy/trace_export.h"

#include <unistd.h>

#include <cstdio>

#include "base/protobuf.h"

namespace sluice::proxy {
namespace {

using Provider = config::Tracing::Provider;

std::string_view as_bytes(const std::array<uint8_t, 16>& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

std::string big_endian(uint64_t value) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[static_cast<size_t>(i)] = static_cast<char>(value >> (56 - 8 * i));
  return out;
}

std::string hex(std::string_view bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (char c : bytes) {
    out += kHex[static_cast<unsigned char>(c) >> 4];
    out += kHex[c & 15];
  }
  return out;
}

// --- OTLP ---

void otlp_attribute(ProtobufWriter& out, uint32_t field, std::string_view key, std::string_view value) {
  out.message(field, [&](ProtobufWriter& attribute) {
    attribute.bytes(1, key);
    attribute.message(2, [&](ProtobufWriter& any) { any.bytes(1, value); });
  });
}

void append_otlp_span(const FinishedTrace& trace, const TraceSpan& span, uint64_t parent, bool client,
                      std::string& batch) {
  constexpr uint64_t kServer = 2, kClient = 3, kStatusError = 2;
  ProtobufWriter(batch).message(2, [&](ProtobufWriter& out) {  // ScopeSpans.spans
    out.bytes(1, as_bytes(trace.context.trace_id));
    out.bytes(2, big_endian(span.id));
    if (!trace.context.tracestate.empty()) out.bytes(3, trace.context.tracestate);
    if (parent) out.bytes(4, big_endian(parent));
    out.bytes(5, trace.operation);
    out.varint(6, client ? kClient : kServer);
    out.fixed64(7, span.start_us * 1000);
    out.fixed64(8, span.end_us * 1000);
    for (const auto& [key, value] : trace.tags) otlp_attribute(out, 9, key, value);
    if (client && !trace.upstream_address.empty()) otlp_attribute(out, 9, "upstream_address", trace.upstream_address);
    out.message(15, [&](ProtobufWriter& status) {
      if (trace.error) status.varint(3, kStatusError);
    });
  });
}

std::string otlp_body(const config::Tracing& tracing, std::string_view spans) {
  std::string out;
  ProtobufWriter(out).message(1, [&](ProtobufWriter& resource_spans) {
    resource_spans.message(
        1, [&](ProtobufWriter& resource) { otlp_attribute(resource, 1, "service.name", tracing.service_name); });
    std::string scope_spans;
    ProtobufWriter(scope_spans).message(1, [](ProtobufWriter& scope) { scope.bytes(1, "sluice"); });
    scope_spans += spans;
    resource_spans.bytes(2, scope_spans);
  });
  return out;
}

// --- Zipkin ---

void json_string(std::string_view text, std::string& out) {
  out += '"';
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte >= 0x7f) {
      // Bytes that may not be UTF-8 are taken as ISO-8859-1: the document stays valid whatever a client sends.
      char escaped[8];
      std::snprintf(escaped, sizeof(escaped), "\\u%04x", byte);
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_zipkin_span(const config::Tracing& tracing, const FinishedTrace& trace, const TraceSpan& span,
                        uint64_t parent, bool client, std::string& out) {
  if (!out.empty()) out += ',';
  const std::string_view id = as_bytes(trace.context.trace_id);
  out += R"({"traceId":")" + hex(trace.context.short_trace_id ? id.substr(8) : id) + R"(","id":")" +
         hex(big_endian(span.id)) + '"';
  if (parent) out += R"(,"parentId":")" + hex(big_endian(parent)) + '"';
  out += client ? R"(,"kind":"CLIENT","name":)" : R"(,"kind":"SERVER","name":)";
  json_string(trace.operation, out);
  out += R"(,"timestamp":)" + std::to_string(span.start_us);
  out += R"(,"duration":)" + std::to_string(std::max<uint64_t>(span.end_us - span.start_us, 1));
  out += R"(,"localEndpoint":{"serviceName":)";
  json_string(tracing.service_name, out);
  out += R"(},"tags":{)";
  bool first = true;
  auto tag = [&](std::string_view key, std::string_view value) {
    if (!std::exchange(first, false)) out += ',';
    json_string(key, out);
    out += ':';
    json_string(value, out);
  };
  for (const auto& [key, value] : trace.tags) tag(key, value);
  if (client && !trace.upstream_address.empty()) tag("upstream_address", trace.upstream_address);
  if (trace.error) tag("error", "true");
  out += '}';
  if (trace.context.debug) out += R"(,"debug":true)";
  out += '}';
}

// --- SkyWalking ---

void skywalking_span(ProtobufWriter& segment, const FinishedTrace& trace, bool exit) {
  constexpr uint64_t kEntry = 0, kExit = 1, kLayerHttp = 3, kComponentEnvoy = 6000;
  const TraceSpan& span = exit ? trace.upstream : trace.server;
  segment.message(3, [&](ProtobufWriter& out) {
    out.varint(1, exit ? 1 : 0);
    out.varint(2, exit ? 0 : static_cast<uint64_t>(int64_t{-1}));
    out.varint(3, span.start_us / 1000);
    out.varint(4, span.end_us / 1000);
    if (!exit && trace.caller) {
      out.message(5, [&](ProtobufWriter& reference) {
        reference.bytes(2, trace.caller.trace_id);
        reference.bytes(3, trace.caller.parent_segment);
        reference.varint(4, trace.caller.parent_span);
        reference.bytes(5, trace.caller.parent_service);
        reference.bytes(6, trace.caller.parent_instance);
        reference.bytes(7, trace.caller.parent_endpoint);
        reference.bytes(8, trace.caller.address);
      });
    }
    out.bytes(6, trace.operation);
    if (exit) out.bytes(7, trace.upstream_address);
    out.varint(8, exit ? kExit : kEntry);
    out.varint(9, kLayerHttp);
    out.varint(10, kComponentEnvoy);
    if (trace.error) out.varint(11, 1);
    for (const auto& [key, value] : trace.tags) {
      out.message(12, [&](ProtobufWriter& tag) {
        tag.bytes(1, key);
        tag.bytes(2, value);
      });
    }
  });
}

void append_grpc_message(std::string_view message, std::string& out) {
  out += '\0';
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(message.size() >> shift);
  out += message;
}

void append_segment(const config::Tracing& tracing, const FinishedTrace& trace, std::string& batch) {
  std::string segment;
  ProtobufWriter out(segment);
  out.bytes(1, trace.sw_trace_id);
  out.bytes(2, trace.segment);
  skywalking_span(out, trace, false);
  if (trace.upstream.id) skywalking_span(out, trace, true);
  out.bytes(4, tracing.service_name);
  out.bytes(5, skywalking_instance());
  append_grpc_message(segment, batch);
}

}  // namespace

void append_trace(const config::Tracing& tracing, const FinishedTrace& trace, std::string& batch) {
  switch (tracing.provider) {
    case Provider::kOtlpGrpc:
    case Provider::kOtlpHttp:
      append_otlp_span(trace, trace.server, trace.context.span_id, false, batch);
      if (trace.upstream.id) append_otlp_span(trace, trace.upstream, trace.server.id, true, batch);
      return;
    case Provider::kZipkin:
      append_zipkin_span(tracing, trace, trace.server, trace.context.span_id, false, batch);
      if (trace.upstream.id) append_zipkin_span(tracing, trace, trace.upstream, trace.server.id, true, batch);
      return;
    case Provider::kSkyWalking:
      return append_segment(tracing, trace, batch);
  }
}

std::string trace_request_body(const config::Tracing& tracing, std::string_view batch) {
  switch (tracing.provider) {
    case Provider::kOtlpGrpc: {
      std::string out;
      append_grpc_message(otlp_body(tracing, batch), out);
      return out;
    }
    case Provider::kOtlpHttp:
      return otlp_body(tracing, batch);
    case Provider::kZipkin:
      return "[" + std::string(batch) + "]";
    case Provider::kSkyWalking:
      break;  // a stream of messages
  }
  return std::string(batch);
}

std::string_view trace_content_type(const config::Tracing& tracing) {
  switch (tracing.provider) {
    case Provider::kOtlpHttp:
      return "application/x-protobuf";
    case Provider::kZipkin:
      return "application/json";
    default:
      return "application/grpc";
  }
}

std::string_view trace_request_path(const config::Tracing& tracing) {
  switch (tracing.provider) {
    case Provider::kOtlpGrpc:
      return "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    case Provider::kSkyWalking:
      return "/skywalking.v3.TraceSegmentReportService/collect";
    default:
      return tracing.path;
  }
}

std::string_view skywalking_instance() {
  static const std::string name = [] {
    char host[256] = "sluice";
    ::gethostname(host, sizeof(host) - 1);
    return std::string(host);
  }();
  return name;
}

}  // namespace sluice::proxy
