#include "compile/control_plane.h"

#include <algorithm>
#include <set>
#include <unordered_set>

namespace sluice::compile {

ControlPlane::ControlPlane(Options options) : compiler_(store_, std::move(options)) {}

Update ControlPlane::apply(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed) {
  resource::Changes changes;
  std::vector<std::string> names;
  // New content first: an object that moved from one file to another must not be gone in between.
  for (resource::ParsedFile& file : changed) {
    names.push_back(*file.file);
    store_.apply(std::move(file), changes);
  }
  for (const std::string& name : removed) store_.remove(name, changes);

  Update out;
  out.changed_objects = changes.size();
  out.snapshot = compiler_.apply(changes);
  // What an Ingress and the Secret it shows have in common is told once.
  std::unordered_set<std::string> told;
  const auto tell = [&](resource::Diagnostics found) {
    for (resource::Diagnostic& diagnostic : found) {
      if (told.insert(diagnostic.render()).second) out.diagnostics.push_back(std::move(diagnostic));
    }
  };
  for (const std::string& name : names) tell(store_.diagnostics(name));
  std::set<resource::ObjectKey> touched(compiler_.last_compiled().begin(), compiler_.last_compiled().end());
  for (const resource::Change& change : changes) {
    if (change.after) touched.insert(change.key);
  }
  for (const resource::ObjectKey& key : touched) tell(compiler_.diagnostics(key));
  return out;
}

Compiler::SnapshotPointer ControlPlane::set_resolved(const std::string& name, std::vector<net::Address> addresses) {
  compiler_.set_resolved(name, std::move(addresses));
  return compiler_.refresh();
}

Compiler::SnapshotPointer ControlPlane::set_health(const std::string& cluster, const net::Address& endpoint,
                                                   bool healthy) {
  compiler_.set_health(cluster, endpoint, healthy);
  return compiler_.refresh();
}

resource::Diagnostics ControlPlane::diagnostics() const {
  resource::Diagnostics out = store_.diagnostics();
  resource::Diagnostics compiled = compiler_.diagnostics();
  out.insert(out.end(), std::make_move_iterator(compiled.begin()), std::make_move_iterator(compiled.end()));
  return out;
}

std::vector<ObjectStatus> ControlPlane::status() const {
  std::vector<ObjectStatus> out;
  store_.for_each([&](const resource::ObjectPtr& object) {
    ObjectStatus status;
    status.key = object->key();
    if (object->meta.file) status.file = *object->meta.file;
    status.line = object->meta.mark.line;
    out.push_back(std::move(status));
  });
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.key < b.key; });
  // Findings go to the object they name.
  resource::Diagnostics all = diagnostics();
  std::unordered_map<std::string, ObjectStatus*> by_name;
  for (ObjectStatus& status : out) by_name[status.key.to_string()] = &status;
  for (resource::Diagnostic& diagnostic : all) {
    auto at = by_name.find(diagnostic.object);
    if (at != by_name.end()) at->second->diagnostics.push_back(std::move(diagnostic));
  }
  return out;
}

}  // namespace sluice::compile
