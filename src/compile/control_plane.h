#pragma once
// ControlPlane: files to snapshots. Store and Compiler behind one door, used alike by `sluice
// check`, `sluice explain` and the running gateway.
//
//   ControlPlane control(options);
//   auto update = control.apply(source::load_files(directory.files(), 2), {});  // once
//   … publish update.snapshot, log update.diagnostics
//   update = control.apply(source::load_files(changes.changed, 2), changes.removed);  // whenever
//   the Directory reports
//
// Not thread-safe; belongs to the control thread.

#include <memory>
#include <string>
#include <vector>

#include "compile/compiler.h"
#include "resource/diagnostic.h"
#include "resource/store.h"

namespace sluice::compile {

struct Update {
  Compiler::SnapshotPointer snapshot;
  // What is wrong with the files and objects that this update touched.
  resource::Diagnostics diagnostics;
  size_t changed_objects = 0;
};

// One object as the admin port tells of it.
struct ObjectStatus {
  resource::ObjectKey key;
  std::string file;
  uint32_t line = 0;
  resource::Diagnostics diagnostics;
};

class ControlPlane {
 public:
  explicit ControlPlane(Options options);

  // Takes files that were read and parsed (source/files.h), and names of files that are gone.
  Update apply(std::vector<resource::ParsedFile> changed, const std::vector<std::string>& removed);

  // As Compiler's; each returns a new snapshot at once. Unchanged input returns the snapshot in
  // force.
  Compiler::SnapshotPointer set_resolved(const std::string& name, std::vector<net::Address> addresses);
  Compiler::SnapshotPointer set_health(const std::string& cluster, const net::Address& endpoint, bool healthy);
  std::vector<std::string> dns_names() const { return compiler_.dns_names(); }

  Compiler::SnapshotPointer snapshot() const { return compiler_.snapshot(); }
  const resource::Store& store() const { return store_; }
  const Compiler& compiler() const { return compiler_; }

  // Everything that is wrong now: in files, in objects, between objects.
  resource::Diagnostics diagnostics() const;
  // Every object in force with what is wrong with it, sorted by key.
  std::vector<ObjectStatus> status() const;

 private:
  resource::Store store_;
  Compiler compiler_;
};

}  // namespace sluice::compile
