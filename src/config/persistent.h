#pragma once
// Persistent tables: immutable containers that a new version shares with the old one, so that a snapshot with one
// change among ten thousand costs a few small copies. Both are two levels: an array of shards, each an immutable block
// behind a shared_ptr. A writer copies the array of pointers and the shards it touches.
//
// Threading: a published table is read by any number of threads without synchronisation. `Editor` methods belong to the
// one thread that builds the next version.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::config {

// A vector addressed by slot. Absent slots read as null.
template <typename T>
class PersistentVector {
 public:
  static constexpr size_t kShard = 128;
  using Pointer = std::shared_ptr<const T>;

  const T* get(uint32_t slot) const {
    const Pointer* found = find(slot);
    return found ? found->get() : nullptr;
  }
  Pointer get_shared(uint32_t slot) const {
    const Pointer* found = find(slot);
    return found ? *found : nullptr;
  }
  // One past the highest slot that may be set.
  uint32_t end_slot() const { return static_cast<uint32_t>(shards_.size() * kShard); }

  // Writer only: sets (or with null clears) one slot in this copy of the table.
  void set(uint32_t slot, Pointer value) {
    const size_t index = slot / kShard;
    if (index >= shards_.size()) shards_.resize(index + 1);
    auto shard = shards_[index] ? std::make_shared<Shard>(*shards_[index]) : std::make_shared<Shard>();
    shard->items[slot % kShard] = std::move(value);
    shards_[index] = std::move(shard);
  }

  // Writer only: the same for many slots in ascending order, copying each shard once.
  void set_all(const std::vector<std::pair<uint32_t, Pointer>>& values) {
    for (size_t i = 0; i < values.size();) {
      const size_t index = values[i].first / kShard;
      if (index >= shards_.size()) shards_.resize(index + 1);
      auto shard = shards_[index] ? std::make_shared<Shard>(*shards_[index]) : std::make_shared<Shard>();
      for (; i < values.size() && values[i].first / kShard == index; ++i) {
        shard->items[values[i].first % kShard] = values[i].second;
      }
      shards_[index] = std::move(shard);
    }
  }

  template <typename Function>
  void for_each(Function function) const {
    for (const auto& shard : shards_) {
      if (!shard) continue;
      for (const Pointer& item : shard->items) {
        if (item) function(*item);
      }
    }
  }

 private:
  struct Shard {
    Pointer items[kShard];
  };

  const Pointer* find(uint32_t slot) const {
    const size_t index = slot / kShard;
    if (index >= shards_.size() || !shards_[index]) return nullptr;
    return &shards_[index]->items[slot % kShard];
  }

  std::vector<std::shared_ptr<const Shard>> shards_;
};

// A map from string to shared immutable values, for host names. Lookup takes one hash of the key and a probe of a shard
// of a dozen entries.
template <typename T>
class PersistentMap {
 public:
  static constexpr size_t kShards = 1024;
  using Pointer = std::shared_ptr<const T>;

  PersistentMap() : shards_(kShards) {}

  static size_t hash(std::string_view key) { return std::hash<std::string_view>()(key); }

  const T* find(std::string_view key) const { return find(key, hash(key)); }
  const T* find(std::string_view key, size_t hash) const {
    const Shard& shard = shards_[hash % kShards];
    for (uint32_t i = 0; i < shard.size; ++i) {
      const Entry& entry = shard.entries[i];
      if (entry.hash != hash) continue;
      __builtin_prefetch(entry.value.get());  // in a large table neither it nor the key is in the cache
      if (entry.key == key) return entry.value.get();
    }
    return nullptr;
  }

  void prefetch(std::string_view key) const { __builtin_prefetch(shards_[hash(key) % kShards].entries.get()); }

  size_t size() const { return size_; }

  // Writer only: sets (or with null erases) one key in this copy of the table.
  void set(std::string_view key, Pointer value) {
    const size_t h = hash(key);
    Shard& shard = shards_[h % kShards];
    const Entry* first = shard.entries.get();
    const Entry* last = first + shard.size;
    const Entry* old = std::find_if(first, last, [&](const Entry& e) { return e.hash == h && e.key == key; });
    if (old == last && !value) return;
    const uint32_t others = shard.size - (old != last);
    const uint32_t size = others + (value != nullptr);
    size_ = size_ - shard.size + size;
    auto entries = size ? std::make_shared<Entry[]>(size) : nullptr;
    Entry* out = entries.get();
    for (const Entry* entry = first; entry != last; ++entry) {
      if (entry != old) *out++ = *entry;
    }
    if (value) *out = Entry{h, std::string(key), std::move(value)};
    shard = {std::move(entries), size};
  }

  template <typename Function>
  void for_each(Function function) const {
    for (const Shard& shard : shards_) {
      for (uint32_t i = 0; i < shard.size; ++i) function(shard.entries[i].key, *shard.entries[i].value);
    }
  }

 private:
  struct Entry {
    size_t hash = 0;
    std::string key;
    Pointer value;
  };
  struct Shard {
    std::shared_ptr<const Entry[]> entries;
    uint32_t size = 0;
  };

  std::vector<Shard> shards_;
  size_t size_ = 0;
};

}  // namespace sluice::config
