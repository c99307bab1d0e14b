#include "base/block.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace sluice {
namespace {

constexpr size_t kCapacities[] = {kSmallBlock, kBlock, kLargeBlock, kHugeBlock};
constexpr int kClasses = 4;
constexpr uint8_t kUnpooled = 0xff;
// Parked blocks a thread keeps per class; the rest goes back to the allocator at once.
constexpr uint32_t kMaxParked[] = {128, 64, 16, 8};

struct FreeNode {
  FreeNode* next;
};

struct Pool {
  FreeNode* free[kClasses] = {};
  uint32_t parked[kClasses] = {};
  size_t in_use_bytes = 0;

  ~Pool() { trim(); }

  void trim() {
    for (int c = 0; c < kClasses; ++c) {
      while (FreeNode* node = free[c]) {
        free[c] = node->next;
        std::free(node);
      }
      parked[c] = 0;
    }
  }
};

thread_local Pool pool;

void* allocate(size_t bytes) {
  void* memory = std::malloc(bytes);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace

Block* acquire_block(size_t capacity) {
  int size_class = 0;
  while (size_class < kClasses && kCapacities[size_class] < capacity) ++size_class;

  Block* block;
  if (size_class == kClasses) {
    block = static_cast<Block*>(allocate(capacity + Block::kHeaderSize));
    block->capacity = static_cast<uint32_t>(capacity);
    block->size_class = kUnpooled;
  } else {
    if (FreeNode* node = pool.free[size_class]) {
      pool.free[size_class] = node->next;
      --pool.parked[size_class];
      block = reinterpret_cast<Block*>(node);
    } else {
      block = static_cast<Block*>(allocate(kCapacities[size_class] + Block::kHeaderSize));
    }
    block->capacity = static_cast<uint32_t>(kCapacities[size_class]);
    block->size_class = static_cast<uint8_t>(size_class);
  }
  block->refs = 1;
  pool.in_use_bytes += block->capacity + Block::kHeaderSize;
  return block;
}

void release_block(Block* block) {
  pool.in_use_bytes -= block->capacity + Block::kHeaderSize;
  const uint8_t size_class = block->size_class;
  if (size_class == kUnpooled || pool.parked[size_class] >= kMaxParked[size_class]) {
    std::free(block);
    return;
  }
  auto* node = reinterpret_cast<FreeNode*>(block);
  node->next = pool.free[size_class];
  pool.free[size_class] = node;
  ++pool.parked[size_class];
}

BlockPoolStats block_pool_stats() {
  BlockPoolStats stats;
  stats.in_use_bytes = pool.in_use_bytes;
  for (int c = 0; c < kClasses; ++c) {
    stats.free_bytes += pool.parked[c] * (kCapacities[c] + Block::kHeaderSize);
  }
  return stats;
}

void trim_block_pool() { pool.trim(); }

Slice Slice::copy(std::string_view bytes) {
  if (bytes.empty()) return {};
  BlockRef block(acquire_block(bytes.size()));
  std::memcpy(block->data(), bytes.data(), bytes.size());
  const char* data = block->data();
  return Slice(std::move(block), data, bytes.size());
}

}  // namespace sluice
