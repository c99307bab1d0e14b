#pragma once
// The objects of the configuration directory as the API tells of them: whole, with a resource version each, and the
// latest changes.
//
// Fed with files as they are read; which file wins where two have the same object is as in resource::Store (the first
// by name). resourceVersion is one counter for all kinds: it starts at the wall clock's microseconds, or above the
// largest one found in a file, and grows by one with each change; so it never goes back, whatever happened while
// the process was away. Objects without a uid get one that is a hash of their name.
//
// Each object is kept as one JSON text without its resourceVersion, which is put in when it is told.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/kube/kinds.h"
#include "api/kube/manifest_text.h"
#include "api/kube/selector.h"

namespace sluice::api::kube {

struct ObjectKey {
  const KindInfo* kind = nullptr;
  std::string ns;  // empty for kinds without namespaces
  std::string name;
  bool operator==(const ObjectKey&) const = default;
  auto operator<=>(const ObjectKey&) const = default;
};

using Text = std::shared_ptr<const std::string>;
using SharedLabels = std::shared_ptr<const Labels>;

// One version of an object.
struct StoredObject {
  uint64_t version = 0;
  Text text;
  SharedLabels labels;
  std::string file;  // empty: a Namespace that is there because objects are in it
};

struct ObjectEvent {
  enum class Type : uint8_t { kAdded, kModified, kDeleted } type;
  ObjectKey key;
  uint64_t version;
  Text text;            // of a deleted object: its last state
  SharedLabels labels;  // of that text
  SharedLabels before;  // of a modified object: those it had
};

// Makes a file's object one that the API tells of: the served version, a namespace, strings where strings belong,
// a Secret's stringData in its data. False: it is no object the API serves.
bool normalize(Json& object, ObjectKey& key);
// The text kept for an object that has been normalised.
std::string text_of_object(const KindInfo& info, const Json& object);
// The object as a client gets it.
std::string with_version(const KindInfo& info, const std::string& text, uint64_t version);

class ObjectStore {
 public:
  static constexpr size_t kMaxEvents = 4096;
  static constexpr size_t kMaxEventBytes = 32u << 20;

  // `first_version`: the wall clock's microseconds. `namespaces` are there whether anything is in them or not.
  ObjectStore(uint64_t first_version, const std::vector<std::string>& namespaces);

  void set_listener(std::function<void(const ObjectEvent&)> listener) { listener_ = std::move(listener); }

  // The present content of a file.
  void absorb(const std::string& path, const ManifestText& text);
  void remove(const std::string& path);
  // A Namespace that is in no file and that is not among the permanent ones.
  void forget_namespace(const std::string& name);
  bool is_permanent(const std::string& ns) const { return permanent_.contains(ObjectKey{namespace_kind_, {}, ns}); }

  uint64_t version() const { return version_; }
  size_t size() const { return objects_.size(); }
  const StoredObject* find(const ObjectKey& key) const;
  // In order of namespace and name, those after `start` if it is given. `ns` empty: of all namespaces. Ends when
  // `visit` returns false.
  void for_each(const KindInfo& kind, const std::string& ns, const ObjectKey* start,
                const std::function<bool(const ObjectKey&, const StoredObject&)>& visit) const;
  // Calls `visit` for each event after `version`, in order. False: some of them are not known any more, or the version
  // is of the future.
  bool replay(uint64_t version, const std::function<void(const ObjectEvent&)>& visit) const;

 private:
  struct Candidate {
    std::string file;
    Text text;
    SharedLabels labels;
  };
  struct Entry {
    std::vector<Candidate> candidates;  // by file; a made-up Namespace last
    StoredObject shown;
  };
  using Objects = std::map<ObjectKey, Entry>;

  void provide(const ObjectKey& key, Candidate candidate);
  void withdraw(const ObjectKey& key, const std::string& file);
  void settle(Objects::iterator at);
  void emit(ObjectEvent event);
  void ensure_namespace(const std::string& name);

  const KindInfo* const namespace_kind_;
  std::map<ObjectKey, bool> permanent_;
  Objects objects_;
  std::map<std::string, std::vector<ObjectKey>> files_;
  std::deque<ObjectEvent> events_;
  size_t event_bytes_ = 0;
  uint64_t forgotten_;  // events up to this version are not known any more
  uint64_t version_;
  std::function<void(const ObjectEvent&)> listener_;
};

}  // namespace sluice::api::kube
