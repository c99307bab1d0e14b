// PROXY headers, addresses and networks: whatever is parsed is within the bytes, needs no more than it says, and is
// read the same from its own text.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "net/proxy_protocol.h"

using namespace sluice::net;
using Status = ProxyProtocolResult::Status;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

bool inside(std::string_view part, std::string_view whole) {
  return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void proxy(std::string_view bytes) {
  const ProxyProtocolResult result = parse_proxy_protocol(bytes);
  // A prefix never says something else than "need more" before the whole does.
  for (size_t n = 0; n < bytes.size() && n < 300; ++n) {
    const std::vector<char> prefix(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
    const ProxyProtocolResult early = parse_proxy_protocol({prefix.data(), n});
    if (early.status == Status::kDone) {
      check(result.status == Status::kDone && result.consumed == early.consumed);
      check(early.consumed <= n && early.header.source == result.header.source);
    } else if (early.status == Status::kNotProxy) {
      check(result.status == Status::kNotProxy);
    } else if (early.status == Status::kInvalid) {
      check(result.status == Status::kInvalid);
    }
  }
  if (result.status == Status::kNeedMore) check(bytes.size() < kProxyProtocolV2Max);
  if (result.status == Status::kInvalid) check(result.error && *result.error);
  if (result.status != Status::kDone) return;
  check(result.consumed > 0 && result.consumed <= bytes.size());
  const ProxyProtocolTlvs& tlvs = result.header.tlvs;
  for (std::string_view part :
       {tlvs.alpn, tlvs.authority, tlvs.unique_id, tlvs.netns, tlvs.ssl_version, tlvs.ssl_client_cn}) {
    check(inside(part, bytes));
  }
  check(tlvs.unique_id.size() <= 128);
  if (result.header.local || result.header.source.is_none()) return;
  if (!result.header.source.is_ip() || result.header.datagram) return;
  for (const std::string& again : {write_proxy_protocol_v1(result.header.source, result.header.destination),
                                   write_proxy_protocol_v2(result.header.source, result.header.destination)}) {
    const ProxyProtocolResult second = parse_proxy_protocol(again);
    check(second.status == Status::kDone && second.consumed == again.size());
    check(second.header.source.family() != result.header.source.family() ||
          second.header.source == result.header.source);
  }
}

void address(std::string_view text) {
  if (const auto parsed = Address::parse(text); parsed.ok()) {
    const auto again = Address::parse(parsed->to_string());
    check(again.ok() && *again == *parsed && again->hash() == parsed->hash());
    if (parsed->is_ip()) {
      char buffer[Address::kMaxIpText];
      check(std::string(buffer, parsed->format(buffer)) == parsed->to_string());
      sockaddr_storage storage;
      const socklen_t length = parsed->to_sockaddr(&storage);
      check(length > 0 && Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length) == *parsed);
    }
  }
  Address::parse(text, 80).ok();
  if (const auto ip = Address::parse_ip(text, 1)) check(Address::parse_ip(ip->ip(), 1) == ip);
  if (const auto network = Cidr::parse(text); network.ok()) {
    check(network->contains(network->base));
    const auto again = Cidr::parse(network->to_string());
    check(again.ok() && *again == *network);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  proxy(input);
  address(input);
  return 0;
}
