#pragma once
// AddressSet: a set of IP addresses and networks, as sorted ranges without overlap. Asking it is a binary search over
// 16-byte numbers: IPv4 addresses are kept as IPv4-mapped IPv6, so that one list serves both.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"

namespace sluice::plugins::ip_restriction {

class AddressSet {
 public:
  // "" if the text is an IP address or a network ("10.0.0.0/8", "::1"); otherwise what is wrong with it.
  static std::string check(std::string_view text);

  // `text` has passed check(). Call seal() after the last one.
  void add(std::string_view text);
  void seal();

  bool contains(const net::Address& address) const;
  bool empty() const { return ranges_.empty(); }
  size_t range_count() const { return ranges_.size(); }

 private:
  using Bytes = std::array<uint8_t, 16>;
  struct Range {
    Bytes first, last;
  };
  static Bytes mapped(const net::Address& address);
  static bool parse(std::string_view text, Range* out);

  std::vector<Range> ranges_;
};

}  // namespace sluice::plugins::ip_restriction
