#pragma once
// The last known objects on disk, so that a start without the API server has something to serve.
//
// One file of lines: a head with the number of objects, then one object each as JSON. It is replaced as a whole (new
// file, fsync, rename, fsync of the directory), so that it is either the former state or the new one. It may hold
// private keys: the file has mode 0600 and the directory, if made here, 0700.

#include <string>
#include <vector>

#include "base/result.h"

namespace sluice::source::kube {

inline constexpr const char* kStateFileName = "kubernetes-objects.jsonl";

// Blocks; for a helper thread, or before serving. Errors name the path.
Status save_state(const std::string& directory, const std::vector<std::string>& objects);
// Removes the temporary files of processes that were killed while they wrote.
void remove_leftovers(const std::string& directory);
// The objects; an empty list if there is no file. A file that is cut short or not ours is an error.
Result<std::vector<std::string>> load_state(const std::string& directory);

}  // namespace sluice::source::kube
