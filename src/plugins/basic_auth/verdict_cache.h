#pragma once
// VerdictCache: which credentials have been checked lately and how that ended, so that an expensive hash is computed
// once per user and not per request. A table of fixed size, shared by all workers without a lock.
//
// A credential is known by the HMAC of name and password under a key that is drawn when the process starts; neither is
// kept. An entry is 127 bits of that and the verdict. The two words of an entry are written one after the other: a
// reader that sees one of each finds no match, except by chance.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "plugins/keyed_digest.h"

namespace sluice::plugins::basic_auth {

class VerdictCache {
 public:
  using Digest = KeyedDigest;
  // Of "name:password".
  static Digest digest(std::string_view credential) { return Digest::of(credential); }

  std::optional<bool> find(const Digest& digest) const {
    const Slot& slot = slots_[digest.words[2] % kSlots];
    const uint64_t low = slot.low.load(std::memory_order_relaxed);
    if ((low | 1) != (digest.words[0] | 1) || slot.high.load(std::memory_order_relaxed) != digest.words[1]) {
      return std::nullopt;
    }
    return low & 1;
  }

  void put(const Digest& digest, bool good) {
    Slot& slot = slots_[digest.words[2] % kSlots];
    slot.high.store(digest.words[1], std::memory_order_relaxed);
    slot.low.store((digest.words[0] & ~uint64_t{1}) | (good ? 1 : 0), std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kSlots = 512;
  struct Slot {
    std::atomic<uint64_t> low{0}, high{0};
  };
  Slot slots_[kSlots];
};

}  // namespace sluice::plugins::basic_auth
