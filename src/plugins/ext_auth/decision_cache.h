#pragma once
// DecisionCache: what the service said lately. Bounded, the least recently used goes first; shared by all workers. A
// worker that finds its part of the table in use by another does without: it neither waits nor blocks.

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "plugins/keyed_digest.h"

namespace sluice::plugins::ext_auth {

struct Decision {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> fields;  // of the answer: what is wanted of it

  size_t bytes() const {
    size_t total = 0;
    for (const auto& [name, value] : fields) total += name.size() + value.size();
    return total;
  }
};

class DecisionCache {
 public:
  static constexpr size_t kParts = 8;
  static constexpr size_t kEntriesOfAPart = 128;
  static constexpr size_t kMaxBytes = 8192;  // a decision with more is not kept

  std::shared_ptr<const Decision> find(const KeyedDigest& key, uint64_t now_ms) {
    Part& part = part_of(key);
    std::unique_lock lock(part.mutex, std::try_to_lock);
    if (!lock) return nullptr;
    const auto at = part.index.find(key);
    if (at == part.index.end()) return nullptr;
    if (at->second->expires_ms <= now_ms) {
      part.entries.erase(at->second);
      part.index.erase(at);
      return nullptr;
    }
    part.entries.splice(part.entries.begin(), part.entries, at->second);
    return at->second->decision;
  }

  void put(const KeyedDigest& key, std::shared_ptr<const Decision> decision, uint64_t expires_ms) {
    if (decision->bytes() > kMaxBytes) return;
    Part& part = part_of(key);
    std::unique_lock lock(part.mutex, std::try_to_lock);
    if (!lock) return;
    if (const auto at = part.index.find(key); at != part.index.end()) {
      part.entries.erase(at->second);
      part.index.erase(at);
    } else if (part.entries.size() >= kEntriesOfAPart) {
      part.index.erase(part.entries.back().key);
      part.entries.pop_back();
    }
    part.entries.push_front({key, std::move(decision), expires_ms});
    part.index.emplace(key, part.entries.begin());
  }

 private:
  struct Entry {
    KeyedDigest key;
    std::shared_ptr<const Decision> decision;
    uint64_t expires_ms;
  };
  struct Part {
    std::mutex mutex;
    std::list<Entry> entries;  // the most recently used first
    std::unordered_map<KeyedDigest, std::list<Entry>::iterator, KeyedDigest::Hash> index;
  };
  Part& part_of(const KeyedDigest& key) { return parts_[key.words[1] % kParts]; }

  Part parts_[kParts];
};

}  // namespace sluice::plugins::ext_auth
