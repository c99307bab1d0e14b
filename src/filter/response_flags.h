#pragma once
// Response flags: why a response is not simply the upstream's, as short codes in the access log (Envoy's names).

#include <cstdint>
#include <string_view>

namespace sluice::filter {

enum class ResponseFlag : uint32_t {
  kNone = 0,
  kNoRoute = 1u << 0,                 // NR
  kNoHealthyUpstream = 1u << 1,       // UH
  kUpstreamConnectFailure = 1u << 2,  // UF
  kUpstreamOverflow = 1u << 3,        // UO
  kUpstreamTimeout = 1u << 4,         // UT: the route's or the try's time is over
  kUpstreamClosed = 1u << 5,          // UC: connection ended before or inside the response
  kUpstreamReset = 1u << 6,           // UR: stream reset by the upstream
  kUpstreamProtocol = 1u << 7,        // UPE
  kRetryLimit = 1u << 8,              // URX
  kDownstreamDisconnect = 1u << 9,    // DC
  kDownstreamProtocol = 1u << 10,     // DPE
  kStreamIdle = 1u << 11,             // SI
  kNoCluster = 1u << 12,              // NC
  kRateLimited = 1u << 13,            // RL
  kFaultInjected = 1u << 14,          // FI
  kDelayInjected = 1u << 15,          // DI
  kOverload = 1u << 16,               // OM
};

struct FlagName {
  ResponseFlag flag;
  std::string_view name;
};
inline constexpr FlagName kFlagNames[] = {
    {ResponseFlag::kNoRoute, "NR"},
    {ResponseFlag::kNoHealthyUpstream, "UH"},
    {ResponseFlag::kUpstreamConnectFailure, "UF"},
    {ResponseFlag::kUpstreamOverflow, "UO"},
    {ResponseFlag::kUpstreamTimeout, "UT"},
    {ResponseFlag::kUpstreamClosed, "UC"},
    {ResponseFlag::kUpstreamReset, "UR"},
    {ResponseFlag::kUpstreamProtocol, "UPE"},
    {ResponseFlag::kRetryLimit, "URX"},
    {ResponseFlag::kDownstreamDisconnect, "DC"},
    {ResponseFlag::kDownstreamProtocol, "DPE"},
    {ResponseFlag::kStreamIdle, "SI"},
    {ResponseFlag::kNoCluster, "NC"},
    {ResponseFlag::kRateLimited, "RL"},
    {ResponseFlag::kFaultInjected, "FI"},
    {ResponseFlag::kDelayInjected, "DI"},
    {ResponseFlag::kOverload, "OM"},
};

class ResponseFlags {
 public:
  void add(ResponseFlag flag) { bits_ |= static_cast<uint32_t>(flag); }
  bool has(ResponseFlag flag) const { return bits_ & static_cast<uint32_t>(flag); }
  bool empty() const { return bits_ == 0; }

 private:
  uint32_t bits_ = 0;
};

}  // namespace sluice::filter
