#include "source/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>

namespace sluice::source {
namespace {

Error cannot_read(int error) { return {std::string("cannot be read: ") + strerror(error)}; }

// Appends the rest of the file. 0 or an errno.
int read_all(int fd, std::string& out, size_t expected, size_t limit) {
  // One byte more than the file had, so that the usual file takes one read of its content and one
  // that finds the end.
  out.resize(expected + 1);
  size_t filled = 0;
  for (;;) {
    if (filled == out.size()) {
      if (filled > limit) return EFBIG;
      out.resize(filled * 2);
    }
    ssize_t n = read(fd, out.data() + filled, out.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    if (n == 0) break;
    filled += static_cast<size_t>(n);
  }
  out.resize(filled);
  return filled > limit ? EFBIG : 0;
}

}  // namespace

bool is_manifest_name(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.front() == '#' || name.back() == '~') return false;
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  // O_NONBLOCK: opening a pipe must not wait for its writer.
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return cannot_read(errno);
  struct stat info;
  std::string content;
  int error = fstat(fd, &info) == 0 ? 0 : errno;
  bool regular = error == 0 && S_ISREG(info.st_mode);
  if (regular) {
    auto size = static_cast<size_t>(info.st_size);
    error = size > limit ? EFBIG : read_all(fd, content, size, limit);
  }
  close(fd);
  if (error == EFBIG) return Error{"cannot be read: it is larger than " + std::to_string(limit >> 20) + " MiB"};
  if (error) return cannot_read(error);
  if (!regular) return Error{"cannot be read: it is not a regular file"};
  return content;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

bool sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool good = ::fsync(fd) == 0;
  ::close(fd);
  return good;
}

resource::ParsedFile load_file(const std::string& path, const resource::Limits& limits) {
  auto name = std::make_shared<const std::string>(path);
  auto text = read_file(path, limits.max_text_bytes);
  if (!text) return resource::unreadable_file(std::move(name), text.error().message);
  return resource::parse_manifests(*text, std::move(name), limits);
}

std::vector<resource::ParsedFile> load_files(const std::vector<std::string>& paths, unsigned threads,
                                             const resource::Limits& limits) {
  constexpr size_t kChunk = 32;
  std::vector<resource::ParsedFile> out(paths.size());
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (;;) {
      size_t begin = next.fetch_add(kChunk);
      if (begin >= paths.size()) return;
      size_t end = std::min(begin + kChunk, paths.size());
      for (size_t i = begin; i < end; ++i) out[i] = load_file(paths[i], limits);
    }
  };
  std::vector<std::thread> helpers;
  size_t useful = std::min<size_t>(threads, paths.size() / (4 * kChunk) + 1);
  for (size_t i = 1; i < useful; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return out;
}

}  // namespace sluice::source
