#pragma once
// ResponsePace: how much of a response's body may have left by now, when a filter has asked for it to be slowed down,
// and what waits for its turn.

#include <algorithm>
#include <cstdint>

#include "base/slice_queue.h"
#include "http/headers.h"

namespace sluice::proxy {

struct ResponsePace {
  uint64_t bytes_per_second = 0;
  uint64_t after = 0;     // bytes that are free
  uint64_t begin_ms = 0;  // when the first byte came; 0: none has
  uint64_t sent = 0;
  SliceQueue held;
  const http::HeaderMap* trailers = nullptr;  // wait behind `held`
  bool end = false;                           // so does the end

  // A tenth of a second's worth may go at once, so that timers stay rare.
  uint64_t quantum() const { return std::max<uint64_t>(bytes_per_second / 10, 1); }

  // Bytes that may go now.
  uint64_t allowance(uint64_t now_ms) const {
    const uint64_t elapsed_ms = now_ms - begin_ms;
    const uint64_t flowed = elapsed_ms / 1000 * bytes_per_second + elapsed_ms % 1000 * bytes_per_second / 1000;
    const uint64_t allowed = after + quantum() + flowed;
    return allowed > sent ? allowed - sent : 0;
  }

  // How long until a quantum, or all that is held, may go.
  uint64_t wait_ms(uint64_t now_ms) const {
    const uint64_t wanted = std::min<uint64_t>(quantum(), held.bytes());
    const uint64_t have = allowance(now_ms);
    if (have >= wanted) return 1;
    return std::max<uint64_t>((wanted - have) * 1000 / bytes_per_second, 1);
  }
};

}  // namespace sluice::proxy
