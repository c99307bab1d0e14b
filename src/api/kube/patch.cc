#include "api/kube/patch.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace sluice::api::kube {
namespace {

// --- RFC 6901

std::optional<std::vector<std::string>> parse_pointer(const std::string& text) {
  std::vector<std::string> out;
  if (text.empty()) return out;
  if (text[0] != '/') return std::nullopt;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '/') {
      out.emplace_back();
    } else if (text[i] != '~') {
      out.back() += text[i];
    } else {
      if (i + 1 == text.size() || (text[i + 1] != '0' && text[i + 1] != '1')) return std::nullopt;
      out.back() += text[++i] == '0' ? '~' : '/';
    }
  }
  return out;
}

// The index that a token of a pointer names; nothing if it is none below `limit`.
std::optional<size_t> index_of(const std::string& token, size_t limit) {
  if (token.empty() || token.size() > 9 || (token.size() > 1 && token[0] == '0')) return std::nullopt;
  size_t index = 0;
  for (const char c : token) {
    if (c < '0' || c > '9') return std::nullopt;
    index = index * 10 + static_cast<size_t>(c - '0');
  }
  if (index >= limit) return std::nullopt;
  return index;
}

Json* child_of(Json& parent, const std::string& token) {
  if (parent.is_object()) {
    const auto at = parent.find(token);
    return at == parent.end() ? nullptr : &*at;
  }
  if (!parent.is_array()) return nullptr;
  const auto index = index_of(token, parent.size());
  return index ? &parent[*index] : nullptr;
}

class JsonPatch {
 public:
  explicit JsonPatch(Json& target) : target_(target) {}

  Status run(const Json& patch) {
    if (!patch.is_array()) return Error{"a JSON patch should be a list of operations"};
    if (patch.size() > kMaxPatchOperations) return Error{"the patch has too many operations"};
    for (size_t i = 0; i < patch.size(); ++i) {
      if (Status done = operation(patch[i]); !done.ok()) {
        return Error{"operation " + std::to_string(i) + ": " + done.error().message};
      }
    }
    return {};
  }

 private:
  using Path = std::vector<std::string>;

  Status operation(const Json& operation) {
    const Json* op = find(operation, "op");
    const Json* path_text = find(operation, "path");
    if (!op || !op->is_string()) return Error{"\"op\" is missing"};
    if (!path_text || !path_text->is_string()) return Error{"\"path\" is missing"};
    const auto& name = op->get_ref<const std::string&>();
    const auto path = parse_pointer(path_text->get_ref<const std::string&>());
    if (!path) return Error{"\"path\" is not a JSON pointer"};
    if (name == "remove") return remove(*path, nullptr);
    if (name == "move" || name == "copy") return transfer(operation, *path, name == "move");
    if (name != "add" && name != "replace" && name != "test") return Error{"\"op\" is unknown: " + name.substr(0, 40)};
    const Json* value = find(operation, "value");
    if (!value) return Error{"\"value\" is missing"};
    if (name == "add") return add(*path, *value);
    Json* at = locate(*path);
    if (!at) return Error{"the path does not exist"};
    if (name == "test") return *at == *value ? Status() : Status(Error{"the test failed"});
    if (!fits(*path, *value)) return too_deep();
    *at = *value;
    return {};
  }

  Json* locate(const Path& path) {
    Json* at = &target_;
    for (const std::string& token : path) {
      if (!(at = child_of(*at, token))) return nullptr;
    }
    return at;
  }

  // The parent of what the path names.
  Json* parent_of(const Path& path) { return locate(Path(path.begin(), path.end() - 1)); }

  Status add(const Path& path, Json value) {
    if (!fits(path, value)) return too_deep();
    if (path.empty()) return target_ = std::move(value), Status();
    Json* parent = parent_of(path);
    if (!parent || !parent->is_structured()) return Error{"the parent of the path does not exist"};
    if (parent->is_object()) {
      (*parent)[path.back()] = std::move(value);
      return {};
    }
    const auto index = path.back() == "-" ? std::optional(parent->size()) : index_of(path.back(), parent->size() + 1);
    if (!index) return Error{"the path names no place in the list"};
    parent->insert(parent->begin() + static_cast<std::ptrdiff_t>(*index), std::move(value));
    return {};
  }

  Status remove(const Path& path, Json* removed) {
    Json* at = locate(path);
    if (!at) return Error{"the path does not exist"};
    if (removed) *removed = std::move(*at);
    if (path.empty()) return target_ = nullptr, Status();
    Json* parent = parent_of(path);
    if (parent->is_object()) {
      parent->erase(path.back());
    } else {
      parent->erase(*index_of(path.back(), parent->size()));
    }
    return {};
  }

  Status transfer(const Json& operation, const Path& path, bool move) {
    const Json* from_text = find(operation, "from");
    if (!from_text || !from_text->is_string()) return Error{"\"from\" is missing"};
    const auto from = parse_pointer(from_text->get_ref<const std::string&>());
    if (!from) return Error{"\"from\" is not a JSON pointer"};
    if (!move) {
      const Json* source = locate(*from);
      if (!source) return Error{"\"from\" does not exist"};
      copied_ += count_values(*source);
      if (copied_ > kMaxCopied) return Error{"the patch copies too much"};
      return add(path, *source);
    }
    if (path.size() > from->size() && std::equal(from->begin(), from->end(), path.begin())) {
      return Error{"a value can't be moved into itself"};
    }
    Json value;
    if (Status removed = remove(*from, &value); !removed.ok()) return Error{"\"from\" does not exist"};
    return add(path, std::move(value));
  }

  static bool fits(const Path& path, const Json& value) { return path.size() + depth_of(value) <= kMaxDepth; }
  static Status too_deep() { return Error{"the result would be nested too deep"}; }

  Json& target_;
  size_t copied_ = 0;
};

// --- RFC 7386

void merge(Json& target, const Json& patch) {
  if (!patch.is_object()) {
    target = patch;
    return;
  }
  if (!target.is_object()) target = Json::object();
  for (const auto& [key, value] : patch.items()) {
    if (value.is_null()) {
      target.erase(key);
    } else {
      merge(target[key], value);
    }
  }
}

// --- strategic merge

struct ListRule {
  std::string_view kind;  // empty: every kind
  std::string_view path;
  std::string_view key;  // of the items; empty: a list of scalars that is a set
};

// Lists that are merged; all others are replaced as a whole.
constexpr ListRule kListRules[] = {
    {"", "metadata.finalizers", ""},
    {"", "metadata.ownerReferences", "uid"},
    {"Service", "spec.ports", "port"},
    {"Service", "status.conditions", "type"},
    {"Namespace", "status.conditions", "type"},
};

const ListRule* rule_of(std::string_view kind, std::string_view path) {
  for (const ListRule& rule : kListRules) {
    if (rule.path == path && (rule.kind.empty() || rule.kind == kind)) return &rule;
  }
  return nullptr;
}

// Merging compares each item with each.
Status check_work(size_t one, size_t other) {
  constexpr size_t kMaxComparisons = 4'000'000;
  return one * other <= kMaxComparisons ? Status() : Status(Error{"the patch has too many list items to merge"});
}

constexpr std::string_view kOrder = "$setElementOrder/";
constexpr std::string_view kDelete = "$deleteFromPrimitiveList/";

class StrategicMerge {
 public:
  StrategicMerge(std::string_view kind, bool directives) : kind_(kind), directives_(directives) {}

  Status merge(Json& target, const Json& patch, const std::string& path) {
    if (!patch.is_object()) {
      target = patch;
      return {};
    }
    if (!target.is_object()) target = Json::object();
    if (directives_) {
      const std::string directive = text_of(patch, "$patch");
      if (directive == "replace") return target = without_directives(patch), Status();
      if (directive == "delete") return target = Json::object(), Status();
      if (!directive.empty() && directive != "merge") return Error{"$patch is unknown: " + directive.substr(0, 40)};
      retain(target, patch);
    }
    for (const auto& [key, value] : patch.items()) {
      if (directives_ && key.starts_with('$')) continue;
      if (Status done = member(target, key, value, path.empty() ? key : path + "." + key); !done.ok()) return done;
    }
    return directives_ ? list_directives(target, patch, path) : Status();
  }

 private:
  Status member(Json& target, const std::string& key, const Json& value, const std::string& path) {
    if (value.is_null() && directives_) return target.erase(key), Status();
    if (value.is_object()) {
      Json& child = target[key];
      if (directives_ && text_of(value, "$patch") == "delete") return target.erase(key), Status();
      return merge(child, value, path);
    }
    const ListRule* rule = value.is_array() ? rule_of(kind_, path) : nullptr;
    if (!rule) return target[key] = value, Status();
    Json& list = target[key];
    if (!list.is_array()) list = Json::array();
    if (Status small = check_work(list.size() + value.size(), value.size()); !small.ok()) return small;
    return rule->key.empty() ? merge_set(list, value) : merge_items(list, value, *rule, path);
  }

  static Status merge_set(Json& list, const Json& patch) {
    for (const Json& item : patch) {
      if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
    }
    return {};
  }

  Status merge_items(Json& list, const Json& patch, const ListRule& rule, const std::string& path) {
    const std::string key(rule.key);
    if (directives_) {
      for (const Json& item : patch) {
        if (text_of(item, "$patch") != "replace") continue;
        list = Json::array();
        for (const Json& other : patch) {
          if (!find(other, "$patch")) list.push_back(other);
        }
        return {};
      }
    }
    const std::vector<Json> before = ids_of(list, key);
    for (const Json& item : patch) {
      const Json* id = find(item, key);
      if (!id) return Error{path + ": an item has no " + key};
      const auto same = [&](const Json& other) {
        const Json* theirs = find(other, key);
        return theirs && *theirs == *id;
      };
      const auto at = std::find_if(list.begin(), list.end(), same);
      if (directives_ && text_of(item, "$patch") == "delete") {
        if (at != list.end()) list.erase(at);
      } else if (at != list.end()) {
        if (Status done = merge(*at, item, path + "[]"); !done.ok()) return done;
      } else {
        list.push_back(without_directives(item));
      }
    }
    // Server-side apply leaves the items where they are, new ones come last.
    if (directives_) interleave(list, before, ids_of(patch, key), key);
    return {};
  }

  static std::vector<Json> ids_of(const Json& list, const std::string& key) {
    std::vector<Json> out;
    for (const Json& item : list) {
      const Json* id = find(item, key);
      out.push_back(id ? *id : Json());
    }
    return out;
  }

  // As an API server orders the result: the patch's items in its order, the others in theirs; an item of the patch that
  // was there before keeps its place among the others, and a new one goes in front of what is left of them.
  static void interleave(Json& list, const std::vector<Json>& before, const std::vector<Json>& patched,
                         const std::string& key) {
    const auto place_in = [](const std::vector<Json>& ids, const Json& id) {
      return static_cast<size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
    };
    std::vector<std::pair<size_t, Json>> given, others;  // with the place in the patch, and before
    const std::vector<Json> ids = ids_of(list, key);
    for (size_t i = 0; i < list.size(); ++i) {
      const size_t place = place_in(patched, ids[i]);
      (place < patched.size() ? given : others).emplace_back(place < patched.size() ? place : i, std::move(list[i]));
    }
    std::sort(given.begin(), given.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    Json sorted = Json::array();
    size_t next = 0;
    for (auto& [place, item] : given) {
      const size_t old = place_in(before, *find(item, key));
      while (old < before.size() && next < others.size() && place_in(before, ids[others[next].first]) < old) {
        sorted.push_back(std::move(others[next++].second));
      }
      sorted.push_back(std::move(item));
    }
    for (; next < others.size(); ++next) sorted.push_back(std::move(others[next].second));
    list = std::move(sorted);
  }

  // $retainKeys: of the object only these keys stay.
  static void retain(Json& target, const Json& patch) {
    const Json* keys = find(patch, "$retainKeys");
    if (!keys || !keys->is_array()) return;
    std::vector<std::string> gone;
    for (const auto& [key, value] : target.items()) {
      if (std::find(keys->begin(), keys->end(), Json(key)) == keys->end()) gone.push_back(key);
    }
    for (const std::string& key : gone) target.erase(key);
  }

  Status list_directives(Json& target, const Json& patch, const std::string& path) {
    for (const auto& [name, value] : patch.items()) {
      const bool order = name.starts_with(kOrder);
      if (!order && !name.starts_with(kDelete)) continue;
      if (!value.is_array()) return Error{name.substr(0, 60) + " should be a list"};
      const std::string key = name.substr(order ? kOrder.size() : kDelete.size());
      const auto list = target.find(key);
      if (list == target.end() || !list->is_array()) continue;
      if (Status small = check_work(list->size(), value.size()); !small.ok()) return small;
      if (!order) {
        for (const Json& item : value) list->erase(std::remove(list->begin(), list->end(), item), list->end());
        continue;
      }
      if (const ListRule* rule = rule_of(kind_, path.empty() ? key : path + "." + key)) sort(*list, value, *rule);
    }
    return {};
  }

  // What the order does not name comes last, as it was.
  static void sort(Json& list, const Json& order, const ListRule& rule) {
    const std::string key(rule.key);
    const auto place = [&](const Json& item) {
      for (size_t i = 0; i < order.size(); ++i) {
        const Json* wanted = key.empty() ? &order[i] : find(order[i], key);
        const Json* own = key.empty() ? &item : find(item, key);
        if (wanted && own && *wanted == *own) return i;
      }
      return order.size();
    };
    std::vector<std::pair<size_t, size_t>> places;  // in the order, and where it is now
    for (size_t i = 0; i < list.size(); ++i) places.emplace_back(place(list[i]), i);
    std::sort(places.begin(), places.end());
    Json sorted = Json::array();
    for (const auto& [wanted, present] : places) sorted.push_back(std::move(list[present]));
    list = std::move(sorted);
  }

  Json without_directives(const Json& value) const {
    if (!directives_) return value;
    Json out = value;
    for (const auto& [key, unused] : value.items()) {
      if (key.starts_with('$')) out.erase(key);
    }
    return out;
  }

  const std::string_view kind_;
  const bool directives_;
};

Status check_depth(const Json& value) {
  return depth_of(value) <= kMaxDepth ? Status() : Status(Error{"the result would be nested too deep"});
}

}  // namespace

std::optional<std::string_view> merge_key_of(std::string_view kind, std::string_view path) {
  const ListRule* rule = rule_of(kind, path);
  return rule ? std::optional(rule->key) : std::nullopt;
}

Status apply_json_patch(Json& target, const Json& patch) { return JsonPatch(target).run(patch); }

Status apply_merge_patch(Json& target, const Json& patch) {
  merge(target, patch);
  return check_depth(target);
}

Status apply_strategic_patch(Json& target, const Json& patch, std::string_view kind) {
  if (!patch.is_object()) return Error{"a strategic merge patch should be an object"};
  if (Status done = StrategicMerge(kind, true).merge(target, patch, {}); !done.ok()) return done;
  return check_depth(target);
}

Status apply_configuration(Json& target, const Json& configuration, std::string_view kind) {
  if (!configuration.is_object()) return Error{"the configuration to apply should be an object"};
  if (Status done = StrategicMerge(kind, false).merge(target, configuration, {}); !done.ok()) return done;
  return check_depth(target);
}

}  // namespace sluice::api::kube
