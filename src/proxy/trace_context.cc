#include "proxy/trace_context.h"

#include <charconv>
#include <cstring>
#include <string>

#include "base/base64.h"

namespace sluice::proxy {
namespace {

using http::HeaderId;

constexpr char kHex[] = "0123456789abcdef";

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// Exactly the digits of `text` (lower case) into big-endian bytes, right-aligned. False: not hexadecimal, or too long.
bool parse_hex(std::string_view text, uint8_t* out, size_t size) {
  if (text.empty() || text.size() > size * 2 || text.size() % 2 != 0) return false;
  std::memset(out, 0, size);
  size_t at = size - text.size() / 2;
  for (size_t i = 0; i < text.size(); i += 2, ++at) {
    const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    out[at] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

bool parse_span_id(std::string_view text, uint64_t* out) {
  uint8_t bytes[8];
  if (text.size() != 16 || !parse_hex(text, bytes, sizeof(bytes))) return false;
  *out = 0;
  for (uint8_t byte : bytes) *out = *out << 8 | byte;
  return *out != 0;
}

bool is_zero(const std::array<uint8_t, 16>& id) { return id == std::array<uint8_t, 16>{}; }

char* put_hex(char* out, const uint8_t* bytes, size_t size) {
  for (size_t i = 0; i < size; ++i) {
    *out++ = kHex[bytes[i] >> 4];
    *out++ = kHex[bytes[i] & 15];
  }
  return out;
}

char* put_hex(char* out, uint64_t value) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
  return put_hex(out, bytes, sizeof(bytes));
}

// B3's trace id: 16 or 32 digits.
bool parse_b3_trace_id(std::string_view text, TraceContext& out) {
  if ((text.size() != 16 && text.size() != 32) || !parse_hex(text, out.trace_id.data(), 16)) return false;
  out.short_trace_id = text.size() == 16;
  return !is_zero(out.trace_id);
}

// `b3: traceid-spanid[-sampling[-parent]]`, or the sampling alone.
TraceContext read_b3_single(std::string_view text) {
  using Decision = TraceContext::Decision;
  TraceContext out;
  auto decide = [&](std::string_view word) {
    if (word == "1" || word == "d") {
      out.decision = Decision::kSample;
      out.debug = word == "d";
    } else if (word == "0") {
      out.decision = Decision::kDrop;
    } else {
      return false;
    }
    return true;
  };
  const size_t dash = text.find('-');
  if (dash == std::string_view::npos) return decide(text), out;
  if (!parse_b3_trace_id(text.substr(0, dash), out)) return {};
  std::string_view rest = text.substr(dash + 1);
  uint64_t span = 0;
  if (!parse_span_id(rest.substr(0, 16), &span)) return {};
  rest.remove_prefix(16);
  if (!rest.empty()) {
    if (rest[0] != '-') return {};
    const std::string_view word = rest.substr(1, rest.find('-', 1) - 1);
    if (!decide(word)) return {};
  }
  out.span_id = span;
  return out;
}

std::string_view decode_text(std::string_view text, Arena& arena) {
  const auto decoded = decode_base64(text);
  return decoded ? arena.copy(*decoded) : std::string_view();
}

}  // namespace

TraceContext read_w3c(const http::HeaderMap& headers, Arena& arena) {
  // 00-<32 digits>-<16 digits>-<2 digits>
  const std::string_view text = headers.get(HeaderId::kTraceparent);
  if (text.size() < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-') return {};
  uint8_t version, flags;
  if (!parse_hex(text.substr(0, 2), &version, 1) || version == 0xff) return {};
  if (version == 0 ? text.size() != 55 : text.size() > 55 && text[55] != '-') return {};
  TraceContext out;
  uint64_t span = 0;
  if (!parse_hex(text.substr(3, 32), out.trace_id.data(), 16) || is_zero(out.trace_id)) return {};
  if (!parse_span_id(text.substr(36, 16), &span) || !parse_hex(text.substr(53, 2), &flags, 1)) return {};
  out.span_id = span;
  out.decision = flags & 1 ? TraceContext::Decision::kSample : TraceContext::Decision::kDrop;
  constexpr size_t kMaxTracestate = 512;
  const std::string_view state = headers.get_joined(HeaderId::kTracestate);
  if (state.size() <= kMaxTracestate) out.tracestate = arena.copy(state);
  return out;
}

TraceContext read_b3(const http::HeaderMap& headers) {
  if (const std::string_view single = headers.get("b3"); !single.empty()) {
    TraceContext out = read_b3_single(single);
    if (out || out.decision != TraceContext::Decision::kNone) return out;
  }
  TraceContext out;
  uint64_t span = 0;
  const bool ids =
      parse_b3_trace_id(headers.get(HeaderId::kXB3TraceId), out) && parse_span_id(headers.get("x-b3-spanid"), &span);
  if (!ids) out = {};
  out.span_id = span;
  const std::string_view sampled = headers.get("x-b3-sampled");
  if (headers.get("x-b3-flags") == "1") {
    out.debug = true;
    out.decision = TraceContext::Decision::kSample;
  } else if (sampled == "1" || sampled == "true") {
    out.decision = TraceContext::Decision::kSample;
  } else if (sampled == "0" || sampled == "false") {
    out.decision = TraceContext::Decision::kDrop;
  }
  return out;
}

SkyWalkingContext read_sw8(const http::HeaderMap& headers, Arena& arena) {
  // sample-traceId-segmentId-spanIndex-service-instance-endpoint-address; all but the numbers in base64
  const std::string_view text = headers.get("sw8");
  constexpr size_t kMaxSw8 = 2048;
  if (text.empty() || text.size() > kMaxSw8) return {};
  std::string_view parts[8];
  size_t count = 0;
  for (size_t from = 0; count < 8; ++count) {
    const size_t dash = count == 7 ? std::string_view::npos : text.find('-', from);
    parts[count] = text.substr(from, dash == std::string_view::npos ? dash : dash - from);
    if (dash == std::string_view::npos) {
      ++count;
      break;
    }
    from = dash + 1;
  }
  if (count != 8 || (parts[0] != "0" && parts[0] != "1")) return {};
  SkyWalkingContext out;
  const auto [end, error] = std::from_chars(parts[3].data(), parts[3].data() + parts[3].size(), out.parent_span);
  if (error != std::errc() || end != parts[3].data() + parts[3].size()) return {};
  out.sampled = parts[0] == "1";
  std::string_view* texts[] = {&out.trace_id,        &out.parent_segment,  nullptr,     &out.parent_service,
                               &out.parent_instance, &out.parent_endpoint, &out.address};
  for (size_t i = 0; i < 7; ++i) {
    if (!texts[i]) continue;
    *texts[i] = decode_text(parts[i + 1], arena);
    if (texts[i]->empty()) return {};
  }
  return out;
}

void write_w3c(const TraceContext& context, bool sampled, http::HeaderMap& headers, Arena& arena) {
  char* out = arena.allocate_array<char>(55);
  char* p = out;
  *p++ = '0', *p++ = '0', *p++ = '-';
  p = put_hex(p, context.trace_id.data(), 16);
  *p++ = '-';
  p = put_hex(p, context.span_id);
  *p++ = '-', *p++ = '0', *p++ = sampled ? '1' : '0';
  headers.set(HeaderId::kTraceparent, {out, 55});
  if (context.tracestate.empty()) {
    headers.remove(HeaderId::kTracestate);
  } else {
    headers.set(HeaderId::kTracestate, context.tracestate);
  }
}

void write_b3(const TraceContext& context, uint64_t parent, bool sampled, http::HeaderMap& headers, Arena& arena) {
  headers.remove("b3");
  headers.set(HeaderId::kXB3TraceId, hex_trace_id(context, arena));
  headers.set("x-b3-spanid", hex_span_id(context.span_id, arena));
  if (parent) {
    headers.set("x-b3-parentspanid", hex_span_id(parent, arena));
  } else {
    headers.remove("x-b3-parentspanid");
  }
  // A debug flag implies the decision; sending both is against the specification.
  if (!context.debug) headers.set("x-b3-sampled", sampled ? "1" : "0");
}

void write_sw8(const SkyWalkingContext& context, http::HeaderMap& headers, Arena& arena) {
  std::string text = context.sampled ? "1" : "0";
  auto add = [&](std::string_view part) { text += '-', text += encode_base64(part); };
  add(context.trace_id);
  add(context.parent_segment);
  text += '-' + std::to_string(context.parent_span);
  add(context.parent_service);
  add(context.parent_instance);
  add(context.parent_endpoint);
  add(context.address);
  headers.set("sw8", arena.copy(text));
}

void remove_contexts(http::HeaderMap& headers) {
  headers.remove_if([](const http::HeaderField& field) {
    const std::string_view name = field.name();
    return name == "traceparent" || name == "tracestate" || name == "b3" || name == "sw8" || name.starts_with("x-b3-");
  });
}

std::string_view hex_trace_id(const TraceContext& context, Arena& arena) {
  char* out = arena.allocate_array<char>(32);
  const size_t skip = context.short_trace_id ? 8 : 0;
  char* end = put_hex(out, context.trace_id.data() + skip, 16 - skip);
  return {out, static_cast<size_t>(end - out)};
}

std::string_view hex_span_id(uint64_t id, Arena& arena) {
  char* out = arena.allocate_array<char>(16);
  put_hex(out, id);
  return {out, 16};
}

std::array<uint8_t, 16> random_trace_id(Random& random) {
  const uint64_t words[2] = {random.next(), random.next() | 1};
  std::array<uint8_t, 16> out;
  std::memcpy(out.data(), words, sizeof(words));
  return out;
}

uint64_t random_span_id(Random& random) { return random.next() | 1; }

}  // namespace sluice::proxy
