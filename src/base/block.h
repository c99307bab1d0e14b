#pragma once
// Blocks and slices: the memory that bytes in flight live in.
//
// A Block is a fixed-size byte buffer with a reference count. It comes from the calling thread's pool and goes back to
// it when the last reference is dropped. Blocks are borrowed while bytes are in flight and never kept by an idle
// connection, so a worker's memory follows its traffic and not its connection count.
//
// Threading: the count is a plain integer. A block belongs to the thread that acquired it and never leaves it.
//
// A Slice is a counted reference to a range of a block (or to static bytes, with no block). Copying a slice shares the
// bytes; nothing is copied on the way from one socket to the other.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace sluice {

struct Block {
  uint32_t refs;
  uint32_t capacity;  // bytes in data()
  uint8_t size_class;

  char* data() { return reinterpret_cast<char*>(this) + kHeaderSize; }
  static constexpr size_t kHeaderSize = 16;
};
static_assert(sizeof(Block) <= Block::kHeaderSize);

// Usable capacities of the size classes, in bytes. Allocations are these plus the header, so that a block never
// straddles one page more than it must.
inline constexpr size_t kSmallBlock = 4096 - Block::kHeaderSize;
inline constexpr size_t kBlock = 16384 - Block::kHeaderSize;  // the default: one head, one TLS record
inline constexpr size_t kLargeBlock = 65536 - Block::kHeaderSize;
inline constexpr size_t kHugeBlock = 262144 - Block::kHeaderSize;  // streaming of large bodies

// Takes a block of the smallest class that holds `capacity` bytes (more than kHugeBlock: exactly that many). The count
// is 1.
Block* acquire_block(size_t capacity = kBlock);
void release_block(Block* block);

// Bytes in blocks taken from this thread's pool and not returned, and bytes parked in its free lists.
struct BlockPoolStats {
  size_t in_use_bytes = 0;
  size_t free_bytes = 0;
};
BlockPoolStats block_pool_stats();

// Returns parked blocks to the allocator; a worker calls it when it has been idle.
void trim_block_pool();

// Owns one reference to a block.
class BlockRef {
 public:
  BlockRef() = default;
  // Takes over the caller's reference.
  explicit BlockRef(Block* adopted) : block_(adopted) {}
  BlockRef(const BlockRef& other) : block_(other.block_) {
    if (block_) ++block_->refs;
  }
  BlockRef(BlockRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BlockRef& operator=(BlockRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BlockRef() { reset(); }

  void reset() {
    if (block_ && --block_->refs == 0) release_block(block_);
    block_ = nullptr;
  }
  Block* get() const { return block_; }
  Block* operator->() const { return block_; }
  explicit operator bool() const { return block_ != nullptr; }
  // True if nobody else refers to the block, so that its bytes may be overwritten.
  bool unique() const { return block_ && block_->refs == 1; }

 private:
  Block* block_ = nullptr;
};

class Slice {
 public:
  Slice() = default;
  Slice(BlockRef block, const char* data, size_t size) : block_(std::move(block)), data_(data), size_(size) {}
  // Bytes that live as long as the process, or longer than the slice by the caller's promise.
  static Slice unowned(std::string_view bytes) { return Slice(BlockRef(), bytes.data(), bytes.size()); }
  // A fresh copy of `bytes`.
  static Slice copy(std::string_view bytes);

  const char* data() const { return data_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {data_, size_}; }
  const BlockRef& block() const { return block_; }

  void remove_prefix(size_t n) {
    data_ += n;
    size_ -= n;
  }
  void truncate(size_t n) { size_ = n; }
  // Where `n` more bytes can be written behind the slice; null if the block has no room, or somebody else refers to it.
  char* room(size_t n) const {
    if (!block_.unique()) return nullptr;
    char* end = const_cast<char*>(data_) + size_;
    return n <= static_cast<size_t>(block_.get()->data() + block_.get()->capacity - end) ? end : nullptr;
  }
  // Takes in `n` bytes that were written behind the slice in its block.
  void extend(size_t n) { size_ += n; }
  Slice sub(size_t offset, size_t n) const { return Slice(block_, data_ + offset, n); }

 private:
  BlockRef block_;
  const char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace sluice
