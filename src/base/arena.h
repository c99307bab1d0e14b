#pragma once
// Arena: bump allocation for everything that lives as long as one exchange. Chunks come from the thread's block pool;
// nothing is freed before the arena is. Destructors are not run: put only trivially destructible things, or things
// whose destructor you call yourself, into it.

#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/block.h"

namespace sluice {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { reset(); }

  void* allocate(size_t bytes, size_t alignment = alignof(std::max_align_t)) {
    if (!cursor_) return allocate_slow(bytes, alignment);
    char* p = align(cursor_, alignment);
    if (p + bytes > end_) return allocate_slow(bytes, alignment);
    cursor_ = p + bytes;
    return p;
  }

  template <typename T, typename... Args>
  T* create(Args&&... args) {
    return new (allocate(sizeof(T), alignof(T))) T(std::forward<Args>(args)...);
  }

  template <typename T>
  T* allocate_array(size_t n) {
    static_assert(std::is_trivially_destructible_v<T>);
    return static_cast<T*>(allocate(sizeof(T) * n, alignof(T)));
  }

  std::string_view copy(std::string_view text) {
    if (text.empty()) return {};
    char* p = static_cast<char*>(allocate(text.size(), 1));
    std::memcpy(p, text.data(), text.size());
    return {p, text.size()};
  }

  std::string_view concat(std::string_view a, std::string_view b, std::string_view c = {}) {
    char* p = static_cast<char*>(allocate(a.size() + b.size() + c.size() + 1, 1));
    if (!a.empty()) std::memcpy(p, a.data(), a.size());
    if (!b.empty()) std::memcpy(p + a.size(), b.data(), b.size());
    if (!c.empty()) std::memcpy(p + a.size() + b.size(), c.data(), c.size());
    return {p, a.size() + b.size() + c.size()};
  }

  std::string_view join(const std::string_view* parts, size_t count) {
    size_t size = 0;
    for (size_t i = 0; i < count; ++i) size += parts[i].size();
    char* out = static_cast<char*>(allocate(size + 1, 1));
    char* p = out;
    for (size_t i = 0; i < count; ++i) {
      if (!parts[i].empty()) std::memcpy(p, parts[i].data(), parts[i].size());
      p += parts[i].size();
    }
    return {out, size};
  }

  // Keeps `block` alive as long as what is allocated here: for bytes of a receive buffer that things here refer to.
  void pin(const BlockRef& block) {
    if (!block) return;
    auto* pin = static_cast<Pin*>(allocate(sizeof(Pin), alignof(Pin)));
    ++block.get()->refs;
    pin->block = block.get();
    pin->next = pins_;
    pins_ = pin;
  }

  // Gives all chunks and pinned blocks back. Everything allocated so far is gone.
  void reset() {
    for (Pin* pin = std::exchange(pins_, nullptr); pin; pin = pin->next) BlockRef(pin->block).reset();
    while (chunks_) {
      Chunk* next = chunks_->next;
      release_block(chunks_->block);
      chunks_ = next;
    }
    cursor_ = end_ = nullptr;
    used_blocks_bytes_ = 0;
  }

  // Bytes of all chunks held.
  size_t capacity() const { return used_blocks_bytes_; }

 private:
  struct Chunk {
    Chunk* next;
    Block* block;
  };

  struct Pin {
    Pin* next;
    Block* block;
  };

  static char* align(char* p, size_t alignment) {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(p) + alignment - 1) & ~(alignment - 1));
  }

  void* allocate_slow(size_t bytes, size_t alignment) {
    Block* block = acquire_block(bytes + alignment + sizeof(Chunk) <= kSmallBlock ? kSmallBlock
                                                                                  : bytes + alignment + sizeof(Chunk));
    used_blocks_bytes_ += block->capacity;
    auto* chunk = reinterpret_cast<Chunk*>(align(block->data(), alignof(Chunk)));
    chunk->next = chunks_;
    chunk->block = block;
    chunks_ = chunk;
    char* begin = reinterpret_cast<char*>(chunk + 1);
    char* end = block->data() + block->capacity;
    char* p = align(begin, alignment);
    // A large allocation must not throw away the rest of the current chunk.
    if (cursor_ && block->capacity > kSmallBlock && end - (p + bytes) < end_ - cursor_) return p;
    cursor_ = p + bytes;
    end_ = end;
    return p;
  }

  Chunk* chunks_ = nullptr;
  Pin* pins_ = nullptr;
  char* cursor_ = nullptr;
  char* end_ = nullptr;
  size_t used_blocks_bytes_ = 0;
};

}  // namespace sluice
