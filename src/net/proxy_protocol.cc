#include "net/proxy_protocol.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

namespace sluice::net {
namespace {

using Result = ProxyProtocolResult;

constexpr std::string_view kV1Prefix = "PROXY ";
constexpr std::string_view kV2Signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr size_t kV2Fixed = 16;  // signature, version and command, family, length
constexpr size_t kUnixPath = 108;
constexpr size_t kMaxUniqueId = 128;

enum Command : uint8_t { kLocal = 0, kProxy = 1 };
enum FamilyNibble : uint8_t { kUnspec = 0, kInet = 1, kInet6 = 2, kUnix = 3 };
enum TransportNibble : uint8_t { kUnspecTransport = 0, kStream = 1, kDatagram = 2 };
enum Type : uint8_t {
  kAlpn = 0x01,
  kAuthority = 0x02,
  kCrc32c = 0x03,
  kUniqueId = 0x05,
  kSsl = 0x20,
  kSslVersion = 0x21,
  kSslCn = 0x22,
  kNetns = 0x30,
};
constexpr uint8_t kClientSsl = 0x01;

Result invalid(const char* why) { return {.status = Result::Status::kInvalid, .error = why}; }

uint16_t big16(const char* bytes) {
  return static_cast<uint16_t>(static_cast<uint8_t>(bytes[0]) << 8 | static_cast<uint8_t>(bytes[1]));
}

uint32_t big32(const char* bytes) { return uint32_t{big16(bytes)} << 16 | big16(bytes + 2); }

void append16(std::string& out, size_t value) {
  out += static_cast<char>(value >> 8);
  out += static_cast<char>(value);
}

uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
      table[i] = crc;
    }
    return table;
  }();
  uint32_t crc = ~0u;
  for (char byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

// ---- version 1

// Removes and returns the text before the next space, or all of it.
std::string_view take_word(std::string_view& line) {
  size_t space = line.find(' ');
  std::string_view word = line.substr(0, space);
  line = space == line.npos ? std::string_view() : line.substr(space + 1);
  return word;
}

// 0 to 65535 without sign or leading zeros.
std::optional<uint16_t> parse_port(std::string_view text) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint16_t port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return port;
}

// A mapped IPv4 address in a TCP6 line becomes IPv4 (net/address.h), so the notation is what tells
// the family.
std::optional<Address> parse_v1_ip(std::string_view text, bool six) {
  if (text.find('%') != text.npos || (text.find(':') != text.npos) != six) return std::nullopt;
  return Address::parse_ip(text);
}

Result parse_v1(std::string_view bytes) {
  std::string_view head = bytes.substr(0, kProxyProtocolV1Max);
  size_t newline = head.find('\n');
  if (newline == head.npos) {
    return bytes.size() >= kProxyProtocolV1Max ? invalid("PROXY v1: the line is longer than 107 bytes") : Result{};
  }
  if (head[newline - 1] != '\r') return invalid("PROXY v1: the line does not end with CR LF");
  Result result{.status = Result::Status::kDone, .consumed = newline + 1};
  result.header.version = 1;
  std::string_view line = head.substr(kV1Prefix.size(), newline - 1 - kV1Prefix.size());
  std::string_view family = take_word(line);
  if (family == "UNKNOWN") {
    result.header.local = true;
    return result;
  }
  if (family != "TCP4" && family != "TCP6") return invalid("PROXY v1: the family is not TCP4, TCP6 or UNKNOWN");
  bool six = family == "TCP6";
  auto source = parse_v1_ip(take_word(line), six);
  auto destination = parse_v1_ip(take_word(line), six);
  auto source_port = parse_port(take_word(line));
  // The last field takes the rest, so that a trailing space or a fifth field is refused.
  auto destination_port = parse_port(line);
  if (!source || !destination) return invalid("PROXY v1: an address is not valid");
  if (!source_port || !destination_port) return invalid("PROXY v1: a port is not valid");
  result.header.source = source->with_port(*source_port);
  result.header.destination = destination->with_port(*destination_port);
  return result;
}

// ---- version 2

struct Tlv {
  uint8_t type;
  std::string_view value;
};

// Removes the first TLV of `rest`; nothing if it is cut short.
std::optional<Tlv> take_tlv(std::string_view& rest) {
  if (rest.size() < 3) return std::nullopt;
  size_t size = big16(rest.data() + 1);
  if (rest.size() - 3 < size) return std::nullopt;
  Tlv tlv{static_cast<uint8_t>(rest[0]), rest.substr(3, size)};
  rest.remove_prefix(3 + size);
  return tlv;
}

const char* parse_ssl(std::string_view value, ProxyProtocolTlvs& tlvs) {
  if (value.size() < 5) return "PROXY v2: the SSL TLV is cut short";
  tlvs.ssl = static_cast<uint8_t>(value[0]) & kClientSsl;
  // Bits 1 and 2: a certificate was presented over this connection, or in the session that it
  // resumed.
  tlvs.ssl_client_verified = (static_cast<uint8_t>(value[0]) & 0x06) != 0 && big32(value.data() + 1) == 0;
  value.remove_prefix(5);
  while (!value.empty()) {
    std::optional<Tlv> sub = take_tlv(value);
    if (!sub) return "PROXY v2: a TLV inside the SSL TLV is cut short";
    if (sub->type == kSslVersion) tlvs.ssl_version = sub->value;
    if (sub->type == kSslCn) tlvs.ssl_client_cn = sub->value;
  }
  return nullptr;
}

// The checksum is over the whole header with the checksum's own four bytes zero.
bool checksum_matches(std::string_view whole, std::string_view stored) {
  std::string copy(whole);
  std::memset(copy.data() + (stored.data() - whole.data()), 0, stored.size());
  return crc32c(copy) == big32(stored.data());
}

// Null, or what is wrong.
const char* parse_tlvs(std::string_view rest, std::string_view whole, ProxyProtocolTlvs& tlvs) {
  while (!rest.empty()) {
    std::optional<Tlv> tlv = take_tlv(rest);
    if (!tlv) return "PROXY v2: a TLV is cut short";
    switch (tlv->type) {
      case kAlpn:
        tlvs.alpn = tlv->value;
        break;
      case kAuthority:
        tlvs.authority = tlv->value;
        break;
      case kNetns:
        tlvs.netns = tlv->value;
        break;
      case kUniqueId:
        if (tlv->value.size() > kMaxUniqueId) return "PROXY v2: the unique id is longer than 128 bytes";
        tlvs.unique_id = tlv->value;
        break;
      case kCrc32c:
        if (tlv->value.size() != 4) return "PROXY v2: the checksum does not have four bytes";
        if (!checksum_matches(whole, tlv->value)) return "PROXY v2: the checksum is wrong";
        break;
      case kSsl:
        if (const char* error = parse_ssl(tlv->value, tlvs)) return error;
        break;
      default:
        break;  // unknown types are to be ignored
    }
  }
  return nullptr;
}

Address inet(const char* ip, const char* port) {
  uint8_t bytes[4];
  std::memcpy(bytes, ip, 4);
  return Address::ipv4(bytes, big16(port));
}

Address inet6(const char* ip, const char* port) {
  uint8_t bytes[16];
  std::memcpy(bytes, ip, 16);
  return Address::ipv6(bytes, big16(port));
}

// Padded with NULs; an abstract name begins with one and has no certain end, so trailing NULs are
// cut.
Address unix_socket(std::string_view padded) {
  if (padded[0] != '\0') return Address::unix_path(padded.substr(0, padded.find('\0')));
  size_t last = padded.find_last_not_of('\0');
  return Address::unix_path(last == padded.npos ? std::string_view() : padded.substr(0, last + 1));
}

// Bytes that the addresses of a family take.
size_t address_size(uint8_t family) {
  switch (family) {
    case kInet:
      return 12;
    case kInet6:
      return 36;
    case kUnix:
      return 2 * kUnixPath;
    default:
      return 0;
  }
}

void read_addresses(uint8_t family, std::string_view body, ProxyProtocolHeader& header) {
  const char* b = body.data();
  if (family == kInet) {
    header.source = inet(b, b + 8);
    header.destination = inet(b + 4, b + 10);
  } else if (family == kInet6) {
    header.source = inet6(b, b + 32);
    header.destination = inet6(b + 16, b + 34);
  } else {
    header.source = unix_socket(body.substr(0, kUnixPath));
    header.destination = unix_socket(body.substr(kUnixPath, kUnixPath));
  }
}

Result parse_v2(std::string_view bytes) {
  // What is wrong with the fixed part is told as soon as it is there, not when the rest has come.
  if (bytes.size() < kV2Fixed) return {};
  uint8_t version_command = static_cast<uint8_t>(bytes[12]);
  uint8_t command = version_command & 0x0f;
  uint8_t family = static_cast<uint8_t>(bytes[13]) >> 4;
  uint8_t transport = static_cast<uint8_t>(bytes[13]) & 0x0f;
  size_t length = big16(bytes.data() + 14);
  if (version_command >> 4 != 2) return invalid("PROXY v2: the version is not 2");
  if (command > kProxy) return invalid("PROXY v2: the command is neither LOCAL nor PROXY");
  if (kV2Fixed + length > kProxyProtocolV2Max) return invalid("PROXY v2: the header is longer than 4112 bytes");
  bool told = command == kProxy && family != kUnspec && transport != kUnspecTransport;
  if (command == kProxy && (family > kUnix || transport > kDatagram)) {
    return invalid("PROXY v2: the address family or transport is not known");
  }
  if (told && length < address_size(family)) return invalid("PROXY v2: the header is too short for its addresses");
  if (bytes.size() < kV2Fixed + length) return {};

  std::string_view whole = bytes.substr(0, kV2Fixed + length);
  std::string_view body = whole.substr(kV2Fixed);
  Result result{.status = Result::Status::kDone, .consumed = whole.size()};
  result.header.version = 2;
  result.header.local = !told;
  // A receiver of LOCAL ignores everything that follows.
  if (command == kLocal) return result;
  if (told) {
    result.header.datagram = transport == kDatagram;
    read_addresses(family, body, result.header);
  }
  // With UNSPEC as the family no address bytes come; TLVs may.
  body.remove_prefix(std::min(body.size(), address_size(family)));
  if (const char* error = parse_tlvs(body, whole, result.header.tlvs)) return invalid(error);
  return result;
}

// ---- writing

bool same_family(const Address& a, const Address& b) { return !a.is_none() && a.family() == b.family(); }

void append_tlv(std::string& out, uint8_t type, std::string_view value) {
  out += static_cast<char>(type);
  append16(out, value.size());
  out += value;
}

void append_ip(std::string& out, const Address& address) {
  std::span<const uint8_t> ip = address.ip_bytes();
  out.append(reinterpret_cast<const char*>(ip.data()), ip.size());
}

void append_path(std::string& out, const Address& address) {
  std::string path(address.path().substr(0, kUnixPath));
  path.resize(kUnixPath);
  out += path;
}

void append_addresses(std::string& out, const Address& source, const Address& destination) {
  if (source.is_unix()) {
    append_path(out, source);
    append_path(out, destination);
    return;
  }
  append_ip(out, source);
  append_ip(out, destination);
  append16(out, source.port());
  append16(out, destination.port());
}

}  // namespace

ProxyProtocolResult parse_proxy_protocol(std::string_view bytes) {
  auto begins = [bytes](std::string_view prefix) {
    size_t n = std::min(bytes.size(), prefix.size());
    return bytes.substr(0, n) == prefix.substr(0, n);
  };
  if (begins(kV2Signature)) return bytes.size() < kV2Signature.size() ? Result{} : parse_v2(bytes);
  if (begins(kV1Prefix)) return bytes.size() < kV1Prefix.size() ? Result{} : parse_v1(bytes);
  return {.status = Result::Status::kNotProxy};
}

std::string write_proxy_protocol_v1(const Address& source, const Address& destination) {
  if (!source.is_ip() || !same_family(source, destination)) return "PROXY UNKNOWN\r\n";
  // The scope of a link-local address means nothing to another machine.
  auto ip = [](const Address& address) {
    std::string text = address.ip();
    return text.substr(0, text.find('%'));
  };
  std::string line(source.is_ipv4() ? "PROXY TCP4 " : "PROXY TCP6 ");
  line += ip(source) + ' ' + ip(destination) + ' ';
  line += std::to_string(source.port()) + ' ' + std::to_string(destination.port()) + "\r\n";
  return line;
}

std::string write_proxy_protocol_v2(const Address& source, const Address& destination,
                                    const ProxyProtocolV2Options& options) {
  bool told = same_family(source, destination);
  std::string body;
  uint8_t family = kUnspec;
  if (told) {
    family = source.is_ipv4() ? kInet : source.is_ipv6() ? kInet6 : kUnix;
    append_addresses(body, source, destination);
    if (!options.alpn.empty()) append_tlv(body, kAlpn, options.alpn.substr(0, 255));
    if (!options.authority.empty()) append_tlv(body, kAuthority, options.authority.substr(0, 255));
    if (!options.unique_id.empty()) append_tlv(body, kUniqueId, options.unique_id.substr(0, kMaxUniqueId));
  }
  if (options.checksum) append_tlv(body, kCrc32c, std::string_view("\0\0\0\0", 4));

  std::string header(kV2Signature);
  header += static_cast<char>(0x20 | (told ? kProxy : kLocal));
  header += static_cast<char>(told ? family << 4 | kStream : 0);
  append16(header, body.size());
  header += body;
  if (options.checksum) {
    uint32_t crc = crc32c(header);
    header.resize(header.size() - 4);
    append16(header, crc >> 16);
    append16(header, crc & 0xffff);
  }
  return header;
}

}  // namespace sluice::net
