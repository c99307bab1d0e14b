#pragma once
// Directory: a tree of manifest files, watched by inotify.
//
// It says which files there are and which of them changed; it does not read them. Driven from
// outside: when fd() is readable call on_readable(), when deadline() has come (or was already
// there) call take().
//
// When a change is reported:
//   - a file closed after writing, renamed into place, or linked: at once;
//   - a file that is being written and not closed: when it has been quiet for kQuietMs;
//   - a file that vanished: after kGraceMs, because editors and deploy tools move the old file away
//   before they put the
//     new one in place; a file that is back by then is a change and no removal.
// Hidden files and editors' temporary files are no manifests (source/files.h). Symbolic links are
// followed, to files and to directories; the directories that a link's target goes through are
// watched too, so that the `..data` swap of a ConfigMap mount and a swapped release link are
// noticed. The root may itself be a link, and may be a single file.
//
// When the root vanishes nothing is reported as removed: the last state stays, `problems()` says
// so, and the tree is read anew when the root is back. The same holds for a directory that can't be
// read. If events were lost, or a directory can't be watched, the tree is compared by inode, size
// and time of change (every kPollMs in the latter case).
//
// Bounds: kMaxDepth levels of directories, kMaxFiles files; what exceeds them is reported and left
// out.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "resource/diagnostic.h"

namespace sluice::source {

class Directory {
 public:
  static constexpr uint64_t kQuietMs = 50;
  static constexpr uint64_t kGraceMs = 50;
  static constexpr uint64_t kPollMs = 1000;
  static constexpr int kMaxDepth = 32;
  static constexpr size_t kMaxFiles = 200'000;

  struct Changes {
    std::vector<std::string> changed;  // new or different; sorted
    std::vector<std::string> removed;  // sorted
    bool empty() const { return changed.empty() && removed.empty(); }
  };

  // Reads the tree and starts to watch it. Fails if the root is neither a directory nor a file, or
  // can't be read.
  static Result<std::unique_ptr<Directory>> open(const std::string& root);
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  // All manifest files, sorted, as the root was given: "conf/a.yaml".
  std::vector<std::string> files() const;

  int fd() const { return inotify_; }
  // Reads all pending events. `now_ms` is a monotonic clock's.
  void on_readable(uint64_t now_ms);
  // When take() has something to do; nothing if there is nothing to wait for.
  std::optional<uint64_t> deadline() const;
  Changes take(uint64_t now_ms);

  // What can't be read or watched at the moment.
  const resource::Diagnostics& problems() const { return tree_.problems; }

 private:
  struct FileState {
    uint64_t device = 0, inode = 0, size = 0;
    int64_t changed_ns = 0;  // mtime
    bool operator==(const FileState&) const = default;
  };
  struct Dir {
    int watch = -1;
    uint64_t device = 0, inode = 0;
    std::map<std::string, FileState> files;
    bool unreadable = false;
  };
  struct Tree {
    std::map<std::string, Dir> dirs;                             // by path
    std::unordered_map<int, std::vector<std::string>> by_watch;  // one inode may be reached by several paths
    std::unordered_map<int, std::set<std::string>> links;        // names whose change may change a link's target
    size_t file_count = 0;
    bool unwatched = false;  // some directory can't be watched
    resource::Diagnostics problems;
  };

  explicit Directory(std::string root);

  // Reading.
  bool walk_root(Tree& tree);
  void walk(Tree& tree, const std::string& path, int depth, std::vector<std::pair<uint64_t, uint64_t>>& ancestors);
  void add_entry(Tree& tree, Dir& dir, const std::string& path, const std::string& name, unsigned char type,
                 std::vector<std::string>& subdirs);
  int watch(Tree& tree, const std::string& path, bool of_manifests);
  void watch_links(Tree& tree, const std::string& path);
  void problem(Tree& tree, const std::string& path, std::string message);

  // Changing.
  void on_event(int watch, uint32_t mask, const std::string& name, uint64_t now_ms);
  void on_entry(const std::string& dir, uint32_t mask, const std::string& name, uint64_t now_ms);
  void later(const std::string& path, uint64_t due, bool force);
  void forget(const std::string& dir, uint64_t now_ms);
  void add_directory(const std::string& path, uint64_t now_ms);
  void rescan(uint64_t now_ms);
  void keep_unreadable(Tree& fresh) const;
  void settle(const std::string& path, bool force, Changes& out);

  struct Pending {
    uint64_t due;
    bool force;  // report it even if it looks the same
  };

  std::string root_;  // without trailing slashes
  std::string only_;  // the root is a file: its name; tree_ then has its directory only
  int inotify_ = -1;
  Tree tree_;
  std::map<std::string, Pending> pending_;
  std::optional<uint64_t> rescan_due_;
  bool events_lost_ = false;
};

}  // namespace sluice::source
