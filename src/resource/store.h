#pragma once
// The Store: the last good version of every object, by kind, namespace and name, and which file it
// came from.
//
// Invariants:
//   - A file provides a set of objects. A new version of the file replaces that set, except that an
//   object which is now
//     refused keeps the version this file provided before, and a file that can't be parsed keeps
//     all of them.
//   - Several files may provide the same key. The one first in lexicographic order of file names is
//   in force (within one
//     file: the first in the text); the others stand by and take over when it goes.
//   - Changes say what is in force, before and after; objects that did not change are not reported.
//
// Not thread-safe; belongs to the control thread.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "resource/diagnostic.h"
#include "resource/objects.h"
#include "resource/parse.h"

namespace sluice::resource {

struct Change {
  ObjectKey key;
  ObjectPtr before;  // null: new
  ObjectPtr after;   // null: gone
};
using Changes = std::vector<Change>;

class Store {
 public:
  // Takes the new content of one file. Appends to `changes`.
  void apply(ParsedFile file, Changes& changes);
  // The file is gone.
  void remove(const std::string& file, Changes& changes);
  // Every file whose name begins with the prefix is gone ("conf/sub/": a directory was removed).
  void remove_under(const std::string& prefix, Changes& changes);

  // The object in force, or null.
  ObjectPtr find(const ObjectKey& key) const;
  template <typename T>
  const T* get(const std::string& ns, const std::string& name) const {
    auto at = objects_.find(ObjectKey{T::kKind, ns, name});
    return at == objects_.end() || at->second.empty() ? nullptr
                                                      : static_cast<const T*>(at->second.front().object.get());
  }
  // All objects in force, in no particular order.
  template <typename Function>
  void for_each(Function function) const {
    for (const auto& [key, candidates] : objects_) {
      if (!candidates.empty()) function(candidates.front().object);
    }
  }
  size_t size() const { return objects_.size(); }
  size_t file_count() const { return files_.size(); }
  std::vector<std::string> files() const;

  // Everything that is wrong now, file by file in order: syntax and validation errors, duplicates;
  // and one note for each unknown kind.
  Diagnostics diagnostics() const;
  // The same for one file.
  Diagnostics diagnostics(const std::string& file) const;

 private:
  struct Candidate {
    const std::string* file;  // key of files_
    uint32_t order;           // within the file
    ObjectPtr object;
  };
  struct File {
    std::vector<ObjectKey> keys;  // provided, in order, without repetition
    Diagnostics diagnostics;      // of the last version read
    Diagnostics repeated;         // the same key twice in this file
    std::vector<std::pair<std::string, Mark>> unknown_kinds;
  };
  using Files = std::map<std::string, File>;

  void add_duplicates(const std::string& name, const File& file, Diagnostics& out) const;
  void remove_file(Files::iterator at, Changes& changes);

  Files files_;
  std::unordered_map<ObjectKey, std::vector<Candidate>, ObjectKeyHash> objects_;  // candidates sorted, first in force
};

}  // namespace sluice::resource
