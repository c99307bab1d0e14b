#include "proxy/forwarding.h"

#include <charconv>
#include <cstring>

#include "net/proxy_protocol.h"

namespace sluice::proxy {
namespace {

using http::HeaderId;

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// A version 4 UUID (RFC 9562).
std::string_view make_request_id(Random& random, Arena& arena) {
  static constexpr char kHex[] = "0123456789abcdef";
  uint64_t words[2] = {random.next(), random.next()};
  auto* bytes = reinterpret_cast<unsigned char*>(words);
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3f) | 0x80);
  char* out = arena.allocate_array<char>(36);
  char* p = out;
  for (int i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *p++ = '-';
    *p++ = kHex[bytes[i] >> 4];
    *p++ = kHex[bytes[i] & 15];
  }
  return {out, 36};
}

bool is_internal(const net::Address& address) {
  return address.is_private() || address.is_loopback() || address.is_unix();
}

// Control fields of Envoy that only a trusted peer may set.
bool is_control_field(std::string_view name) {
  constexpr std::string_view kPrefix = "x-envoy-";
  return name.size() > kPrefix.size() && name.substr(0, kPrefix.size()) == kPrefix;
}

bool is_path_dot(std::string_view text, size_t at, size_t* length) {
  if (text[at] == '.') {
    *length = 1;
    return true;
  }
  if (text.size() - at >= 3 && text[at] == '%' && text[at + 1] == '2' && (text[at + 2] | 0x20) == 'e') {
    *length = 3;
    return true;
  }
  return false;
}

// How many dots a whole segment consists of: 1, 2, or 0 if it is something else.
int dot_segment(std::string_view segment) {
  int dots = 0;
  size_t at = 0;
  while (at < segment.size()) {
    size_t length = 0;
    if (dots == 2 || !is_path_dot(segment, at, &length)) return 0;
    ++dots;
    at += length;
  }
  return dots;
}

// The value of a client without a verified certificate is empty.
void forward_client_certificate(http::RequestHead& head, std::string_view value, config::ClientCertDetails details) {
  using enum config::ClientCertDetails;
  if (details == kAlwaysForwardOnly) return;
  if (details == kSanitize || value.empty()) {
    head.headers.remove(HeaderId::kXForwardedClientCert);
    return;
  }
  if (details == kForwardOnly) return;
  const std::string_view before =
      details == kAppendForward ? head.headers.get_joined(HeaderId::kXForwardedClientCert) : std::string_view();
  head.headers.set(HeaderId::kXForwardedClientCert,
                   before.empty() ? value : head.headers.arena()->concat(before, ",", value));
}

std::string_view resolve_dots(std::string_view target, Arena& arena) {
  const size_t query_at = target.find('?');
  const std::string_view path = target.substr(0, query_at);
  bool suspicious = path.find('\\') != std::string_view::npos;
  for (size_t slash = path.find('/'); !suspicious && slash != std::string_view::npos;
       slash = path.find('/', slash + 1)) {
    size_t length = 0;
    suspicious = slash + 1 < path.size() && is_path_dot(path, slash + 1, &length);
  }
  if (!suspicious) return target;

  char* out = arena.allocate_array<char>(target.size() + 1);
  size_t size = 0;
  size_t at = 0;
  bool ends_in_dots = false;
  while (at < path.size()) {
    // `at` stands on a slash.
    size_t end = at + 1;
    while (end < path.size() && path[end] != '/' && path[end] != '\\') ++end;
    const std::string_view segment = path.substr(at + 1, end - at - 1);
    const int dots = segment.empty() ? 0 : dot_segment(segment);
    ends_in_dots = dots > 0 && end == path.size();
    if (dots == 2) {
      while (size > 0 && out[--size] != '/') {
      }
    } else if (dots == 0) {
      out[size++] = '/';
      std::memcpy(out + size, segment.data(), segment.size());
      size += segment.size();
    }
    at = end;
  }
  if (ends_in_dots || size == 0) out[size++] = '/';
  if (query_at != std::string_view::npos) {
    const std::string_view query = target.substr(query_at);
    if (size + query.size() > target.size() + 1) return target;
    std::memcpy(out + size, query.data(), query.size());
    size += query.size();
  }
  return {out, size};
}

// "%2F" and "%5C" of the path.
std::string_view decode_slashes(std::string_view target, Arena& arena) {
  const size_t end = std::min(target.find('?'), target.size());
  const auto escape_at = [&](size_t at) -> char {
    if (at + 2 >= end || target[at] != '%') return 0;
    const char low = static_cast<char>(target[at + 2] | 0x20);
    return target[at + 1] == '2' && low == 'f' ? '/' : target[at + 1] == '5' && low == 'c' ? '\\' : 0;
  };
  size_t at = target.find('%');
  while (at < end && !escape_at(at)) at = target.find('%', at + 1);
  if (at >= end) return target;
  char* out = arena.allocate_array<char>(target.size());
  size_t size = 0;
  for (size_t i = 0; i < target.size(); ++i) {
    const char decoded = escape_at(i);
    out[size++] = decoded ? decoded : target[i];
    if (decoded) i += 2;
  }
  return {out, size};
}

std::string_view merge_slashes(std::string_view target, Arena& arena) {
  const size_t end = std::min(target.find('?'), target.size());
  if (target.substr(0, end).find("//") == std::string_view::npos) return target;
  char* out = arena.allocate_array<char>(target.size());
  size_t size = 0;
  for (size_t i = 0; i < target.size(); ++i) {
    if (i > 0 && i < end && target[i] == '/' && target[i - 1] == '/') continue;
    out[size++] = target[i];
  }
  return {out, size};
}

}  // namespace

std::string_view format_number(uint64_t value, Arena& arena) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  return arena.copy({digits, static_cast<size_t>(end - digits)});
}

net::Address client_address(const http::RequestHead& head, const http::ConnectionInfo& connection,
                            uint32_t trusted_hops) {
  if (trusted_hops == 0) return connection.peer;
  std::string_view list = head.headers.get_joined(HeaderId::kXForwardedFor);
  std::string_view entry;
  for (uint32_t hop = 0; hop < trusted_hops; ++hop) {
    if (list.empty()) return connection.peer;
    const size_t comma = list.rfind(',');
    entry = trim(comma == std::string_view::npos ? list : list.substr(comma + 1));
    list = comma == std::string_view::npos ? std::string_view() : list.substr(0, comma);
  }
  const auto parsed = net::Address::parse_ip(entry);
  return parsed ? *parsed : connection.peer;
}

void add_request_fields(http::RequestHead& head, const ForwardingFacts& facts, Random& random) {
  Arena& arena = *head.headers.arena();
  const http::ConnectionInfo& connection = *facts.connection;
  const net::Address& peer = connection.peer;
  const bool internal = facts.trusted_hops == 0 ? is_internal(peer) : is_internal(*facts.client);

  // What only we, or proxies we trust, may say.
  if (facts.trusted_hops == 0 || !internal) {
    head.headers.remove_if([](const http::HeaderField& field) { return is_control_field(field.name()); });
  }
  forward_client_certificate(head, connection.client_certificate_header, facts.client_cert_details);

  char ip[net::Address::kMaxIpText];
  const std::string_view peer_ip(ip, peer.format_ip(ip));
  if (!peer_ip.empty()) {
    const std::string_view before = head.headers.get_joined(HeaderId::kXForwardedFor);
    head.headers.set(HeaderId::kXForwardedFor,
                     before.empty() ? arena.copy(peer_ip) : arena.concat(before, ",", peer_ip));
  }
  if (facts.trusted_hops == 0 || !head.headers.has(HeaderId::kXForwardedProto)) {
    head.headers.set(HeaderId::kXForwardedProto, head.scheme);
  }
  if (!internal || !head.headers.has(HeaderId::kXRequestId)) {
    head.headers.set(HeaderId::kXRequestId, make_request_id(random, arena));
  }
  std::string_view external;
  if (!internal) {
    char text[net::Address::kMaxIpText];
    external = arena.copy({text, facts.client->format_ip(text)});
  }
  if (facts.x_envoy_headers) {
    if (internal) {
      head.headers.set(HeaderId::kXEnvoyInternal, "true");
    } else {
      head.headers.set(HeaderId::kXEnvoyExternalAddress, external);
    }
  }
  if (facts.add_x_real_ip && !external.empty()) head.headers.set(HeaderId::kXRealIp, external);
  head.headers.set(HeaderId::kOriginalHost, head.authority);
  head.headers.set(HeaderId::kReqStartTime, format_number(facts.start_time_ms, arena));
}

std::string proxy_header(const config::Cluster& cluster, const http::ConnectionInfo& connection) {
  switch (cluster.send_proxy_protocol) {
    case 1:
      return net::write_proxy_protocol_v1(connection.peer, connection.local);
    case 2:
      return net::write_proxy_protocol_v2(connection.peer, connection.local);
    default:
      return {};
  }
}

std::string_view normalize_path(std::string_view target, Arena& arena, config::PathNormalization kind) {
  using enum config::PathNormalization;
  if (kind == kNone) return target;
  if (kind == kDecodeAndMergeSlashes) target = decode_slashes(target, arena);
  target = resolve_dots(target, arena);
  return kind == kBase ? target : merge_slashes(target, arena);
}

}  // namespace sluice::proxy
