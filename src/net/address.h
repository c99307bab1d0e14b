#pragma once
// Address: where a socket is or goes to: an IPv4 or IPv6 address with a port, or a Unix socket's
// path. A value of 24 bytes; copying an IP address allocates nothing, copying a Unix address shares
// its path.
//
// An IPv4 address that arrives in IPv6 clothes (::ffff:1.2.3.4, what a dual-stack listener sees)
// becomes IPv4 at once, so that comparison, access lists and logs know one form only.

#include <sys/socket.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace sluice::net {

class Address {
 public:
  enum class Family : uint8_t { kNone, kIpv4, kIpv6, kUnix };

  // No address at all.
  Address() : ip_{} {}
  Address(const Address& other) : ip_{} { copy_from(other); }
  Address(Address&& other) noexcept : ip_{} { move_from(other); }
  Address& operator=(const Address& other) {
    if (this != &other) {
      clear();
      copy_from(other);
    }
    return *this;
  }
  Address& operator=(Address&& other) noexcept {
    if (this != &other) {
      clear();
      move_from(other);
    }
    return *this;
  }
  ~Address() { clear(); }

  // "1.2.3.4:80", "[::1]:80", "[fe80::1%eth0]:80", "unix:/path", "unix:@abstract". A port is
  // required for IP.
  static Result<Address> parse(std::string_view text);
  // As parse(), but "1.2.3.4", "::1" and "[::1]" are accepted too and get `default_port`.
  static Result<Address> parse(std::string_view text, uint16_t default_port);
  // An IP address without brackets or port: "1.2.3.4", "::1", "fe80::1%2". Nothing if it is not one
  // (a host name, say).
  static std::optional<Address> parse_ip(std::string_view ip, uint16_t port = 0);

  // The four bytes are in network order.
  static Address ipv4(std::span<const uint8_t, 4> ip, uint16_t port);
  static Address ipv4(uint8_t a, uint8_t b, uint8_t c, uint8_t d, uint16_t port) {
    const uint8_t ip[4] = {a, b, c, d};
    return ipv4(ip, port);
  }
  static Address ipv6(std::span<const uint8_t, 16> ip, uint16_t port, uint32_t scope = 0);
  // A path in the file system, or an abstract name with its leading NUL byte. Empty: an unnamed
  // socket (what accept() tells of most Unix clients).
  static Address unix_path(std::string_view path);

  // From accept(), getsockname() and the like. A family that is not one of ours gives kNone.
  static Address from_sockaddr(const sockaddr* address, socklen_t length);
  // Fills `out` and returns the length to pass to bind() or connect(). 0 for kNone, or a Unix path
  // longer than the kernel takes (107 bytes).
  socklen_t to_sockaddr(sockaddr_storage* out) const;

  Family family() const { return family_; }
  bool is_none() const { return family_ == Family::kNone; }
  bool is_ip() const { return family_ == Family::kIpv4 || family_ == Family::kIpv6; }
  bool is_ipv4() const { return family_ == Family::kIpv4; }
  bool is_ipv6() const { return family_ == Family::kIpv6; }
  bool is_unix() const { return family_ == Family::kUnix; }

  // 0 for anything but IP.
  uint16_t port() const { return port_; }
  // The same IP address with another port. A Unix address stays as it is.
  Address with_port(uint16_t port) const;
  // The interface of a link-local IPv6 address; 0 if there is none.
  uint32_t scope() const { return scope_; }
  // 4 or 16 bytes in network order; empty if not IP. Borrowed from this object.
  std::span<const uint8_t> ip_bytes() const {
    return {ip_, family_ == Family::kIpv4 ? 4u : family_ == Family::kIpv6 ? 16u : 0u};
  }
  // The path as given to unix_path(). Borrowed from this object; empty if not a Unix address.
  std::string_view path() const;

  // "1.2.3.4" or "fe80::1%2"; empty if not IP.
  std::string ip() const;
  // The text that parse() takes. "unix:" alone for an unnamed Unix socket, "-" for no address.
  std::string to_string() const;
  // Writes to_string()'s or ip()'s text to `out`, without a NUL, and returns its length. IP only:
  // `out` needs kMaxIpText bytes; returns 0 for other families.
  static constexpr size_t kMaxIpText = 72;
  size_t format(char* out) const;
  size_t format_ip(char* out) const;

  bool is_loopback() const;    // 127.0.0.0/8, ::1
  bool is_private() const;     // RFC 1918 (10/8, 172.16/12, 192.168/16) and RFC 4193 (fc00::/7)
  bool is_link_local() const;  // 169.254.0.0/16, fe80::/10
  bool is_any() const;         // 0.0.0.0, ::

  // True if the IP addresses (not the ports) are the same, or the Unix paths are.
  bool same_host(const Address& other) const;

  bool operator==(const Address& other) const { return port_ == other.port_ && same_host(other); }
  // A total order: family, then address, then port.
  std::strong_ordering operator<=>(const Address& other) const;
  uint64_t hash() const;
  // Without the port: for consistent hashing by client, per-client limits.
  uint64_t ip_hash() const;

 private:
  using Path = std::shared_ptr<const std::string>;

  void copy_from(const Address& other) {
    if (other.family_ == Family::kUnix) {
      new (&path_) Path(other.path_);
    } else {
      std::memcpy(ip_, other.ip_, sizeof(ip_));
    }
    copy_small_fields(other);
  }
  void move_from(Address& other) noexcept {
    if (other.family_ == Family::kUnix) {
      new (&path_) Path(std::move(other.path_));
    } else {
      std::memcpy(ip_, other.ip_, sizeof(ip_));
    }
    copy_small_fields(other);
  }
  void copy_small_fields(const Address& other) {
    scope_ = other.scope_;
    port_ = other.port_;
    family_ = other.family_;
  }
  void clear() {
    if (family_ == Family::kUnix) path_.~Path();
    family_ = Family::kNone;
  }

  union {
    uint8_t ip_[16];  // unless family_ is kUnix; unused bytes are zero
    Path path_;       // null: unnamed, or moved from
  };
  uint32_t scope_ = 0;
  uint16_t port_ = 0;  // host order
  Family family_ = Family::kNone;
};
static_assert(sizeof(Address) <= 32);

// A network: all addresses that share the first `prefix` bits.
struct Cidr {
  Address base;        // port 0, host bits zero
  uint8_t prefix = 0;  // 0..32 or 0..128

  // "10.0.0.0/8", "2001:db8::/32", or one address ("10.1.2.3" = "/32"). Host bits are cleared, not
  // refused.
  static Result<Cidr> parse(std::string_view text);
  // The port of `address` is ignored. Networks of one family never contain addresses of the other.
  bool contains(const Address& address) const;
  std::string to_string() const;
  bool operator==(const Cidr& other) const = default;
};

}  // namespace sluice::net

template <>
struct std::hash<sluice::net::Address> {
  size_t operator()(const sluice::net::Address& address) const { return address.hash(); }
};
