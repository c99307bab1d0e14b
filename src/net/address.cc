#include "net/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>

namespace sluice::net {
namespace {

constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

template <typename Number>
bool parse_decimal(std::string_view text, Number* out) {
  if (text.empty() || text.size() > 10) return false;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

// inet_pton wants a terminated string.
bool to_binary(int family, std::string_view text, uint8_t* out) {
  char terminated[INET6_ADDRSTRLEN];
  if (text.empty() || text.size() >= sizeof(terminated)) return false;
  if (text.find('\0') != text.npos) return false;
  text.copy(terminated, text.size());
  terminated[text.size()] = '\0';
  return inet_pton(family, terminated, out) == 1;
}

// An interface's name or number. 0 is no scope.
uint32_t parse_scope(std::string_view text) {
  uint32_t number = 0;
  if (parse_decimal(text, &number)) return number;
  if (text.empty() || text.size() >= IF_NAMESIZE) return 0;
  return if_nametoindex(std::string(text).c_str());
}

Error bad_address(std::string_view text, std::string_view why) {
  return Error{"invalid address \"" + std::string(text) + "\": " + std::string(why)};
}

struct HostPort {
  std::string_view host;
  std::optional<std::string_view> port;
};

// Splits "host:port", "[host]:port", "[host]" and a bare host. A bare IPv6 address has no port.
std::optional<HostPort> split(std::string_view text) {
  if (!text.starts_with('[')) {
    size_t colon = text.rfind(':');
    if (colon == text.npos || text.find(':') != colon) return HostPort{text, std::nullopt};
    return HostPort{text.substr(0, colon), text.substr(colon + 1)};
  }
  size_t close = text.find(']');
  if (close == text.npos) return std::nullopt;
  std::string_view host = text.substr(1, close - 1);
  std::string_view rest = text.substr(close + 1);
  if (rest.empty()) return HostPort{host, std::nullopt};
  if (rest[0] != ':') return std::nullopt;
  return HostPort{host, rest.substr(1)};
}

Result<Address> parse_address(std::string_view text, std::optional<uint16_t> default_port) {
  if (text.starts_with("unix:")) {
    std::string path(text.substr(5));
    if (path.empty()) return bad_address(text, "a path must follow \"unix:\"");
    if (path.size() >= sizeof(sockaddr_un::sun_path)) {
      return bad_address(text, "a Unix socket's path has at most 107 bytes");
    }
    if (path[0] == '@') path[0] = '\0';
    return Address::unix_path(path);
  }
  std::optional<HostPort> parts = split(text);
  if (!parts) return bad_address(text, "expected ip:port, [ipv6]:port or unix:/path");
  uint16_t port = default_port.value_or(0);
  if (parts->port && !parse_decimal(*parts->port, &port)) {
    return bad_address(text, "the port must be a number from 0 to 65535");
  }
  std::optional<Address> address = Address::parse_ip(parts->host, port);
  if (!address) return bad_address(text, "not an IP address");
  if (!parts->port && !default_port) return bad_address(text, "a port is required, as in 1.2.3.4:80 or [::1]:80");
  if (address->is_ipv6() && parts->port && !text.starts_with('[')) {
    return bad_address(text, "an IPv6 address with a port needs brackets, as in [::1]:80");
  }
  return *std::move(address);
}

char* append_decimal(char* out, uint32_t value) { return std::to_chars(out, out + 10, value).ptr; }

char* append_ipv4(char* out, const uint8_t* ip) {
  for (int i = 0; i < 4; ++i) {
    if (i) *out++ = '.';
    out = append_decimal(out, ip[i]);
  }
  return out;
}

char* append_ipv6(char* out, const uint8_t* ip, uint32_t scope) {
  inet_ntop(AF_INET6, ip, out, INET6_ADDRSTRLEN);
  out += std::strlen(out);
  if (scope) {
    *out++ = '%';
    out = append_decimal(out, scope);
  }
  return out;
}

// Finaliser of MurmurHash3: every input bit reaches every output bit.
uint64_t mix(uint64_t h) {
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdULL;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53ULL;
  return h ^ (h >> 33);
}

}  // namespace

Result<Address> Address::parse(std::string_view text) { return parse_address(text, std::nullopt); }

Result<Address> Address::parse(std::string_view text, uint16_t default_port) {
  return parse_address(text, default_port);
}

std::optional<Address> Address::parse_ip(std::string_view text, uint16_t port) {
  uint8_t bytes[16];
  if (to_binary(AF_INET, text, bytes)) return ipv4(std::span<const uint8_t, 4>(bytes, 4), port);
  uint32_t scope = 0;
  if (size_t percent = text.find('%'); percent != text.npos) {
    scope = parse_scope(text.substr(percent + 1));
    if (scope == 0) return std::nullopt;
    text = text.substr(0, percent);
  }
  if (!to_binary(AF_INET6, text, bytes)) return std::nullopt;
  return ipv6(bytes, port, scope);
}

Address Address::ipv4(std::span<const uint8_t, 4> ip, uint16_t port) {
  Address address;
  std::memcpy(address.ip_, ip.data(), 4);
  address.port_ = port;
  address.family_ = Family::kIpv4;
  return address;
}

Address Address::ipv6(std::span<const uint8_t, 16> ip, uint16_t port, uint32_t scope) {
  if (std::memcmp(ip.data(), kMappedPrefix, sizeof(kMappedPrefix)) == 0) return ipv4(ip.subspan<12, 4>(), port);
  Address address;
  std::memcpy(address.ip_, ip.data(), 16);
  address.scope_ = scope;
  address.port_ = port;
  address.family_ = Family::kIpv6;
  return address;
}

Address Address::unix_path(std::string_view path) {
  Address address;
  new (&address.path_) Path(path.empty() ? nullptr : std::make_shared<const std::string>(path));
  address.family_ = Family::kUnix;
  return address;
}

Address Address::from_sockaddr(const sockaddr* address, socklen_t length) {
  if (!address || length < sizeof(sa_family_t)) return {};
  if (address->sa_family == AF_INET && length >= sizeof(sockaddr_in)) {
    sockaddr_in in;
    std::memcpy(&in, address, sizeof(in));
    uint8_t ip[4];
    std::memcpy(ip, &in.sin_addr, 4);
    return ipv4(ip, ntohs(in.sin_port));
  }
  if (address->sa_family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in6;
    std::memcpy(&in6, address, sizeof(in6));
    return ipv6(in6.sin6_addr.s6_addr, ntohs(in6.sin6_port), in6.sin6_scope_id);
  }
  if (address->sa_family == AF_UNIX) {
    const char* path = reinterpret_cast<const char*>(address) + offsetof(sockaddr_un, sun_path);
    size_t size = std::min<size_t>(length, sizeof(sockaddr_un)) - offsetof(sockaddr_un, sun_path);
    // A name in the file system ends at its NUL; an abstract one begins with it and has exactly
    // `size` bytes.
    if (size > 0 && path[0] != '\0') size = strnlen(path, size);
    return unix_path({path, size});
  }
  return {};
}

socklen_t Address::to_sockaddr(sockaddr_storage* out) const {
  std::memset(out, 0, sizeof(*out));
  switch (family_) {
    case Family::kNone:
      return 0;
    case Family::kIpv4: {
      auto* in = reinterpret_cast<sockaddr_in*>(out);
      in->sin_family = AF_INET;
      in->sin_port = htons(port_);
      std::memcpy(&in->sin_addr, ip_, 4);
      return sizeof(sockaddr_in);
    }
    case Family::kIpv6: {
      auto* in6 = reinterpret_cast<sockaddr_in6*>(out);
      in6->sin6_family = AF_INET6;
      in6->sin6_port = htons(port_);
      in6->sin6_scope_id = scope_;
      std::memcpy(&in6->sin6_addr, ip_, 16);
      return sizeof(sockaddr_in6);
    }
    case Family::kUnix: {
      auto* un = reinterpret_cast<sockaddr_un*>(out);
      std::string_view name = path();
      if (name.size() >= sizeof(un->sun_path)) return 0;
      un->sun_family = AF_UNIX;
      if (!name.empty()) std::memcpy(un->sun_path, name.data(), name.size());
      bool in_file_system = !name.empty() && name[0] != '\0';
      return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + in_file_system);
    }
  }
  return 0;
}

Address Address::with_port(uint16_t port) const {
  Address copy = *this;
  if (is_ip()) copy.port_ = port;
  return copy;
}

std::string_view Address::path() const {
  return family_ == Family::kUnix && path_ ? std::string_view(*path_) : std::string_view();
}

size_t Address::format_ip(char* out) const {
  if (family_ == Family::kIpv4) return append_ipv4(out, ip_) - out;
  if (family_ == Family::kIpv6) return append_ipv6(out, ip_, scope_) - out;
  return 0;
}

size_t Address::format(char* out) const {
  if (!is_ip()) return 0;
  char* p = out;
  if (is_ipv6()) *p++ = '[';
  p += format_ip(p);
  if (is_ipv6()) *p++ = ']';
  *p++ = ':';
  return append_decimal(p, port_) - out;
}

std::string Address::ip() const {
  char text[kMaxIpText];
  return std::string(text, format_ip(text));
}

std::string Address::to_string() const {
  if (is_none()) return "-";
  if (is_unix()) {
    std::string text = "unix:" + std::string(path());
    if (text.size() > 5 && text[5] == '\0') text[5] = '@';
    return text;
  }
  char text[kMaxIpText];
  return std::string(text, format(text));
}

bool Address::is_loopback() const {
  if (is_ipv4()) return ip_[0] == 127;
  static constexpr uint8_t kLoopback[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return is_ipv6() && std::memcmp(ip_, kLoopback, 16) == 0;
}

bool Address::is_private() const {
  if (is_ipv6()) return (ip_[0] & 0xfe) == 0xfc;
  if (!is_ipv4()) return false;
  return ip_[0] == 10 || (ip_[0] == 172 && (ip_[1] & 0xf0) == 16) || (ip_[0] == 192 && ip_[1] == 168);
}

bool Address::is_link_local() const {
  if (is_ipv6()) return ip_[0] == 0xfe && (ip_[1] & 0xc0) == 0x80;
  return is_ipv4() && ip_[0] == 169 && ip_[1] == 254;
}

bool Address::is_any() const {
  std::span<const uint8_t> bytes = ip_bytes();
  return is_ip() && std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; });
}

bool Address::same_host(const Address& other) const {
  if (family_ != other.family_) return false;
  if (is_unix()) return path() == other.path();
  return scope_ == other.scope_ && std::memcmp(ip_, other.ip_, sizeof(ip_)) == 0;
}

std::strong_ordering Address::operator<=>(const Address& other) const {
  if (auto order = family_ <=> other.family_; order != 0) return order;
  if (is_unix()) return path() <=> other.path();
  if (int order = std::memcmp(ip_, other.ip_, sizeof(ip_)); order != 0) return order <=> 0;
  if (auto order = scope_ <=> other.scope_; order != 0) return order;
  return port_ <=> other.port_;
}

uint64_t Address::ip_hash() const {
  if (is_unix()) return std::hash<std::string_view>()(path());
  uint64_t words[2];
  std::memcpy(words, ip_, sizeof(words));
  return mix(words[0] ^ mix(words[1] + static_cast<uint64_t>(family_) + (uint64_t{scope_} << 8)));
}

uint64_t Address::hash() const { return mix(ip_hash() + port_); }

Result<Cidr> Cidr::parse(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return Error{"invalid network \"" + std::string(text) + "\": " + std::string(why)};
  };
  size_t slash = text.find('/');
  std::optional<Address> base = Address::parse_ip(text.substr(0, slash));
  if (!base) return bad("expected an IP address or a network such as 10.0.0.0/8");
  unsigned bits = base->ip_bytes().size() * 8;
  unsigned prefix = bits;
  if (slash != text.npos && (!parse_decimal(text.substr(slash + 1), &prefix) || prefix > bits)) {
    return bad("the prefix must be a number from 0 to " + std::to_string(bits));
  }
  uint8_t ip[16] = {};
  std::ranges::copy(base->ip_bytes(), ip);
  for (unsigned bit = prefix; bit < bits; ++bit) ip[bit / 8] &= ~(0x80 >> (bit % 8));
  Cidr cidr;
  cidr.prefix = static_cast<uint8_t>(prefix);
  cidr.base = base->is_ipv4() ? Address::ipv4(std::span<const uint8_t, 4>(ip, 4), 0) : Address::ipv6(ip, 0);
  return cidr;
}

bool Cidr::contains(const Address& address) const {
  if (!base.is_ip() || address.family() != base.family()) return false;
  const uint8_t* a = base.ip_bytes().data();
  const uint8_t* b = address.ip_bytes().data();
  unsigned whole = prefix / 8;
  if (std::memcmp(a, b, whole) != 0) return false;
  unsigned rest = prefix % 8;
  return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

std::string Cidr::to_string() const { return base.ip() + "/" + std::to_string(prefix); }

}  // namespace sluice::net
