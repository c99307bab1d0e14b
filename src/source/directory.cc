#include "source/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "source/files.h"

namespace sluice::source {
namespace {

// What is told of a directory of manifests, and of one that only holds links or the root. The
// latter may be anybody's, with files that are written all the time: of those only the end of
// writing.
constexpr uint32_t kPlainEvents =
    IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF;
constexpr uint32_t kEvents = kPlainEvents | IN_MODIFY | IN_ATTRIB;

std::string join(const std::string& dir, const std::string& name) {
  if (dir.empty()) return name;
  return dir.back() == '/' ? dir + name : dir + "/" + name;
}

std::string parent_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == path.npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == path.npos ? path : path.substr(slash + 1);
}

int64_t mtime_ns(const struct stat& info) { return info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec; }

bool is_hidden(const std::string& name) { return name[0] == '.'; }

bool was_just_written(int64_t changed_ns) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t age = now.tv_sec * 1'000'000'000LL + now.tv_nsec - changed_ns;
  return age >= 0 && age < static_cast<int64_t>(Directory::kQuietMs) * 1'000'000;
}

}  // namespace

Directory::Directory(std::string root) : root_(std::move(root)) {
  while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
}

Directory::~Directory() {
  if (inotify_ >= 0) close(inotify_);
}

Result<std::unique_ptr<Directory>> Directory::open(const std::string& root) {
  std::unique_ptr<Directory> out(new Directory(root));
  struct stat info;
  if (stat(root.c_str(), &info) != 0) return Error{root + ": " + strerror(errno)};
  if (S_ISREG(info.st_mode)) {
    out->only_ = name_of(out->root_);
  } else if (!S_ISDIR(info.st_mode)) {
    return Error{root + ": is neither a directory nor a file"};
  }
  out->inotify_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (out->inotify_ < 0) return Error{std::string("cannot watch files: inotify: ") + strerror(errno)};
  if (!out->walk_root(out->tree_)) return Error{out->tree_.problems.back().render()};
  if (out->tree_.unwatched) out->rescan_due_ = 0;
  return out;
}

std::vector<std::string> Directory::files() const {
  std::vector<std::string> out;
  out.reserve(tree_.file_count);
  for (const auto& [path, dir] : tree_.dirs) {
    for (const auto& [name, state] : dir.files) out.push_back(only_.empty() ? join(path, name) : root_);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// --- reading ---

void Directory::problem(Tree& tree, const std::string& path, std::string message) {
  constexpr size_t kMost = 1000;
  if (tree.problems.size() < kMost) {
    tree.problems.push_back({resource::Severity::kError, path, 0, 0, {}, {}, std::move(message)});
  }
}

int Directory::watch(Tree& tree, const std::string& path, bool of_manifests) {
  int watch =
      inotify_add_watch(inotify_, path.c_str(), (of_manifests ? kEvents : kPlainEvents) | IN_ONLYDIR | IN_MASK_ADD);
  if (watch < 0 && errno != ENOENT && errno != ENOTDIR) {
    std::string reason = errno == ENOSPC ? "the limit fs.inotify.max_user_watches is reached" : strerror(errno);
    if (!tree.unwatched) problem(tree, path, "cannot be watched: " + reason + "; changes are looked for every second");
    tree.unwatched = true;
  }
  return watch;
}

// Watches the directories that hold the links on the way of `path` to what it stands for, and the
// directory of the end.
void Directory::watch_links(Tree& tree, const std::string& path) {
  constexpr int kMaxLinks = 40;
  std::string at = path;
  for (int hop = 0; hop < kMaxLinks; ++hop) {
    // The first component that is a link, from the left.
    size_t end = 0;
    std::string link;
    char target[PATH_MAX];
    ssize_t length = -1;
    while (end != at.npos) {
      end = at.find('/', end + 1);
      link = at.substr(0, end);
      if (link.empty()) continue;
      length = readlink(link.c_str(), target, sizeof(target));
      if (length > 0) break;
    }
    if (length <= 0) {
      int watched = watch(tree, parent_of(at), false);
      if (watched >= 0) tree.links[watched].insert(name_of(at));
      return;
    }
    int watched = watch(tree, parent_of(link), false);
    if (watched >= 0) tree.links[watched].insert(name_of(link));
    std::string rest = end == at.npos ? std::string() : at.substr(end);
    std::string to(target, static_cast<size_t>(length));
    at = (to[0] == '/' ? to : join(parent_of(link), to)) + rest;
  }
}

bool Directory::walk_root(Tree& tree) {
  watch_links(tree, root_);
  std::vector<std::pair<uint64_t, uint64_t>> ancestors;
  struct stat info;
  if (!only_.empty()) {
    if (stat(root_.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      problem(tree, root_, std::string("cannot be read: ") + strerror(errno));
      return false;
    }
    std::string parent = parent_of(root_);
    Dir& dir = tree.dirs[parent];
    dir.watch = watch(tree, parent, false);
    if (dir.watch >= 0) tree.by_watch[dir.watch].push_back(parent);
    dir.files[only_] = {info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size), mtime_ns(info)};
    tree.file_count = 1;
    return true;
  }
  walk(tree, root_, 0, ancestors);
  auto at = tree.dirs.find(root_);
  return at != tree.dirs.end() && !at->second.unreadable;
}

void Directory::walk(Tree& tree, const std::string& path, int depth,
                     std::vector<std::pair<uint64_t, uint64_t>>& ancestors) {
  if (depth > kMaxDepth) {
    return problem(tree, path, "is left out: deeper than " + std::to_string(kMaxDepth) + " directories");
  }
  // The watch comes before the listing: what appears in between is seen twice rather than never.
  int watched = watch(tree, path, true);
  DIR* listing = opendir(path.c_str());
  int error = errno;
  struct stat info;
  if (!listing || fstat(dirfd(listing), &info) != 0) {
    if (listing) closedir(listing);
    if (error == ENOENT && path != root_) return;  // gone meanwhile
    tree.dirs[path].unreadable = true;
    return problem(tree, path, std::string("cannot be read: ") + strerror(error));
  }
  std::pair<uint64_t, uint64_t> identity(info.st_dev, info.st_ino);
  if (std::find(ancestors.begin(), ancestors.end(), identity) != ancestors.end()) {
    closedir(listing);
    return problem(tree, path, "is left out: the link leads back to a directory above it");
  }
  Dir& dir = tree.dirs[path];
  dir.watch = watched;
  dir.device = info.st_dev;
  dir.inode = info.st_ino;
  if (watched >= 0) {
    auto& paths = tree.by_watch[watched];
    if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
  }
  std::vector<std::string> subdirs;
  while (const dirent* entry = readdir(listing)) add_entry(tree, dir, path, entry->d_name, entry->d_type, subdirs);
  closedir(listing);
  ancestors.push_back(identity);
  for (const std::string& name : subdirs) walk(tree, join(path, name), depth + 1, ancestors);
  ancestors.pop_back();
}

void Directory::add_entry(Tree& tree, Dir& dir, const std::string& path, const std::string& name, unsigned char type,
                          std::vector<std::string>& subdirs) {
  if (is_hidden(name)) return;
  bool manifest = is_manifest_name(name);
  if (type == DT_DIR) return subdirs.push_back(name);
  if (!manifest && type == DT_REG) return;
  std::string full = join(path, name);
  struct stat info;
  if (type == DT_LNK || type == DT_UNKNOWN) {
    if (type == DT_LNK) watch_links(tree, full);
  } else if (type != DT_REG) {
    return;
  }
  if (stat(full.c_str(), &info) != 0) {
    if (errno != ENOENT || type == DT_LNK) {
      if (manifest) problem(tree, full, std::string("cannot be read: ") + strerror(errno));
    }
    return;
  }
  if (S_ISDIR(info.st_mode)) return subdirs.push_back(name);
  if (!manifest || !S_ISREG(info.st_mode)) return;
  if (tree.file_count >= kMaxFiles) {
    if (tree.file_count++ == kMaxFiles) {
      problem(tree, path, "files are left out: there are more than " + std::to_string(kMaxFiles));
    }
    return;
  }
  if (dir.files
          .insert_or_assign(name,
                            FileState{info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size), mtime_ns(info)})
          .second) {
    ++tree.file_count;
  }
}

// --- changing ---

void Directory::on_readable(uint64_t now_ms) {
  alignas(inotify_event) char buffer[65536];
  for (;;) {
    ssize_t n = read(inotify_, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    for (char* p = buffer; p < buffer + n;) {
      auto* event = reinterpret_cast<inotify_event*>(p);
      p += sizeof(inotify_event) + event->len;
      on_event(event->wd, event->mask, event->len ? std::string(event->name) : std::string(), now_ms);
    }
  }
}

void Directory::on_event(int watch, uint32_t mask, const std::string& name, uint64_t now_ms) {
  if (mask & IN_Q_OVERFLOW) {
    rescan_due_ = now_ms;
    events_lost_ = true;
    return;
  }
  auto links = tree_.links.find(watch);
  if (links != tree_.links.end()) {
    constexpr uint32_t kReplaced = IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_DELETE;
    if ((mask & IN_IGNORED) || ((mask & kReplaced) && links->second.contains(name))) {
      // A vanished link may be on its way back.
      bool gone = mask & (IN_MOVED_FROM | IN_DELETE | IN_IGNORED);
      uint64_t due = now_ms + (gone ? kGraceMs : 0);
      rescan_due_ = std::min(rescan_due_.value_or(due), due);
    }
  }
  auto found = tree_.by_watch.find(watch);
  if (found == tree_.by_watch.end()) return;
  if (mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) {
    // The parent's event tells of directories inside the tree; of the root nobody else does.
    for (const std::string& path : found->second) {
      if (path == root_ || !only_.empty()) rescan_due_ = std::min(rescan_due_.value_or(UINT64_MAX), now_ms + kGraceMs);
    }
    return;
  }
  if (name.empty()) return;
  std::vector<std::string> paths = found->second;  // on_entry may change the table
  for (const std::string& path : paths) on_entry(path, mask, name, now_ms);
}

void Directory::on_entry(const std::string& dir, uint32_t mask, const std::string& name, uint64_t now_ms) {
  if (!only_.empty() ? name != only_ : is_hidden(name)) return;
  std::string path = join(dir, name);
  bool directory = (mask & IN_ISDIR) || tree_.dirs.contains(path);
  if (directory && only_.empty()) {
    if (mask & (IN_DELETE | IN_MOVED_FROM)) forget(path, now_ms);
    if (mask & (IN_CREATE | IN_MOVED_TO)) add_directory(path, now_ms);
    if ((mask & IN_ATTRIB) && tree_.dirs[path].unreadable) add_directory(path, now_ms);
    return;
  }
  if (mask & (IN_CREATE | IN_MOVED_TO)) {
    struct stat info;
    if (lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode)) {
      watch_links(tree_, path);
      if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && only_.empty()) return add_directory(path, now_ms);
      later(path, now_ms, true);
    } else if ((mask & IN_MOVED_TO) || info.st_nlink > 1) {
      later(path, now_ms, true);
    } else {
      later(path, now_ms + kQuietMs, false);  // being written: IN_CLOSE_WRITE comes
    }
    return;
  }
  if (mask & IN_CLOSE_WRITE) return later(path, now_ms, true);
  if (mask & (IN_DELETE | IN_MOVED_FROM)) return later(path, now_ms + kGraceMs, false);
  if (mask & (IN_MODIFY | IN_ATTRIB)) {
    auto pending = pending_.find(path);
    bool soon = pending != pending_.end() && pending->second.due <= now_ms;
    if (!soon) later(path, now_ms + kQuietMs, (mask & IN_ATTRIB) != 0);
  }
}

void Directory::later(const std::string& path, uint64_t due, bool force) {
  if (only_.empty() && !is_manifest_name(name_of(path))) return;
  Pending& pending = pending_.try_emplace(path, Pending{due, false}).first->second;
  pending.due = due;
  pending.force |= force;
}

void Directory::forget(const std::string& gone, uint64_t now_ms) {
  std::string prefix = gone + "/";
  for (auto at = tree_.dirs.lower_bound(gone); at != tree_.dirs.end();) {
    const std::string& path = at->first;
    if (path != gone && !path.starts_with(prefix)) {
      if (path > prefix && !path.starts_with(gone)) break;
      ++at;
      continue;
    }
    for (const auto& [name, state] : at->second.files) later(join(path, name), now_ms + kGraceMs, false);
    auto watched = tree_.by_watch.find(at->second.watch);
    if (watched != tree_.by_watch.end()) {
      std::erase(watched->second, path);
      if (watched->second.empty()) {
        if (!tree_.links.contains(watched->first)) inotify_rm_watch(inotify_, watched->first);
        tree_.by_watch.erase(watched);
      }
    }
    // The files stay known until they are reported; an empty husk of the directory holds them.
    at->second.watch = -1;
    if (at->second.files.empty()) {
      at = tree_.dirs.erase(at);
    } else {
      ++at;
    }
  }
}

void Directory::add_directory(const std::string& path, uint64_t now_ms) {
  // Keep what is known of an earlier directory of that name: its files are compared when they are
  // due.
  Tree fresh;
  std::vector<std::pair<uint64_t, uint64_t>> ancestors;
  for (std::string up = parent_of(path); tree_.dirs.contains(up); up = parent_of(up)) {
    ancestors.emplace_back(tree_.dirs[up].device, tree_.dirs[up].inode);
    if (up == root_) break;
  }
  walk(fresh, path, static_cast<int>(ancestors.size()), ancestors);
  for (auto& [dir_path, dir] : fresh.dirs) {
    for (const auto& [name, state] : dir.files) {
      later(join(dir_path, name), now_ms + (was_just_written(state.changed_ns) ? kQuietMs : 0), false);
    }
    Dir& known = tree_.dirs[dir_path];
    known.watch = dir.watch;
    known.device = dir.device;
    known.inode = dir.inode;
    known.unreadable = dir.unreadable;
  }
  for (auto& [watched, paths] : fresh.by_watch) {
    auto& known = tree_.by_watch[watched];
    for (std::string& p : paths) {
      if (std::find(known.begin(), known.end(), p) == known.end()) known.push_back(std::move(p));
    }
  }
  for (auto& [watched, names] : fresh.links) tree_.links[watched].merge(names);
  std::erase_if(tree_.problems, [&](const auto& p) { return p.file == path || p.file.starts_with(path + "/"); });
  tree_.problems.insert(tree_.problems.end(), fresh.problems.begin(), fresh.problems.end());
  if (fresh.unwatched) {
    tree_.unwatched = true;
    rescan_due_ = rescan_due_.value_or(now_ms + kPollMs);
  }
}

std::optional<uint64_t> Directory::deadline() const {
  std::optional<uint64_t> out = rescan_due_;
  for (const auto& [path, pending] : pending_) out = std::min(out.value_or(pending.due), pending.due);
  return out;
}

Directory::Changes Directory::take(uint64_t now_ms) {
  Changes out;
  if (rescan_due_ && *rescan_due_ <= now_ms) {
    rescan_due_.reset();
    rescan(now_ms);
  }
  for (auto at = pending_.begin(); at != pending_.end();) {
    if (at->second.due > now_ms) {
      ++at;
      continue;
    }
    settle(at->first, at->second.force, out);
    at = pending_.erase(at);
  }
  return out;
}

// Compares one path with what is known of it, and reports.
void Directory::settle(const std::string& path, bool force, Changes& out) {
  std::string dir_path = only_.empty() ? parent_of(path) : parent_of(root_);
  auto at = tree_.dirs.find(dir_path);
  if (at == tree_.dirs.end()) return;
  Dir& dir = at->second;
  std::string name = name_of(path);
  const std::string& reported = only_.empty() ? path : root_;
  struct stat info;
  bool exists = stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
  auto known = dir.files.find(name);
  if (!exists) {
    if (known == dir.files.end()) return;
    if (!only_.empty()) return;  // the root: its last state stays
    dir.files.erase(known);
    --tree_.file_count;
    if (dir.files.empty() && dir.watch < 0 && !dir.unreadable) tree_.dirs.erase(at);
    out.removed.push_back(reported);
    return;
  }
  std::erase_if(tree_.problems, [&](const auto& problem) { return problem.file == path; });
  FileState state{info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size), mtime_ns(info)};
  if (known == dir.files.end()) {
    if (tree_.file_count >= kMaxFiles) return problem(tree_, path, "is left out: there are too many files");
    dir.files.emplace(name, state);
    ++tree_.file_count;
  } else {
    if (!force && known->second == state) return;
    known->second = state;
  }
  out.changed.push_back(reported);
}

// Directories that can't be read now keep the files they had.
void Directory::keep_unreadable(Tree& fresh) const {
  std::vector<std::string> unreadable;
  for (const auto& [path, dir] : fresh.dirs) {
    if (dir.unreadable) unreadable.push_back(path);
  }
  for (const std::string& path : unreadable) {
    for (const auto& [old_path, old] : tree_.dirs) {
      if (old_path != path && !old_path.starts_with(path + "/")) continue;
      Dir& kept = fresh.dirs[old_path];
      if (!kept.files.empty()) continue;
      kept.files = old.files;
      fresh.file_count += old.files.size();
    }
  }
}

void Directory::rescan(uint64_t now_ms) {
  Tree fresh;
  bool found = walk_root(fresh);
  if (!found) {
    // The last state stays; look again soon.
    tree_.problems = std::move(fresh.problems);
    for (auto& [watched, names] : fresh.links) tree_.links[watched].merge(names);
    rescan_due_ = now_ms + kPollMs / 5;
    return;
  }
  keep_unreadable(fresh);
  for (const auto& [path, dir] : tree_.dirs) {
    auto now_there = fresh.dirs.find(path);
    for (const auto& [name, state] : dir.files) {
      if (now_there == fresh.dirs.end() || !now_there->second.files.contains(name)) {
        later(join(path, name), now_ms + kGraceMs, false);
      }
    }
  }
  for (auto& [path, dir] : fresh.dirs) {
    auto before = tree_.dirs.find(path);
    for (auto& [name, state] : dir.files) {
      const FileState* known = nullptr;
      if (before != tree_.dirs.end()) {
        if (auto at = before->second.files.find(name); at != before->second.files.end()) known = &at->second;
      }
      if (known && *known == state) continue;
      // Behind a swapped link the new file is complete. A file whose events were lost may still be
      // written.
      bool swapped = known && known->inode != state.inode && !events_lost_;
      later(join(path, name), now_ms + (!swapped && was_just_written(state.changed_ns) ? kQuietMs : 0), false);
    }
  }
  // Watches of what is no longer part of the tree.
  auto drop_unused = [&](const auto& table) {
    for (const auto& [watched, unused] : table) {
      if (!fresh.by_watch.contains(watched) && !fresh.links.contains(watched)) inotify_rm_watch(inotify_, watched);
    }
  };
  drop_unused(tree_.by_watch);
  drop_unused(tree_.links);
  // The old states stay until settle() compares them.
  for (auto& [path, dir] : fresh.dirs) {
    auto before = tree_.dirs.find(path);
    dir.files.clear();
    if (before != tree_.dirs.end()) dir.files = std::move(before->second.files);
  }
  for (auto& [path, dir] : tree_.dirs) {
    if (fresh.dirs.contains(path) || dir.files.empty()) continue;
    dir.watch = -1;
    fresh.dirs[path] = std::move(dir);
  }
  fresh.file_count = 0;
  for (const auto& [path, dir] : fresh.dirs) fresh.file_count += dir.files.size();
  tree_ = std::move(fresh);
  events_lost_ = false;
  if (tree_.unwatched) rescan_due_ = std::min(rescan_due_.value_or(UINT64_MAX), now_ms + kPollMs);
}

}  // namespace sluice::source
