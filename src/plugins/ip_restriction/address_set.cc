#include "plugins/ip_restriction/address_set.h"

#include <algorithm>
#include <charconv>

#include "plugins/schema.h"

namespace sluice::plugins::ip_restriction {

AddressSet::Bytes AddressSet::mapped(const net::Address& address) {
  Bytes out{};
  const auto bytes = address.ip_bytes();
  if (bytes.size() == 4) out[10] = out[11] = 0xff;
  std::copy(bytes.begin(), bytes.end(), out.end() - static_cast<ptrdiff_t>(bytes.size()));
  return out;
}

bool AddressSet::parse(std::string_view text, Range* out) {
  const size_t slash = text.find('/');
  const auto address = net::Address::parse_ip(text.substr(0, slash));
  if (!address || address->scope()) return false;
  // "::ffff:1.2.3.0/120" has become IPv4 under way; its prefix still counts from 128 bits.
  const bool written_as_ipv6 = text.find(':') != text.npos;
  const uint32_t most = written_as_ipv6 ? 128 : 32;
  uint32_t bits = most;
  if (slash != text.npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    if (error != std::errc() || end != digits.data() + digits.size() || bits > most) return false;
  }
  if (!written_as_ipv6) bits += 96;
  out->first = out->last = mapped(*address);
  for (size_t i = 0; i < 16; ++i) {
    const uint32_t kept = bits > i * 8 ? std::min<uint32_t>(bits - static_cast<uint32_t>(i) * 8, 8) : 0;
    const auto host_part = static_cast<uint8_t>(0xff >> kept);
    out->first[i] &= static_cast<uint8_t>(~host_part);
    out->last[i] |= host_part;
  }
  return true;
}

std::string AddressSet::check(std::string_view text) {
  Range unused;
  return parse(text, &unused) ? std::string()
                              : in_quotes(text) + " is not an IP address or a network such as 10.0.0.0/8";
}

void AddressSet::add(std::string_view text) {
  Range range;
  if (parse(text, &range)) ranges_.push_back(range);
}

void AddressSet::seal() {
  std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
  size_t kept = 0;
  for (const Range& range : ranges_) {
    if (kept > 0 && range.first <= ranges_[kept - 1].last) {
      ranges_[kept - 1].last = std::max(ranges_[kept - 1].last, range.last);
    } else {
      ranges_[kept++] = range;
    }
  }
  ranges_.resize(kept);
}

bool AddressSet::contains(const net::Address& address) const {
  if (!address.is_ip()) return false;
  const Bytes bytes = mapped(address);
  auto after = std::upper_bound(ranges_.begin(), ranges_.end(), bytes,
                                [](const Bytes& value, const Range& range) { return value < range.first; });
  return after != ranges_.begin() && bytes <= std::prev(after)->last;
}

}  // namespace sluice::plugins::ip_restriction
