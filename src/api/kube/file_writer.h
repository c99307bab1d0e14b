#pragma once
// Changes files of the configuration directory so that a crash at any moment leaves either the former content or the
// new one, and what was reported as done stays: temporary file, fsync, rename, fsync of the directory. On a thread of
// its own, because disks block.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "event/loop.h"

namespace sluice::api::kube {

struct FileChange {
  std::string path;
  std::optional<std::string> expected;  // the content it must have; nothing: it must not exist
  std::optional<std::string> content;   // nothing: the file is removed
  bool confidential = false;            // a new file gets mode 0600 instead of 0644
};

struct FileResult {
  enum class Outcome {
    kDone,
    kStale,
    kFailed
  } outcome = Outcome::kDone;  // kStale: not as expected; nothing is changed
  std::string error;           // of kFailed: a sentence with the path
};

// Blocks. `root` is the directory that processes lock against each other; folders below it are made as needed. A
// symbolic link is not replaced: kFailed.
FileResult change_file(const std::string& root, const FileChange& change);
// Removes what processes that were killed while they wrote have left behind, in `root` and below.
void remove_leftovers(const std::string& root);

class FileWriter {
 public:
  FileWriter(event::Loop& loop, std::string root);
  // Finishes what was submitted. Callbacks may still be called when the loop turns.
  ~FileWriter();

  // One after the other, in order. `done` is called on the loop.
  void submit(FileChange change, std::function<void(FileResult)> done);

 private:
  void run();

  event::Loop& loop_;
  const std::string root_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<FileChange, std::function<void(FileResult)>>> queue_;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace sluice::api::kube
