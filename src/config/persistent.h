#pragma once
// Persistent tables: immutable containers that a new version shares with the old one, so that a snapshot with one
// change among ten thousand costs a few small copies. Both are two levels: an array of shards, each an immutable block
// behind a shared_ptr. A writer copies the array of pointers and the shards it touches.
//
// Threading: a published table is read by any number of threads without synchronisation. `Editor` methods belong to the
// one thread that builds the next version.

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
    const auto& shard = shards_[hash % kShards];
    if (!shard) return nullptr;
    for (const Entry& entry : *shard) {
      if (entry.hash == hash && entry.key == key) return entry.value.get();
    }
    return nullptr;
  }

  size_t size() const { return size_; }

  // Writer only: sets (or with null erases) one key in this copy of the table.
  void set(std::string_view key, Pointer value) {
    const size_t h = hash(key);
    auto& slot = shards_[h % kShards];
    auto shard = slot ? std::make_shared<Shard>(*slot) : std::make_shared<Shard>();
    for (size_t i = 0; i < shard->size(); ++i) {
      if ((*shard)[i].hash != h || (*shard)[i].key != key) continue;
      if (value) {
        (*shard)[i].value = std::move(value);
      } else {
        shard->erase(shard->begin() + static_cast<ptrdiff_t>(i));
        --size_;
      }
      slot = shard->empty() ? nullptr : std::move(shard);
      return;
    }
    if (!value) return;
    shard->push_back(Entry{h, std::string(key), std::move(value)});
    ++size_;
    slot = std::move(shard);
  }

  template <typename Function>
  void for_each(Function function) const {
    for (const auto& shard : shards_) {
      if (!shard) continue;
      for (const Entry& entry : *shard) function(entry.key, *entry.value);
    }
  }

 private:
  struct Entry {
    size_t hash;
    std::string key;
    Pointer value;
  };
  using Shard = std::vector<Entry>;

  std::vector<std::shared_ptr<const Shard>> shards_;
  size_t size_ = 0;
};

}  // namespace sluice::config
