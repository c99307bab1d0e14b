#pragma once
// Configuration of compression.

#include <cstdint>
#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::compression {

// The values are those of zlib.
enum class Strategy : int { kDefault = 0, kFiltered = 1, kHuffmanOnly = 2, kRle = 3, kFixed = 4 };

struct Config {
  bool enable = true;
  std::vector<std::string> algorithms = {"zstd", "br", "gzip"};
  int64_t min_content_length = 1024;
  std::vector<std::string> content_types = {"text/html",
                                            "text/css",
                                            "text/plain",
                                            "text/xml",
                                            "application/json",
                                            "application/javascript",
                                            "application/xhtml+xml",
                                            "image/svg+xml"};
  bool disable_on_etag = true;
  int64_t chunk_size = 4096;
  int64_t max_active = 1024;

  int level = 6;
  int memory_level = 5;
  int window_bits = 12;
  Strategy strategy = Strategy::kDefault;

  int brotli_quality = 3;
  int brotli_window_bits = 14;

  int zstd_level = 3;
  int zstd_window_bits = 14;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::compression
