#pragma once
// Manifest files on disk: which names count, reading one, loading many.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "resource/parse.h"

namespace sluice::source {

// True for *.yaml, *.yml and *.json, except hidden files and what editors leave beside a file they
// write (`.a.yaml.swp`, `a.yaml~`, `#a.yaml#`, `4913`).
bool is_manifest_name(std::string_view name);

// The whole content of a regular file of at most `limit` bytes. The error is a phrase: "cannot be
// read: …".
Result<std::string> read_file(const std::string& path, size_t limit);

// Writes all of `text`. False: errno says why not.
bool write_all(int fd, std::string_view text);
// Makes the names in a directory durable. False: errno says why not.
bool sync_directory(const std::string& path);

// Reads and parses one file. A file that can't be read gives ParsedFile::readable = false with a
// diagnostic.
resource::ParsedFile load_file(const std::string& path, const resource::Limits& limits = {});

// The same for many, in the order of `paths`, on up to `threads` threads (the calling one
// included).
std::vector<resource::ParsedFile> load_files(const std::vector<std::string>& paths, unsigned threads,
                                             const resource::Limits& limits = {});

}  // namespace sluice::source
