#pragma once
// Editor: changes objects in the files of the configuration directory, one change after the other.
//
// A change reads the object's file again first, so that what somebody has just edited by hand is not lost; then it is
// checked, written durably (FileWriter), taken into the store and given to the gateway, and only then reported as done:
// requests that begin afterwards are served by it.
//
// Where an object goes: one that is in a file already is changed there; a new one of the system namespace, or of a kind
// without namespaces, gets <plural>/<name>.yaml, where Higress's standalone mode reads it; one of another namespace
// <plural>/<namespace>/<name>.yaml. If the configuration is a single file, everything goes there.

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/kube/errors.h"
#include "api/kube/file_writer.h"
#include "api/kube/object_store.h"
#include "api/kube/validate.h"
#include "base/random.h"

namespace sluice::api::kube {

enum class PatchType { kJson, kMerge, kStrategic, kApply };

struct EditResult {
  std::optional<ApiError> error;
  bool created = false;
  std::string object;  // as a client gets it; of a deleted one its last state
  std::string uid;
  std::vector<std::string> warnings;
};

struct Edit {
  enum class Verb { kCreate, kUpdate, kPatch, kDelete } verb = Verb::kCreate;
  ObjectKey key;     // of kCreate: without a name, which the body says
  std::string body;  // JSON
  PatchType patch = PatchType::kMerge;
  bool dry_run = false;
  bool status_only = false;  // of kinds with that subresource: nothing but the status is changed; else: all but it
  std::string manager;       // who changes it
  bool force = false;        // kApply: takes fields from those who own them
  FieldValidation validation = FieldValidation::kWarn;
  // kDelete: what the object must be; empty: anything.
  std::string expected_uid, expected_version;
  std::function<void(EditResult)> done;
};

class Editor {
 public:
  static constexpr size_t kMaxWaiting = 1000;
  static constexpr size_t kMaxObjects = 200'000;

  class Host {
   public:
    // These files have been written or removed: the gateway should act on them before this returns.
    virtual void on_files_written(const std::vector<std::string>& changed, const std::vector<std::string>& removed) = 0;

   protected:
    ~Host() = default;
  };

  // `root`: the directory as the paths of files begin, or the one file. `host` outlives this.
  Editor(event::Loop& loop, ObjectStore& store, std::string root, std::string system_namespace, Host& host);
  ~Editor();

  // Calls edit.done, now or later.
  void submit(Edit edit);
  // These files may have changed.
  void reload(const std::vector<std::string>& paths);

 private:
  struct Job;
  struct Source;
  struct Plan;

  void run();
  void start(const std::shared_ptr<Job>& job);
  void on_written(const std::shared_ptr<Job>& job, const Plan& plan, FileResult result);
  Source load(const std::string& path);
  void reload_now(const std::string& path);
  std::string path_of(const ObjectKey& key) const;

  std::optional<ApiError> plan(Job& job, Plan& out);
  std::optional<ApiError> plan_create(Job& job, Plan& out);
  std::optional<ApiError> plan_change(Job& job, Plan& out);
  std::optional<ApiError> plan_delete(Job& job, Plan& out);
  std::optional<ApiError> changed_object(Job& job, const Json& now, Json& next);
  std::optional<ApiError> apply_configuration_of(const Edit& edit, const Json& now, Json& configuration, Json& next);
  void finish(Job& job, EditResult result);

  event::Loop& loop_;
  ObjectStore& store_;
  const std::string root_;
  const bool single_file_;
  const std::string system_namespace_;
  Host& host_;
  FileWriter writer_;
  Random random_;
  std::deque<std::shared_ptr<Job>> waiting_;
  std::set<std::string> changed_meanwhile_;
  bool running_ = false;  // run() is on the stack
  bool busy_ = false;     // a file is being written
};

}  // namespace sluice::api::kube
