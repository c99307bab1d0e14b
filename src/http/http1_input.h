#pragma once
// The receive buffer of one side of an HTTP/1 connection: one borrowed block, given back when everything is consumed.

#include <algorithm>
#include <cstring>

#include "base/slice_queue.h"
#include "net/stream.h"

namespace sluice::http {

class Http1Input {
 public:
  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  char* data() { return block_->data() + begin_; }
  const BlockRef& block() const { return block_; }
  void consume(size_t n) { begin_ += static_cast<uint32_t>(n); }
  void clear() { begin_ = end_; }
  // Takes `n` bytes off the front as a slice.
  Slice take(size_t n) {
    Slice slice(block_, data(), n);
    consume(n);
    return slice;
  }

  void assign(std::string_view bytes) {
    block_ = BlockRef(acquire_block(std::max(bytes.size(), kBlock)));
    std::memcpy(block_->data(), bytes.data(), bytes.size());
    begin_ = 0;
    end_ = static_cast<uint32_t>(bytes.size());
  }

  // Reads once. What is there stays in one piece with what comes; a full block is replaced by a larger one of about
  // `limit` bytes at the most. `streaming`: a body flows; full reads make the next ones larger.
  net::IoResult fill(net::Stream& stream, bool streaming, size_t limit) {
    make_room(limit);
    const size_t room = block_->capacity - end_;
    const net::IoResult result = stream.read(block_->data() + end_, room);
    if (result.status == net::IoStatus::kOk) {
      end_ += static_cast<uint32_t>(result.bytes);
      if (streaming && result.bytes == room && read_size_ < kHugeBlock) {
        read_size_ = static_cast<uint32_t>(read_size_ < kLargeBlock ? kLargeBlock : kHugeBlock);
      }
    }
    return result;
  }

  // The read loop of a connection, in turns: `take` consumes what it can of what is there and says whether it got
  // anywhere, `fill` reads once and says how many bytes came. Goes on until `waits` says that nothing is wanted now, or
  // nothing comes. False: enough for this turn; there may be more.
  template <typename Waits, typename Take, typename Fill>
  bool run(const net::Stream& stream, Waits waits, Take take, Fill fill) {
    size_t budget = kReadBudget;
    while (!waits()) {
      if (!empty() && take()) continue;
      if (!stream.readable()) return true;
      if (budget == 0) return false;
      const size_t got = fill();
      if (got == 0) return true;
      budget -= std::min(budget, got);
    }
    return true;
  }

  void release_if_empty() {
    if (!empty()) return;
    block_.reset();
    begin_ = end_ = 0;
  }
  // A few bytes that will wait for long move to a small block.
  void shrink() {
    if (!block_ || block_->capacity <= kSmallBlock || size() > kSmallBlock / 2) return;
    BlockRef small(acquire_block(kSmallBlock));
    std::memcpy(small->data(), data(), size());
    end_ -= begin_;
    begin_ = 0;
    block_ = std::move(small);
  }
  // The next message starts with reads of the default size again.
  void reset_read_size() { read_size_ = kBlock; }

 private:
  static constexpr size_t kReadBudget = 512 * 1024;

  void make_room(size_t limit) {
    if (!block_) {
      block_ = BlockRef(acquire_block(read_size_));
      begin_ = end_ = 0;
      return;
    }
    if (empty() && block_.unique()) {
      begin_ = end_ = 0;
      return;
    }
    if (!empty() && end_ < block_->capacity) return;
    const size_t keep = size();
    const size_t capacity = std::max<size_t>(std::min(std::max<size_t>(keep * 2, read_size_), limit), keep + 1);
    BlockRef next(acquire_block(capacity));
    if (keep) std::memcpy(next->data(), data(), keep);
    block_ = std::move(next);
    begin_ = 0;
    end_ = static_cast<uint32_t>(keep);
  }

  BlockRef block_;
  uint32_t begin_ = 0;
  uint32_t end_ = 0;
  uint32_t read_size_ = kBlock;
};

}  // namespace sluice::http
