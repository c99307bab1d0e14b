#include "api/kube/managed_fields.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>

#include "api/kube/patch.h"

namespace sluice::api::kube {
namespace {

// A tree of fields: a member "f:name" of an object, "k:{…}" the item of a list with these keys, "v:…" the item of a
// set,
// "." the value itself. One without members is owned itself.

constexpr size_t kMaxKeyedItems = 1000;  // longer lists are owned as a whole
constexpr std::string_view kBookkeeping[] = {"name",       "namespace",         "uid",          "resourceVersion",
                                             "generation", "creationTimestamp", "managedFields"};

bool is_tree(const Json& value) {
  return value.is_object() &&
         std::all_of(value.begin(), value.end(), [](const Json& member) { return is_tree(member); });
}

std::string key_of(const Json& item, std::string_view merge_key) {
  const Json* value = find(item, merge_key);
  return value ? "k:" + to_text({{std::string(merge_key), *value}}) : std::string();
}

class FieldsOf {
 public:
  explicit FieldsOf(std::string_view kind) : kind_(kind) {}

  Json tree(const Json& value, const std::string& path) const {
    Json out = Json::object();
    if (value.is_object()) {
      for (const auto& [name, member] : value.items()) {
        if (is_bookkeeping(path, name)) continue;
        const std::string at = path.empty() ? name : path + "." + name;
        Json fields = tree(member, at);
        // Of metadata alone nothing is owned.
        if (at != "metadata" || !fields.empty()) out["f:" + name] = std::move(fields);
      }
    } else if (value.is_array() && value.size() <= kMaxKeyedItems) {
      if (const auto key = merge_key_of(kind_, path)) items(value, path, *key, out);
    }
    return out;
  }

 private:
  static bool is_bookkeeping(const std::string& path, const std::string& name) {
    if (path.empty()) return name == "apiVersion" || name == "kind";
    return path == "metadata" &&
           std::find(std::begin(kBookkeeping), std::end(kBookkeeping), name) != std::end(kBookkeeping);
  }

  void items(const Json& list, const std::string& path, std::string_view key, Json& out) const {
    for (const Json& item : list) {
      const std::string name = key.empty() ? "v:" + to_text(item) : key_of(item, key);
      if (name.empty()) continue;
      out[name] = key.empty() ? Json::object() : tree(item, path + "[]");
      if (!key.empty()) out[name]["."] = Json::object();
    }
  }

  const std::string_view kind_;
};

// Where in a value a member of its tree is; null if it is not there.
const Json* member_at(const Json& value, const std::string& name) {
  if (name.starts_with("f:")) return find(value, std::string_view(name).substr(2));
  if (!value.is_array() || name.size() < 2) return nullptr;
  const Result<Json> wanted = parse_json(std::string_view(name).substr(2));
  if (!wanted.ok()) return nullptr;
  for (const Json& item : value) {
    if (name[0] == 'v' && item == *wanted) return &item;
    if (name[0] != 'k' || !wanted->is_object() || wanted->empty()) continue;
    bool same = true;
    for (const auto& [key, part] : wanted->items()) {
      const Json* own = find(item, key);
      same = same && own && *own == part;
    }
    if (same) return &item;
  }
  return nullptr;
}

void erase_member(Json& value, const std::string& name) {
  if (name.starts_with("f:")) {
    if (value.is_object()) value.erase(name.substr(2));
  } else if (const Json* item = member_at(value, name)) {
    value.erase(static_cast<size_t>(item - &value[0]));
  }
}

std::string described(const std::string& path, const std::string& name) {
  if (name.starts_with("f:")) return path + "." + name.substr(2);
  if (name.starts_with("v:")) return path + "[" + name.substr(2) + "]";
  const Result<Json> keys = parse_json(std::string_view(name).substr(2));
  std::string out;
  if (keys.ok() && keys->is_object()) {
    for (const auto& [key, part] : keys->items()) out += (out.empty() ? "" : ",") + key + "=" + to_text(part);
  }
  return path + "[" + out + "]";
}

bool same(const Json* one, const Json* other) { return one && other ? *one == *other : one == other; }

// Calls visit(path, name) for each field that both trees own and whose value differs.
template <typename Visit>
void each_difference(const Json& mine, const Json& theirs, const Json* now, const Json* wanted, const std::string& path,
                     const Visit& visit) {
  for (const auto& [name, fields] : mine.items()) {
    const Json* other = find(theirs, name);
    if (name == "." || !other) continue;
    const Json* have = now ? member_at(*now, name) : nullptr;
    const Json* want = wanted ? member_at(*wanted, name) : nullptr;
    const std::string at = described(path, name);
    // An empty object that one of them owns does not forbid the other its members.
    const bool whole = (fields.empty() || other->empty()) && !(have && have->is_object() && want && want->is_object());
    if (whole ? !same(have, want) : false) visit(at);
    if (!whole) each_difference(fields, *other, have, want, at, visit);
  }
}

// The tree without the fields that are gone or have another value now.
void keep_same(Json& tree, const Json* before, const Json* after, bool changed_too) {
  for (auto at = tree.begin(); at != tree.end();) {
    if (at.key() == ".") {
      ++at;
      continue;
    }
    const Json* old = before ? member_at(*before, at.key()) : nullptr;
    const Json* now = after ? member_at(*after, at.key()) : nullptr;
    const bool leaf = at->empty();
    if (!now || (leaf && changed_too && !same(old, now) && !(old && old->is_object() && now->is_object()))) {
      at = tree.erase(at);
      continue;
    }
    if (!leaf) keep_same(*at, old, now, changed_too);
    at = !leaf && at->empty() ? tree.erase(at) : std::next(at);
  }
}

// The fields of `after`, as its tree has them, whose value is not that of `before`.
void keep_changed(Json& tree, const Json* before, const Json* after) {
  for (auto at = tree.begin(); at != tree.end();) {
    const Json* old = before ? member_at(*before, at.key()) : nullptr;
    const Json* now = after ? member_at(*after, at.key()) : nullptr;
    if (at.key() == "." ? before != nullptr : same(old, now)) {
      at = tree.erase(at);
      continue;
    }
    const bool leaf = at->empty();
    if (!leaf) keep_changed(*at, old, now);
    if (!leaf && !old && at.key().starts_with("f:")) (*at)["."] = Json::object();
    at = !leaf && at->empty() ? tree.erase(at) : std::next(at);
  }
}

void join(Json& tree, const Json& more) {
  for (const auto& [name, fields] : more.items())
    join(tree[name].is_null() ? tree[name] = Json::object() : tree[name], fields);
}

// Takes out of `target` what `old` owns, `fresh` (null: nothing) does not, and none of `others` does.
void drop(Json& target, const Json& old, const Json* fresh, const std::vector<const Json*>& others) {
  for (const auto& [name, fields] : old.items()) {
    const Json* found = name == "." ? nullptr : member_at(target, name);
    if (!found) continue;
    const Json* kept = fresh ? find(*fresh, name) : nullptr;
    std::vector<const Json*> sharing;
    for (const Json* other : others) {
      if (const Json* part = find(*other, name)) sharing.push_back(part);
    }
    const bool alone = !kept && sharing.empty();
    // An item of a list goes with its key; of an object only the members that are owned.
    if (alone && (fields.empty() || !name.starts_with("f:"))) {
      erase_member(target, name);
    } else if (!fields.empty()) {
      auto& child = const_cast<Json&>(*found);  // it is in `target`
      drop(child, fields, kept, sharing);
      if (alone && child.is_structured() && child.empty()) erase_member(target, name);
    }
  }
}

}  // namespace

ManagedFields::ManagedFields(const Json& metadata, std::string_view kind) : kind_(kind) {
  const Json* list = find(metadata, "managedFields");
  if (!list || !list->is_array()) return;
  for (const Json& item : *list) {
    const Json* fields = find(item, "fieldsV1");
    const std::string manager = text_of(item, "manager");
    if (entries_.size() == kMaxManagers || manager.empty() || !fields || !is_tree(*fields)) continue;
    entries_.push_back(
        {manager, text_of(item, "operation"), text_of(item, "apiVersion"), text_of(item, "time"), {*fields}});
  }
}

ManagedFields::Entry* ManagedFields::entry(const std::string& manager, bool applies) {
  for (Entry& one : entries_) {
    if (one.manager == manager && one.applies() == applies) return &one;
  }
  return nullptr;
}

std::vector<ManagedFields::Conflict> ManagedFields::conflicts(const std::string& manager, const Json& object,
                                                              const Json& configuration) const {
  std::vector<Conflict> out;
  const Json wanted = FieldsOf(kind_).tree(configuration, {});
  for (const Entry& other : entries_) {
    if (other.manager == manager && other.applies()) continue;
    each_difference(wanted, other.fields[0], &object, &configuration, {}, [&](const std::string& field) {
      const std::string by = to_text(other.manager);
      out.push_back({other.applies() ? by : by + " using " + other.api_version, field});
    });
  }
  return out;
}

bool ManagedFields::apply(const std::string& manager, const std::string& api_version, const std::string& time,
                          const Json& before, const Json& configuration, Json& merged) {
  Json fields = FieldsOf(kind_).tree(configuration, {});
  if (const Entry* own = entry(manager, true)) {
    std::vector<const Json*> others;
    for (const Entry& other : entries_) {
      if (&other != own) others.push_back(&other.fields[0]);
    }
    drop(merged, own->fields[0], &fields, others);
  }
  release_changed(before, merged, entry(manager, true));
  return set(manager, true, api_version, time, std::move(fields));
}

void ManagedFields::update(const std::string& manager, const std::string& api_version, const std::string& time,
                           const Json& before, const Json& after) {
  if (empty()) return;
  Json changed = FieldsOf(kind_).tree(after, {});
  keep_changed(changed, &before, &after);
  const Entry* own = entry(manager, false);
  release_changed(before, after, own);
  if (changed.empty()) return;
  if (Entry* still = entry(manager, false)) {
    Json joined = still->fields[0];
    join(joined, changed);
    changed = std::move(joined);
  }
  set(manager, false, api_version, time, std::move(changed));
}

// Of what `but` owns only that goes which is not there any more.
void ManagedFields::release_changed(const Json& before, const Json& after, const Entry* but) {
  for (Entry& other : entries_) keep_same(other.fields[0], &before, &after, &other != but);
  std::erase_if(entries_, [](const Entry& one) { return one.fields[0].empty(); });
}

bool ManagedFields::set(const std::string& manager, bool applies, const std::string& api_version,
                        const std::string& time, Json fields) {
  Entry* own = entry(manager, applies);
  if (!own) {
    if (fields.empty()) return true;
    if (entries_.size() == kMaxManagers) return false;
    entries_.push_back({manager, applies ? "Apply" : "Update", {}, {}, {Json()}});
    own = &entries_.back();
  }
  if (own->fields[0] == fields && own->api_version == api_version) return true;
  own->fields[0] = std::move(fields);
  own->api_version = api_version;
  own->time = time;
  return true;
}

void ManagedFields::store(Json& metadata) const {
  metadata.erase("managedFields");
  std::vector<Entry> sorted = entries_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.operation, a.time, a.manager) < std::tie(b.operation, b.time, b.manager);
  });
  for (const Entry& one : sorted) {
    metadata["managedFields"].push_back({{"manager", one.manager},
                                         {"operation", one.operation},
                                         {"apiVersion", one.api_version},
                                         {"time", one.time},
                                         {"fieldsType", "FieldsV1"},
                                         {"fieldsV1", one.fields[0]}});
  }
}

}  // namespace sluice::api::kube
