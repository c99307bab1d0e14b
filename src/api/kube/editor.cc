#include "api/kube/editor.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "api/kube/managed_fields.h"
#include "api/kube/patch.h"
#include "api/kube/time_text.h"
#include "base/log.h"
#include "resource/reader.h"
#include "source/files.h"

namespace sluice::api::kube {
namespace {

constexpr int kMaxAttempts = 5;
constexpr size_t kMaxFile = 16u << 20;
constexpr size_t kMaxConflictsTold = 20;
constexpr const char* kTooDeep = "Invalid value: the object would be nested too deep";

bool is_directory(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool exists(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

// What the generation counts changes of: everything but metadata and status.
Json substance(Json object) {
  object.erase("metadata");
  object.erase("status");
  return object;
}

std::optional<ApiError> patch(const Edit& edit, Json& body, Json& object) {
  const std::string kind(edit.key.kind->kind);
  Status done;
  switch (edit.patch) {
    case PatchType::kJson:
      done = apply_json_patch(object, body);
      break;
    case PatchType::kMerge:
      done = apply_merge_patch(object, body);
      break;
    case PatchType::kStrategic:
      done = apply_strategic_patch(object, body, kind);
      break;
    case PatchType::kApply:
      break;  // apply_configuration_of()
  }
  if (done.ok()) return std::nullopt;
  // The patch is well-formed, but not for this object.
  ApiError error = invalid(subject_of(edit.key), {{{}, done.error().message}});
  return error;
}

// As an API server words it; kubectl prints the causes.
ApiError apply_conflict(const Subject& subject, const std::vector<ManagedFields::Conflict>& conflicts) {
  ApiError out{409, "Conflict", {}, subject, {}};
  std::string list;
  for (const ManagedFields::Conflict& one : conflicts) {
    if (out.causes.size() == kMaxConflictsTold) break;
    const std::string text = "conflict with " + one.owner;
    list += (list.empty() ? "" : "\n") + text + ": " + one.field;
    out.causes.push_back({one.field, text, "FieldManagerConflict"});
  }
  const std::string count = std::to_string(conflicts.size()) + (conflicts.size() == 1 ? " conflict" : " conflicts");
  out.message = "Apply failed with " + count + ": " + list;
  return out;
}

// What a configuration would own: as it is stored, but without what storing fills in.
Json owned_form(const Json& configuration) {
  Json out = configuration;
  const bool typed = find(out, "type");
  ObjectKey key;
  if (normalize(out, key) && key.kind->kind == "Secret" && !typed) out.erase("type");
  return out;
}

void set_status(Json& object, const Json* status) {
  if (!object.is_object()) return;
  if (status) {
    object["status"] = *status;
  } else {
    object.erase("status");
  }
}

bool is_immutable(const Json& object) {
  const Json* flag = find(object, "immutable");
  return flag && flag->is_boolean() && flag->get<bool>();
}

}  // namespace

struct Editor::Job {
  Edit edit;
  int attempts = 0;
  EditResult result;
};

// A file as it is now.
struct Editor::Source {
  std::optional<std::string> content;  // nothing: there is no such file
  std::optional<ManifestText> text;
  std::string problem;  // why it can't be read

  // The place of the object in the file.
  std::optional<size_t> find(const ObjectKey& wanted) const {
    for (size_t i = 0; text && i < text->size(); ++i) {
      Json object = text->object(i);
      ObjectKey key;
      if (normalize(object, key) && key == wanted) return i;
    }
    return std::nullopt;
  }
};

struct Editor::Plan {
  ObjectKey key;
  bool write = false;  // else: the result is complete
  FileChange change;
};

Editor::Editor(event::Loop& loop, ObjectStore& store, std::string root, std::string system_namespace, Host& host)
    : loop_(loop),
      store_(store),
      root_(std::move(root)),
      single_file_(!is_directory(root_)),
      system_namespace_(std::move(system_namespace)),
      host_(host),
      writer_(loop, single_file_ ? (root_.find('/') == std::string::npos ? "." : root_.substr(0, root_.rfind('/') + 1))
                                 : root_),
      random_(loop.wall_us()) {
  remove_leftovers(single_file_ ? std::string() : root_);
}

Editor::~Editor() = default;

std::string Editor::path_of(const ObjectKey& key) const {
  if (single_file_) return root_;
  std::string path = root_ + "/" + std::string(key.kind->plural) + "/";
  if (!key.ns.empty() && key.ns != system_namespace_) path += key.ns + "/";
  return path + key.name + ".yaml";
}

void Editor::submit(Edit edit) {
  auto job = std::make_shared<Job>();
  job->edit = std::move(edit);
  if (waiting_.size() >= kMaxWaiting) {
    job->result.error = too_many_requests("too many changes are waiting");
    return finish(*job, std::move(job->result));
  }
  waiting_.push_back(std::move(job));
  run();
}

void Editor::reload(const std::vector<std::string>& paths) {
  changed_meanwhile_.insert(paths.begin(), paths.end());
  run();
}

void Editor::run() {
  if (running_) return;
  running_ = true;
  while (!busy_ && (!waiting_.empty() || !changed_meanwhile_.empty())) {
    const std::set<std::string> changed = std::move(changed_meanwhile_);
    changed_meanwhile_.clear();
    for (const std::string& path : changed) reload_now(path);
    if (waiting_.empty()) break;
    const std::shared_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    start(job);
  }
  running_ = false;
}

// Reads a file and takes what is in it into the store.
Editor::Source Editor::load(const std::string& path) {
  Source out;
  struct stat info;
  if (::stat(path.c_str(), &info) != 0 && errno == ENOENT && !exists(path)) {
    store_.remove(path);
    return out;
  }
  Result<std::string> content = source::read_file(path, kMaxFile);
  if (!content.ok()) {
    out.problem = content.error().message;
    out.content.emplace();
    return out;
  }
  Result<ManifestText> text = ManifestText::parse(*content, path.ends_with(".json"));
  out.content = std::move(*content);
  if (!text.ok()) {
    out.problem = "can't be read: " + text.error().message;
    return out;
  }
  store_.absorb(path, *text);
  out.text = std::move(*text);
  return out;
}

void Editor::reload_now(const std::string& path) { (void)load(path); }

void Editor::start(const std::shared_ptr<Job>& job) {
  job->result = {};
  auto next = std::make_shared<Plan>();
  job->result.error = plan(*job, *next);
  if (job->result.error || !next->write) return finish(*job, std::move(job->result));
  busy_ = true;
  writer_.submit(next->change, [this, job, next](FileResult result) {
    busy_ = false;
    on_written(job, *next, std::move(result));
    run();
  });
}

void Editor::on_written(const std::shared_ptr<Job>& job, const Plan& plan, FileResult result) {
  const std::string& path = plan.change.path;
  if (result.outcome == FileResult::Outcome::kStale) {
    if (++job->attempts < kMaxAttempts) {
      waiting_.push_front(job);
      return;
    }
    job->result.error = conflict(subject_of(plan.key), "the file " + path + " is being changed by others; try again");
    return finish(*job, std::move(job->result));
  }
  reload_now(path);
  if (result.outcome == FileResult::Outcome::kFailed) {
    job->result.error = internal_error("the change could not be written: " + result.error);
    log::error("kube-api", result.error);
    return finish(*job, std::move(job->result));
  }
  const std::vector<std::string> paths = {path};
  if (plan.change.content) {
    host_.on_files_written(paths, {});
  } else {
    host_.on_files_written({}, paths);
  }
  if (job->edit.verb == Edit::Verb::kDelete) {
    if (plan.key.kind->plural == "namespaces") store_.forget_namespace(plan.key.name);
    if (store_.find(plan.key)) {
      // Another file has it too.
      job->edit.expected_uid.clear();
      job->edit.expected_version.clear();
      waiting_.push_front(job);
      return;
    }
  }
  static constexpr const char* kDone[] = {"created ", "changed ", "changed ", "deleted "};
  log::info("kube-api", kDone[static_cast<size_t>(job->edit.verb)] + std::string(plan.key.kind->kind) + " " +
                            (plan.key.ns.empty() ? "" : plan.key.ns + "/") + plan.key.name + " in " + path);
  if (job->edit.verb != Edit::Verb::kDelete) {
    // Its version is known only now.
    if (const StoredObject* stored = store_.find(plan.key)) {
      job->result.object = with_version(*plan.key.kind, *stored->text, stored->version);
    }
  }
  finish(*job, std::move(job->result));
}

void Editor::finish(Job& job, EditResult result) {
  const auto done = std::move(job.edit.done);
  if (done) done(std::move(result));
}

std::optional<ApiError> Editor::plan(Job& job, Plan& out) {
  out.key = job.edit.key;
  if (job.edit.verb == Edit::Verb::kDelete) return plan_delete(job, out);
  return job.edit.verb == Edit::Verb::kCreate ? plan_create(job, out) : plan_change(job, out);
}

std::optional<ApiError> Editor::plan_create(Job& job, Plan& out) {
  const Edit& edit = job.edit;
  const KindInfo& info = *edit.key.kind;
  Result<Json> parsed = parse_json(edit.body);
  if (!parsed.ok()) return bad_request("the body of the request " + parsed.error().message);
  Json object = std::move(*parsed);
  if (info.has_status_subresource()) set_status(object, nullptr);
  const Json given = object;
  if (auto error = check_given(info, object, edit.validation, job.result.warnings)) return error;
  Json& metadata = object["metadata"];
  if (!metadata.is_object()) metadata = Json::object();
  if (info.namespaced) {
    const std::string ns = text_of(metadata, "namespace");
    if (!ns.empty() && ns != edit.key.ns) {
      return bad_request("the namespace of the provided object does not match the namespace sent on the request");
    }
    metadata["namespace"] = edit.key.ns;
  }
  if (text_of(metadata, "name").empty() && !text_of(metadata, "generateName").empty()) {
    static constexpr std::string_view kLetters = "bcdfghjklmnpqrstvwxz2456789";
    std::string name = text_of(metadata, "generateName");
    for (int i = 0; i < 5; ++i) name += kLetters[random_.below(kLetters.size())];
    metadata["name"] = name;
  }
  out.key.name = text_of(metadata, "name");
  if (out.key.name.empty()) {
    return invalid(subject_of(out.key), {{"metadata.name", "Required value: name or generateName is required"}});
  }
  if (!text_of(metadata, "resourceVersion").empty()) {
    return bad_request("resourceVersion should not be set on objects to be created");
  }
  char uid[40];
  std::snprintf(uid, sizeof(uid), "%08x-%04x-4%03x-%04x-%08x%04x", random_.below(UINT32_MAX), random_.below(0x10000),
                random_.below(0x1000), 0x8000 + random_.below(0x4000), random_.below(UINT32_MAX),
                random_.below(0x10000));
  metadata["uid"] = uid;
  metadata["creationTimestamp"] = time_text(loop_.wall_us() / 1'000'000);
  if (!info.group.empty()) metadata["generation"] = 1;
  ObjectKey key;
  if (!normalize(object, key)) {
    return invalid(subject_of(out.key), {{"metadata.name", "Invalid value: " + resource::in_quotes(out.key.name) +
                                                               ": should be lower-case letters, digits, '-' and '.'"}});
  }
  metadata.erase("managedFields");
  if (edit.verb == Edit::Verb::kPatch) {
    ManagedFields managed(metadata, info.kind);
    managed.apply(edit.manager, info.api_version(), time_text(loop_.wall_us() / 1'000'000), object, owned_form(given),
                  object);
    managed.store(metadata);
    if (depth_of(object) > kMaxDepth) return invalid(subject_of(key), {{"metadata.managedFields", kTooDeep}});
  }
  if (auto error = check_object(key, object, job.result.warnings)) return error;
  const std::string path = path_of(key);
  const Source source = load(path);
  const StoredObject* there = store_.find(key);
  if (there) return already_exists(subject_of(key));
  if (store_.size() >= kMaxObjects) return too_many_requests("there are too many objects");
  if (!source.problem.empty())
    return conflict(subject_of(key), "the file " + path + " is in the way: it " + source.problem);
  job.result.created = true;
  job.result.object = with_version(info, text_of_object(info, object), store_.version() + 1);
  job.result.uid = uid;
  if (edit.dry_run) return std::nullopt;
  metadata["resourceVersion"] = std::to_string(store_.version() + 1);
  Result<std::string> text = source.text ? source.text->appended(object) : Result<std::string>(to_yaml(object));
  if (!text.ok()) return conflict(subject_of(key), "the file " + path + " is in the way: " + text.error().message);
  out.write = true;
  out.change = {path, source.content, std::move(*text), info.kind == "Secret"};
  return std::nullopt;
}

std::optional<ApiError> Editor::plan_change(Job& job, Plan& out) {
  const Edit& edit = job.edit;
  const StoredObject* current = store_.find(edit.key);
  Source source;
  if (current && !current->file.empty()) {
    source = load(std::string(current->file));
    current = store_.find(edit.key);
  }
  if (!current) {
    if (edit.verb != Edit::Verb::kPatch || edit.patch != PatchType::kApply) return not_found(subject_of(edit.key));
    Result<Json> body = parse_json(edit.body);
    if (!body.ok()) return bad_request("the body of the request " + body.error().message);
    if (body->is_object() && (*body)["metadata"].is_object()) {
      (*body)["metadata"]["name"] = edit.key.name;
      job.edit.body = to_text(*body);
    }
    return plan_create(job, out);
  }
  const std::string file = current->file;
  if (file.empty()) {
    return forbidden(subject_of(edit.key), "it is in no file: it is there because objects are in it");
  }
  if (!source.problem.empty()) {
    return conflict(subject_of(edit.key), "its file " + file + " " + source.problem + "; correct it by hand first");
  }
  const auto place = source.find(edit.key);
  if (!place) return conflict(subject_of(edit.key), "it moved to another file; try again");
  const Json now = Json::parse(with_version(*edit.key.kind, *current->text, current->version), nullptr, false);
  Json next;
  if (auto error = changed_object(job, now, next)) return error;
  const bool same = text_of_object(*edit.key.kind, next) == *current->text;
  job.result.object = with_version(*edit.key.kind, text_of_object(*edit.key.kind, next), current->version);
  if (same || edit.dry_run) return std::nullopt;
  next["metadata"]["resourceVersion"] = std::to_string(store_.version() + 1);
  Result<std::string> text = source.text->replaced(*place, next);
  if (!text.ok()) return conflict(subject_of(edit.key), "it can't be changed in " + file + ": " + text.error().message);
  out.write = true;
  out.change = {file, source.content, std::move(*text), false};
  return std::nullopt;
}

// The object as it is to be, checked and normalised.
std::optional<ApiError> Editor::changed_object(Job& job, const Json& now, Json& next) {
  const Edit& edit = job.edit;
  const KindInfo& info = *edit.key.kind;
  const Subject subject = subject_of(edit.key);
  Result<Json> body = parse_json(edit.body);
  if (!body.ok()) return bad_request("the body of the request " + body.error().message);
  if (edit.verb == Edit::Verb::kUpdate) {
    next = std::move(*body);
  } else {
    next = now;
    const bool applies = edit.patch == PatchType::kApply;
    if (auto error = applies ? apply_configuration_of(edit, now, *body, next) : patch(edit, *body, next)) return error;
  }
  if (info.has_status_subresource() && edit.status_only) {
    // The version that the client has seen still counts.
    Json wanted = std::exchange(next, now);
    set_status(next, find(wanted, "status"));
    const Json* given = find(wanted, "metadata");
    if (given && find(*given, "resourceVersion")) next["metadata"]["resourceVersion"] = (*given)["resourceVersion"];
  } else if (info.has_status_subresource()) {
    set_status(next, find(now, "status"));
  }
  if (auto error = check_given(info, next, edit.validation, job.result.warnings, &now)) return error;
  Json& metadata = next["metadata"];
  if (!metadata.is_object()) metadata = Json::object();
  const Json& old = *find(now, "metadata");
  if (text_of(metadata, "name") != edit.key.name) {
    return bad_request("the name of the object (" + text_of(metadata, "name") +
                       ") does not match the name on the URL (" + edit.key.name + ")");
  }
  if (info.namespaced && find(metadata, "namespace") && text_of(metadata, "namespace") != edit.key.ns) {
    return bad_request("the namespace of the object does not match the namespace on the URL");
  }
  const std::string version = text_of(metadata, "resourceVersion"), uid = text_of(metadata, "uid");
  if (version.empty() && info.custom && edit.verb == Edit::Verb::kUpdate) {
    return invalid(subject, {{"metadata.resourceVersion", "Invalid value: 0: must be specified for an update"}});
  }
  if (!version.empty() && version != text_of(old, "resourceVersion")) return conflict(subject);
  if (!uid.empty() && uid != text_of(old, "uid")) {
    return conflict(
        subject, "Precondition failed: UID in precondition: " + uid + ", UID in object meta: " + text_of(old, "uid"));
  }
  if (info.namespaced) metadata["namespace"] = edit.key.ns;
  for (const char* kept : {"uid", "creationTimestamp", "generation"}) {
    if (const Json* value = find(old, kept)) {
      metadata[kept] = *value;
    } else {
      metadata.erase(kept);
    }
  }
  ObjectKey key;
  if (edit.patch != PatchType::kApply || edit.verb != Edit::Verb::kPatch) {
    metadata.erase("managedFields");
    normalize(next, key);
    ManagedFields managed(old, info.kind);
    managed.update(edit.manager, info.api_version(), time_text(loop_.wall_us() / 1'000'000), now, next);
    managed.store(metadata);
  } else {
    normalize(next, key);
  }
  if (depth_of(next) > kMaxDepth) return invalid(subject, {{"metadata.managedFields", kTooDeep}});
  const bool changed = substance(next) != substance(now);
  if (changed && !info.group.empty()) {
    const Json* generation = find(old, "generation");
    metadata["generation"] = (generation && generation->is_number_integer() ? generation->get<int64_t>() : 1) + 1;
  }
  if (changed && is_immutable(now)) {
    return invalid(subject, {{"data", "Forbidden: field is immutable when `immutable` is set"}});
  }
  if (info.kind == "Secret" && text_of(next, "type") != text_of(now, "type")) {
    return invalid(subject,
                   {{"type", "Invalid value: " + resource::in_quotes(text_of(next, "type")) + ": field is immutable"}});
  }
  return check_object(edit.key, next, job.result.warnings);
}

// Server-side apply: merges, takes out what the manager applied earlier and doesn't any more, and keeps account of who
// owns what.
std::optional<ApiError> Editor::apply_configuration_of(const Edit& edit, const Json& now, Json& configuration,
                                                       Json& next) {
  const KindInfo& info = *edit.key.kind;
  const Subject subject = subject_of(edit.key);
  if (Json* metadata =
          configuration.is_object() && configuration["metadata"].is_object() ? &configuration["metadata"] : nullptr) {
    metadata->erase("managedFields");
  }
  const Json owned = owned_form(configuration);
  ManagedFields managed(*find(now, "metadata"), info.kind);
  if (const auto conflicts = managed.conflicts(edit.manager, now, owned); !conflicts.empty() && !edit.force) {
    return apply_conflict(subject, conflicts);
  }
  if (Status done = apply_configuration(next, configuration, info.kind); !done.ok()) {
    return invalid(subject, {{{}, done.error().message}});
  }
  if (!next["metadata"].is_object()) return bad_request("metadata should be an object");
  ObjectKey key;
  normalize(next, key);
  if (!managed.apply(edit.manager, info.api_version(), time_text(loop_.wall_us() / 1'000'000), now, owned, next)) {
    return invalid(subject,
                   {{"metadata.managedFields",
                     "Too many: may not have more than " + std::to_string(ManagedFields::kMaxManagers) + " managers"}});
  }
  managed.store(next["metadata"]);
  return std::nullopt;
}

std::optional<ApiError> Editor::plan_delete(Job& job, Plan& out) {
  const Edit& edit = job.edit;
  const Subject subject = subject_of(edit.key);
  const StoredObject* current = store_.find(edit.key);
  Source source;
  if (current && !current->file.empty()) {
    source = load(std::string(current->file));
    current = store_.find(edit.key);
  }
  if (!current) return not_found(subject);
  const bool is_namespace = edit.key.kind->plural == "namespaces";
  if (is_namespace && store_.is_permanent(edit.key.name))
    return forbidden(subject, "this namespace may not be deleted");
  job.result.object = with_version(*edit.key.kind, *current->text, current->version);
  const Json now = Json::parse(job.result.object, nullptr, false);
  job.result.uid = text_of(*find(now, "metadata"), "uid");
  if (!edit.expected_uid.empty() && edit.expected_uid != job.result.uid) {
    return conflict(subject, "Precondition failed: UID in precondition: " + edit.expected_uid +
                                 ", UID in object meta: " + job.result.uid);
  }
  if (!edit.expected_version.empty() && edit.expected_version != std::to_string(current->version)) {
    return conflict(subject, "Precondition failed: ResourceVersion in precondition: " + edit.expected_version +
                                 ", ResourceVersion in object meta: " + std::to_string(current->version));
  }
  if (edit.dry_run) return std::nullopt;
  const std::string file = current->file;
  if (file.empty()) {
    store_.forget_namespace(edit.key.name);
    return std::nullopt;
  }
  if (!source.problem.empty()) {
    return conflict(subject, "its file " + file + " " + source.problem + "; correct it by hand first");
  }
  const auto place = source.find(edit.key);
  if (!place) return conflict(subject, "it moved to another file; try again");
  Result<std::string> text = source.text->removed(*place);
  if (!text.ok()) return conflict(subject, "it can't be removed from " + file + ": " + text.error().message);
  out.write = true;
  out.change = {file, source.content, std::nullopt, false};
  if (!text->empty() || single_file_) out.change.content = std::move(*text);
  return std::nullopt;
}

}  // namespace sluice::api::kube
