#include "api/kube/object_store.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "base/base64.h"
#include "base/hash.h"
#include "resource/reader.h"

namespace sluice::api::kube {
namespace {

// Numbers and booleans where strings belong are taken by their text, as the gateway does.
void make_strings(Json& object, const char* member) {
  const auto at = object.find(member);
  if (at == object.end()) return;
  if (!at->is_object()) {
    object.erase(at);
    return;
  }
  for (Json& value : *at) {
    if (!value.is_string()) value = value.is_null() ? std::string() : to_text(value);
  }
}

void merge_string_data(Json& secret) {
  const auto plain = secret.find("stringData");
  if (plain == secret.end()) return;
  if (plain->is_object()) {
    if (!secret["data"].is_object()) secret["data"] = Json::object();
    for (const auto& [key, value] : plain->items()) {
      secret["data"][key] = encode_base64(value.is_string() ? value.get_ref<const std::string&>() : to_text(value));
    }
  }
  secret.erase("stringData");
}

void modernize_backend(Json& owner, const char* member) {
  const auto at = owner.find(member);
  if (at == owner.end() || !at->is_object() || !kube::find(*at, "serviceName")) return;
  Json port = Json::object();
  if (const Json* old = kube::find(*at, "servicePort")) port[old->is_string() ? "name" : "number"] = *old;
  const Json name = (*at)["serviceName"];
  at->erase("serviceName");
  at->erase("servicePort");
  (*at)["service"] = {{"name", name}, {"port", std::move(port)}};
}

// networking.k8s.io/v1beta1 and extensions/v1beta1.
void modernize_ingress(Json& ingress) {
  const auto spec = ingress.find("spec");
  if (spec == ingress.end() || !spec->is_object()) return;
  if (const auto backend = spec->find("backend"); backend != spec->end()) {
    (*spec)["defaultBackend"] = *backend;
    spec->erase("backend");
    modernize_backend(*spec, "defaultBackend");
  }
  const auto rules = spec->find("rules");
  if (rules == spec->end() || !rules->is_array()) return;
  for (Json& rule : *rules) {
    const Json* http = kube::find(rule, "http");
    if (!http || !kube::find(*http, "paths") || !kube::find(*http, "paths")->is_array()) continue;
    for (Json& path : rule["http"]["paths"]) {
      if (!path.is_object()) continue;
      modernize_backend(path, "backend");
      if (!path.contains("pathType")) path["pathType"] = "ImplementationSpecific";
    }
  }
}

std::string hashed_uid(const ObjectKey& key) {
  const std::string name = std::string(key.kind->kind) + "/" + key.ns + "/" + key.name;
  const uint64_t a = hash64(name, 1), b = hash64(name, 2);
  char out[40];
  std::snprintf(out, sizeof(out), "%08x-%04x-8%03x-%04x-%012llx", static_cast<uint32_t>(a >> 32),
                static_cast<uint32_t>(a >> 16) & 0xffff, static_cast<uint32_t>(a) & 0xfff,
                (static_cast<uint32_t>(b >> 48) & 0x3fff) | 0x8000,
                static_cast<unsigned long long>(b & 0xffffffffffffull));
  return out;
}

SharedLabels labels_of(const Json& object) {
  static const SharedLabels none = std::make_shared<const Labels>();
  const Json* labels = kube::find(*kube::find(object, "metadata"), "labels");
  if (!labels || labels->empty()) return none;
  auto out = std::make_shared<Labels>();
  for (const auto& [key, value] : labels->items()) out->emplace_back(key, value.get<std::string>());
  return out;
}

uint64_t version_of(const Json& object) {
  const Json* metadata = kube::find(object, "metadata");
  const std::string text = metadata ? kube::text_of(*metadata, "resourceVersion") : std::string();
  uint64_t version = 0;
  std::from_chars(text.data(), text.data() + text.size(), version);
  // Versions of the far future would leave no room above them.
  return version < (uint64_t{1} << 60) ? version : 0;
}

std::string head_of(const KindInfo& info) {
  return R"({"apiVersion":")" + info.api_version() + R"(","kind":")" + std::string(info.kind) + R"(","metadata":{)";
}

}  // namespace

bool normalize(Json& object, ObjectKey& key) {
  key.kind = kind_of(kube::text_of(object, "apiVersion"), kube::text_of(object, "kind"));
  if (!key.kind) return false;
  const auto metadata = object.find("metadata");
  if (metadata == object.end() || !metadata->is_object()) return false;
  key.name = kube::text_of(*metadata, "name");
  if (!resource::is_dns_name(key.name)) return false;
  key.ns.clear();
  if (key.kind->namespaced) {
    key.ns = kube::text_of(*metadata, "namespace");
    if (key.ns.empty()) key.ns = "default";
    if (!resource::is_label(key.ns)) return false;
    (*metadata)["namespace"] = key.ns;
  } else {
    metadata->erase("namespace");
  }
  metadata->erase("selfLink");
  if (const Json* managed = kube::find(*metadata, "managedFields"); managed && !managed->is_array()) {
    metadata->erase("managedFields");
  }
  make_strings(*metadata, "labels");
  make_strings(*metadata, "annotations");
  if (const Json* created = kube::find(*metadata, "creationTimestamp"); created && !created->is_string()) {
    metadata->erase("creationTimestamp");
  }
  if (kube::text_of(*metadata, "uid").empty()) (*metadata)["uid"] = hashed_uid(key);
  if (key.kind->kind == "Ingress" && kube::text_of(object, "apiVersion") != key.kind->api_version()) {
    modernize_ingress(object);
  }
  object["apiVersion"] = key.kind->api_version();
  if (key.kind->kind == "Secret") {
    merge_string_data(object);
    if (!object.contains("type")) object["type"] = "Opaque";
  }
  if (key.kind->kind == "ConfigMap") make_strings(object, "data");
  return true;
}

std::string text_of_object(const KindInfo& info, const Json& object) {
  std::string out = head_of(info);
  const auto add = [&out](const std::string& name, const Json& value) {
    if (out.back() != '{') out += ',';
    out += to_text(name);
    out += ':';
    out += to_text(value);
  };
  for (const auto& [name, value] : kube::find(object, "metadata")->items()) {
    if (name != "resourceVersion") add(name, value);
  }
  out += '}';
  for (const auto& [name, value] : object.items()) {
    if (name != "apiVersion" && name != "kind" && name != "metadata") add(name, value);
  }
  return out += '}';
}

std::string with_version(const KindInfo& info, const std::string& text, uint64_t version) {
  const size_t at = head_of(info).size();
  // metadata is never empty: there is a name.
  return text.substr(0, at) + R"("resourceVersion":")" + std::to_string(version) + R"(",)" + text.substr(at);
}

ObjectStore::ObjectStore(uint64_t first_version, const std::vector<std::string>& namespaces)
    : namespace_kind_(find_kind("", "v1", "namespaces")), forgotten_(first_version), version_(first_version) {
  for (const std::string& name : namespaces) {
    permanent_.emplace(ObjectKey{namespace_kind_, {}, name}, true);
    ensure_namespace(name);
  }
}

void ObjectStore::absorb(const std::string& path, const ManifestText& text) {
  std::vector<ObjectKey> keys;
  std::set<ObjectKey> given;
  for (size_t i = 0; i < text.size(); ++i) {
    Json object = text.object(i);
    ObjectKey key;
    version_ = std::max(version_, version_of(object));
    if (!normalize(object, key) || !given.insert(key).second) continue;
    keys.push_back(key);
    provide(key, {path, std::make_shared<const std::string>(text_of_object(*key.kind, object)), labels_of(object)});
  }
  std::vector<ObjectKey> before = std::move(files_[path]);
  files_[path] = std::move(keys);
  for (const ObjectKey& key : before) {
    if (!given.contains(key)) withdraw(key, path);
  }
}

void ObjectStore::remove(const std::string& path) {
  const auto at = files_.find(path);
  if (at == files_.end()) return;
  const std::vector<ObjectKey> keys = std::move(at->second);
  files_.erase(at);
  for (const ObjectKey& key : keys) withdraw(key, path);
}

void ObjectStore::provide(const ObjectKey& key, Candidate candidate) {
  const auto at = objects_.try_emplace(key).first;
  auto& candidates = at->second.candidates;
  const auto place = std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& other) {
    return other.file.empty() || candidate.file <= other.file;
  });
  if (place != candidates.end() && place->file == candidate.file) {
    if (*place->text == *candidate.text) return;
    *place = std::move(candidate);
  } else {
    candidates.insert(candidate.file.empty() ? candidates.end() : place, std::move(candidate));
  }
  settle(at);
}

void ObjectStore::withdraw(const ObjectKey& key, const std::string& file) {
  const auto at = objects_.find(key);
  if (at == objects_.end()) return;
  std::erase_if(at->second.candidates, [&](const Candidate& candidate) { return candidate.file == file; });
  settle(at);
}

// Makes the first candidate the one that is shown.
void ObjectStore::settle(Objects::iterator at) {
  Entry& entry = at->second;
  const ObjectKey key = at->first;
  const StoredObject before = entry.shown;
  if (entry.candidates.empty()) {
    objects_.erase(at);
    if (before.text) emit({ObjectEvent::Type::kDeleted, key, ++version_, before.text, before.labels, nullptr});
    return;
  }
  const Candidate& first = entry.candidates.front();
  entry.shown.file = first.file;
  if (before.text && *before.text == *first.text) return;
  entry.shown = {++version_, first.text, first.labels, first.file};
  const auto type = before.text ? ObjectEvent::Type::kModified : ObjectEvent::Type::kAdded;
  emit({type, key, version_, first.text, first.labels, before.labels});
  if (!before.text && !key.ns.empty()) ensure_namespace(key.ns);
}

void ObjectStore::emit(ObjectEvent event) {
  event_bytes_ += event.text->size();
  events_.push_back(std::move(event));
  while (events_.size() > kMaxEvents || (event_bytes_ > kMaxEventBytes && events_.size() > 1)) {
    forgotten_ = events_.front().version;
    event_bytes_ -= events_.front().text->size();
    events_.pop_front();
  }
  // The listener may not change the store.
  if (listener_) listener_(events_.back());
}

void ObjectStore::ensure_namespace(const std::string& name) {
  const ObjectKey key{namespace_kind_, {}, name};
  const auto at = objects_.find(key);
  if (at != objects_.end() && at->second.candidates.back().file.empty()) return;
  const Json object = {
      {"metadata", {{"name", name}, {"uid", hashed_uid(key)}, {"labels", {{"kubernetes.io/metadata.name", name}}}}},
      {"spec", {{"finalizers", {"kubernetes"}}}},
      {"status", {{"phase", "Active"}}}};
  provide(key, {{}, std::make_shared<const std::string>(text_of_object(*namespace_kind_, object)), labels_of(object)});
}

void ObjectStore::forget_namespace(const std::string& name) { withdraw({namespace_kind_, {}, name}, {}); }

const StoredObject* ObjectStore::find(const ObjectKey& key) const {
  const auto at = objects_.find(key);
  return at == objects_.end() ? nullptr : &at->second.shown;
}

void ObjectStore::for_each(const KindInfo& kind, const std::string& ns, const ObjectKey* start,
                           const std::function<bool(const ObjectKey&, const StoredObject&)>& visit) const {
  auto at = start ? objects_.upper_bound(*start) : objects_.lower_bound({&kind, ns, {}});
  for (; at != objects_.end() && at->first.kind == &kind && (ns.empty() || at->first.ns == ns); ++at) {
    if (!visit(at->first, at->second.shown)) return;
  }
}

bool ObjectStore::replay(uint64_t version, const std::function<void(const ObjectEvent&)>& visit) const {
  if (version < forgotten_ || version > version_) return false;
  const auto first = std::find_if(events_.begin(), events_.end(), [&](const auto& e) { return e.version > version; });
  std::for_each(first, events_.end(), visit);
  return true;
}

}  // namespace sluice::api::kube
