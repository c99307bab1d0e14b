#pragma once
// TlsTicketKeys: the keys that session tickets are sealed with. One object for the process, shared
// by every context and worker, so that a client resumes wherever it lands. The control thread
// rotates; the newest key seals, it and the previous ones open, so a ticket lives through as many
// rotations as there are previous keys.
//
// A ticket is: key name (16 bytes), nonce (12), AES-256-GCM of the session with the name as
// additional data, tag (16).
//
// Threading: rotate() and set() may be called on any thread. seal() and open() take no lock unless
// the keys have changed since this thread's last call.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace sluice::net {

class TlsTicketKeys {
 public:
  // Starts with one random key. At most `previous` older ones are kept.
  explicit TlsTicketKeys(size_t previous = 2);
  ~TlsTicketKeys();
  TlsTicketKeys(const TlsTicketKeys&) = delete;
  TlsTicketKeys& operator=(const TlsTicketKeys&) = delete;

  // Puts a new random key in front and drops the oldest.
  void rotate();

  // Uses keys from outside, newest first, for several processes that share them. Each secret has at
  // least 32 bytes of randomness; name and key are derived from it. Replaces all keys.
  Status set(std::span<const std::span<const uint8_t>> secrets);

  static constexpr size_t kOverhead = 16 + 12 + 16;
  // Seals `plain` into `out`, which has room for plain.size() + kOverhead bytes. Returns the size,
  // or 0 on failure.
  size_t seal(std::span<const uint8_t> plain, std::span<uint8_t> out);
  // Opens a ticket into `out` (room for at least ticket.size() bytes). Nothing if no key of ours
  // made it, or it was tampered with.
  std::optional<size_t> open(std::span<const uint8_t> ticket, std::span<uint8_t> out);

 private:
  struct Key;
  using KeySet = std::vector<std::shared_ptr<const Key>>;

  const KeySet& current();
  void publish(KeySet keys);

  const size_t previous_;
  const uint64_t id_;  // distinguishes objects in the per-thread copy
  std::atomic<uint64_t> version_{1};
  std::mutex mutex_;
  std::shared_ptr<const KeySet> keys_;  // guarded by mutex_
};

}  // namespace sluice::net
