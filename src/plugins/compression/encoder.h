#pragma once
// Encoders: one compressed stream each. They take bytes and write to an Output; what they keep
// between calls is their window and state, bounded by the configuration and told by memory().

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/slice_queue.h"
#include "plugins/compression/config.h"
#include "plugins/compression/negotiate.h"

namespace sluice::plugins::compression {

// Where encoded bytes go: blocks of the pool, filled one after the other. A block that is not full
// is kept for what comes next, so that many small flushes share one.
class Output {
 public:
  explicit Output(size_t block_size) : block_size_(block_size) {}

  // Free bytes to write to; never none.
  char* data();
  size_t room() const { return block_->capacity - used_; }
  // `n` bytes have been written there.
  void commit(size_t n) { used_ += n; }

  // What has been written since the last call, appended to `queue`.
  void take(SliceQueue& queue);

 private:
  void push();

  const size_t block_size_;
  BlockRef block_;
  size_t used_ = 0;   // bytes written to block_
  size_t taken_ = 0;  // … and handed out
  SliceQueue full_;
};

enum class Flush : uint8_t {
  kNone,  // the encoder may keep as much as it likes
  kAll,   // everything given so far can be decoded from what comes out
  kEnd,   // the stream ends
};

class Encoder {
 public:
  virtual ~Encoder() = default;
  // False: the encoder is broken (no memory), and so is the stream.
  virtual bool encode(std::string_view bytes, Flush flush, Output& out) = 0;
  // Bytes allocated at present.
  virtual size_t memory() const = 0;
};

// Null if there is no memory.
std::unique_ptr<Encoder> make_encoder(Coding coding, const Config& config);

}  // namespace sluice::plugins::compression
