#include "api/kube/file_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

#include "source/files.h"

namespace sluice::api::kube {
namespace {

constexpr std::string_view kTemporary = ".sluice-tmp";
constexpr size_t kMaxFile = 16u << 20;

FileResult failed(const std::string& path) {
  return {FileResult::Outcome::kFailed, path + ": " + std::strerror(errno)};
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  const int fd_;
};

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// Makes the folders between `root` and the file, each durable in its parent.
bool make_folders(const std::string& root, const std::string& folder) {
  struct stat info;
  if (folder == root || ::stat(folder.c_str(), &info) == 0) return true;
  const std::string parent = parent_of(folder);
  if (folder.size() > root.size() && !make_folders(root, parent)) return false;
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return false;
  return source::sync_directory(parent);
}

// `old`: of the file that is replaced, or null.
FileResult replace(const FileChange& change, const struct stat* old) {
  const std::string folder = parent_of(change.path);
  const std::string temporary =
      folder + "/." + change.path.substr(change.path.rfind('/') + 1) + std::string(kTemporary);
  ::unlink(temporary.c_str());
  const mode_t mode = old ? old->st_mode & 0777 : change.confidential ? 0600 : 0644;
  const Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd.ok()) return failed(temporary);
  // A file keeps its owner where we may give it away.
  if (old) (void)!::fchown(fd.get(), old->st_uid, old->st_gid);
  const bool written =
      ::fchmod(fd.get(), mode) == 0 && source::write_all(fd.get(), *change.content) && ::fsync(fd.get()) == 0;
  if (!written || ::rename(temporary.c_str(), change.path.c_str()) != 0) {
    const FileResult result = failed(temporary);
    ::unlink(temporary.c_str());
    return result;
  }
  return source::sync_directory(folder) ? FileResult() : failed(folder);
}

}  // namespace

FileResult change_file(const std::string& root, const FileChange& change) {
  const Descriptor lock(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.ok() || ::flock(lock.get(), LOCK_EX) != 0) return failed(root);
  struct stat info;
  const bool exists = ::lstat(change.path.c_str(), &info) == 0;
  if (!exists && errno != ENOENT) return failed(change.path);
  if (exists && !S_ISREG(info.st_mode)) {
    return {FileResult::Outcome::kFailed, change.path + " is not a regular file; it is not replaced"};
  }
  if (exists != change.expected.has_value()) return {FileResult::Outcome::kStale, {}};
  if (exists) {
    const Result<std::string> content = source::read_file(change.path, kMaxFile);
    if (!content.ok()) return {FileResult::Outcome::kFailed, change.path + " " + content.error().message};
    if (*content != *change.expected) return {FileResult::Outcome::kStale, {}};
  }
  if (!change.content) {
    if (::unlink(change.path.c_str()) != 0) return failed(change.path);
    return source::sync_directory(parent_of(change.path)) ? FileResult() : failed(parent_of(change.path));
  }
  if (change.content->size() > kMaxFile) {
    return {FileResult::Outcome::kFailed,
            change.path + " would become larger than " + std::to_string(kMaxFile >> 20) + " MiB"};
  }
  if (!make_folders(root, parent_of(change.path))) return failed(parent_of(change.path));
  return replace(change, exists ? &info : nullptr);
}

void remove_leftovers(const std::string& root) {
  namespace fs = std::filesystem;
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::recursive_directory_iterator at(root, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename();
    if (name.starts_with('.') && name.ends_with(kTemporary)) found.push_back(at->path());
  }
  for (const fs::path& path : found) fs::remove(path, error);
}

FileWriter::FileWriter(event::Loop& loop, std::string root)
    : loop_(loop), root_(std::move(root)), thread_([this] { run(); }) {}

FileWriter::~FileWriter() {
  {
    const std::lock_guard guard(mutex_);
    stopped_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void FileWriter::submit(FileChange change, std::function<void(FileResult)> done) {
  {
    const std::lock_guard guard(mutex_);
    queue_.emplace_back(std::move(change), std::move(done));
  }
  wake_.notify_one();
}

void FileWriter::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopped_ || !queue_.empty(); });
    if (queue_.empty()) return;
    auto [change, done] = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    FileResult result = change_file(root_, change);
    loop_.post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
    lock.lock();
  }
}

}  // namespace sluice::api::kube
