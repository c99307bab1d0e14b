#include "source/kube/state_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "source/files.h"

namespace sluice::source::kube {
namespace {

constexpr size_t kMaxState = 512u << 20;
constexpr std::string_view kHead = "sluice-state 1 ";

Error error(const std::string& path) { return Error{path + ": " + std::strerror(errno)}; }

}  // namespace

Status save_state(const std::string& directory, const std::vector<std::string>& objects) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) return error(directory);
  const std::string path = directory + "/" + kStateFileName;
  // One name for each process: two that share a directory must not write into each other's file.
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return error(temporary);
  bool good = ::fchmod(fd, 0600) == 0;
  std::string buffer = std::string(kHead) + std::to_string(objects.size()) + "\n";
  for (const std::string& object : objects) {
    buffer += object;
    buffer += '\n';
    if (buffer.size() < (256u << 10)) continue;
    good = good && write_all(fd, buffer);
    buffer.clear();
  }
  good = good && write_all(fd, buffer) && ::fsync(fd) == 0;
  Status failure = good ? Status() : Status(error(temporary));
  ::close(fd);
  if (good && ::rename(temporary.c_str(), path.c_str()) != 0) failure = error(path);
  if (!failure.ok()) {
    ::unlink(temporary.c_str());
    return failure;
  }
  if (!sync_directory(directory)) return error(directory);
  return {};
}

void remove_leftovers(const std::string& directory) {
  DIR* listing = ::opendir(directory.c_str());
  if (!listing) return;
  const std::string prefix = std::string(kStateFileName) + ".tmp.";
  while (const dirent* entry = ::readdir(listing)) {
    const std::string name = entry->d_name;
    if (!name.starts_with(prefix)) continue;
    const int process = std::atoi(name.c_str() + prefix.size());
    if (process == ::getpid() || ::kill(process, 0) != 0) ::unlink((directory + "/" + name).c_str());
  }
  ::closedir(listing);
}

Result<std::vector<std::string>> load_state(const std::string& directory) {
  const std::string path = directory + "/" + kStateFileName;
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return std::vector<std::string>();
    return error(path);
  }
  Result<std::string> text = read_file(path, kMaxState);
  if (!text.ok()) return Error{path + " " + text.error().message};
  std::vector<std::string> lines;
  for (size_t at = 0; at < text->size();) {
    const size_t end = text->find('\n', at);
    if (end == text->npos) return Error{path + " is cut short"};
    lines.push_back(text->substr(at, end - at));
    at = end + 1;
  }
  if (lines.empty() || !lines[0].starts_with(kHead)) return Error{path + " is not a state file of this version"};
  if (lines[0] != std::string(kHead) + std::to_string(lines.size() - 1)) return Error{path + " is cut short"};
  lines.erase(lines.begin());
  return lines;
}

}  // namespace sluice::source::kube
