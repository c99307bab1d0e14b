#pragma once
// The outcome of one non-blocking read or write.

#include <cstddef>
#include <cstdint>

namespace sluice::net {

enum class IoStatus : uint8_t {
  kOk,     // `bytes` were moved (more than zero)
  kAgain,  // nothing can move now; the loop reports the next readiness edge
  kEof,    // the peer ended its direction in order (TLS: close_notify); read only
  kError,  // the connection is broken; errno or the TLS error says how
};

struct IoResult {
  IoStatus status;
  size_t bytes = 0;
};

}  // namespace sluice::net
