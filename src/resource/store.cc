#include "resource/store.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>

namespace sluice::resource {

void Store::apply(ParsedFile parsed, Changes& changes) {
  auto at = files_.try_emplace(*parsed.file).first;
  const std::string* name = &at->first;
  File& file = at->second;
  file.diagnostics = std::move(parsed.diagnostics);
  if (!parsed.readable) return;
  file.unknown_kinds = std::move(parsed.unknown_kinds);
  file.repeated.clear();

  // What this file provided so far, taken out; `touched` remembers what was in force.
  std::unordered_map<ObjectKey, ObjectPtr, ObjectKeyHash> old;
  std::vector<std::pair<ObjectKey, ObjectPtr>> touched;
  touched.reserve(file.keys.size() + parsed.objects.size());
  for (ObjectKey& key : file.keys) {
    auto& candidates = objects_[key];
    touched.emplace_back(key, candidates.empty() ? nullptr : candidates.front().object);
    for (Candidate& candidate : candidates) {
      if (candidate.file == name) old[key] = std::move(candidate.object);
    }
    std::erase_if(candidates, [&](const Candidate& c) { return c.file == name; });
  }
  std::vector<ObjectKey> old_keys = std::move(file.keys);
  file.keys.clear();

  std::unordered_set<ObjectKey, ObjectKeyHash> given;
  auto provide = [&](const ObjectKey& key, ObjectPtr object) {
    auto& candidates = objects_[key];
    if (!old.contains(key)) touched.emplace_back(key, candidates.empty() ? nullptr : candidates.front().object);
    auto last = old.find(key);
    if (last != old.end() && (!object || object->meta.fingerprint == last->second->meta.fingerprint)) {
      object = last->second;
    }
    if (!object) return;
    Candidate candidate{name, static_cast<uint32_t>(file.keys.size()), std::move(object)};
    auto place =
        std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& c) { return *name < *c.file; });
    candidates.insert(place, std::move(candidate));
    file.keys.push_back(key);
  };
  for (ParsedObject& object : parsed.objects) {
    if (given.insert(object.key).second) {
      provide(object.key, std::move(object.object));
    } else {
      file.repeated.push_back({Severity::kError,
                               *name,
                               object.mark.line,
                               object.mark.column,
                               object.key.to_string(),
                               {},
                               "is defined earlier in this file; this one is ignored"});
    }
  }
  if (parsed.has_unidentified) {
    for (const ObjectKey& key : old_keys) {
      if (!given.contains(key)) provide(key, nullptr);
    }
  }

  for (auto& [key, before] : touched) {
    auto entry = objects_.find(key);
    if (entry == objects_.end()) continue;
    ObjectPtr after = entry->second.empty() ? nullptr : entry->second.front().object;
    if (entry->second.empty()) objects_.erase(entry);
    if (before != after) changes.push_back({key, std::move(before), std::move(after)});
  }
}

void Store::remove(const std::string& file, Changes& changes) {
  auto at = files_.find(file);
  if (at != files_.end()) remove_file(at, changes);
}

void Store::remove_under(const std::string& prefix, Changes& changes) {
  auto at = files_.lower_bound(prefix);
  while (at != files_.end() && at->first.starts_with(prefix)) {
    auto next = std::next(at);
    remove_file(at, changes);
    at = next;
  }
}

void Store::remove_file(Files::iterator at, Changes& changes) {
  const std::string* name = &at->first;
  for (const ObjectKey& key : at->second.keys) {
    auto entry = objects_.find(key);
    if (entry == objects_.end()) continue;
    auto& candidates = entry->second;
    ObjectPtr before = candidates.front().object;
    std::erase_if(candidates, [&](const Candidate& c) { return c.file == name; });
    ObjectPtr after = candidates.empty() ? nullptr : candidates.front().object;
    if (candidates.empty()) objects_.erase(entry);
    if (before != after) changes.push_back({key, std::move(before), std::move(after)});
  }
  files_.erase(at);
}

ObjectPtr Store::find(const ObjectKey& key) const {
  auto at = objects_.find(key);
  return at == objects_.end() || at->second.empty() ? nullptr : at->second.front().object;
}

std::vector<std::string> Store::files() const {
  std::vector<std::string> out;
  out.reserve(files_.size());
  for (const auto& [name, file] : files_) out.push_back(name);
  return out;
}

void Store::add_duplicates(const std::string& name, const File& file, Diagnostics& out) const {
  for (const ObjectKey& key : file.keys) {
    const auto& candidates = objects_.at(key);
    if (*candidates.front().file == name) continue;
    for (const Candidate& candidate : candidates) {
      if (*candidate.file != name) continue;
      Mark mark = candidate.object->meta.mark;
      out.push_back({Severity::kError,
                     name,
                     mark.line,
                     mark.column,
                     key.to_string(),
                     {},
                     "is defined in " + *candidates.front().file + " too; that one is in force, this one is ignored"});
    }
  }
}

Diagnostics Store::diagnostics(const std::string& file) const {
  auto at = files_.find(file);
  if (at == files_.end()) return {};
  Diagnostics out = at->second.diagnostics;
  out.insert(out.end(), at->second.repeated.begin(), at->second.repeated.end());
  add_duplicates(file, at->second, out);
  std::sort(out.begin(), out.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.line, a.column, a.field) < std::tie(b.line, b.column, b.field);
  });
  return out;
}

Diagnostics Store::diagnostics() const {
  Diagnostics out;
  std::unordered_set<std::string> kinds;
  for (const auto& [name, file] : files_) {
    Diagnostics own = diagnostics(name);
    out.insert(out.end(), std::make_move_iterator(own.begin()), std::make_move_iterator(own.end()));
    for (const auto& [kind, mark] : file.unknown_kinds) {
      if (!kinds.insert(kind).second) continue;
      out.push_back({Severity::kInfo,
                     name,
                     mark.line,
                     mark.column,
                     {},
                     {},
                     "kind " + kind + " is not read by this gateway; objects of this kind are skipped"});
    }
  }
  return out;
}

}  // namespace sluice::resource
