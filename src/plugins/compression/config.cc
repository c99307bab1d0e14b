#include "plugins/compression/config.h"

#include <algorithm>

#include "http/headers.h"

namespace sluice::plugins::compression {
namespace {

std::string check_algorithm(std::string& value) {
  for (char& c : value) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  if (value == "gzip" || value == "br" || value == "zstd") return {};
  return in_quotes(value) + " is not one of gzip, br, zstd";
}

std::string check_media_type(std::string& value) {
  for (char& c : value) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  const size_t slash = value.find('/');
  const bool good = slash != std::string::npos && http::is_token(std::string_view(value).substr(0, slash)) &&
                    http::is_token(std::string_view(value).substr(slash + 1));
  return good ? std::string() : in_quotes(value) + " is not a media type such as text/html";
}

std::optional<Problem> check(const Config& config) {
  if (config.algorithms.empty()) return Problem{"algorithms", "must not be empty"};
  if (config.content_types.empty()) return Problem{"content_types", "must not be empty"};
  for (size_t i = 0; i < config.algorithms.size(); ++i) {
    if (std::find(config.algorithms.begin(), config.algorithms.begin() + static_cast<ptrdiff_t>(i),
                  config.algorithms[i]) != config.algorithms.begin() + static_cast<ptrdiff_t>(i)) {
      return Problem{"algorithms", in_quotes(config.algorithms[i]) + " is listed twice"};
    }
  }
  return std::nullopt;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .boolean("enable", &Config::enable, "Whether anything is compressed at all.")
          .list("algorithms", &Config::algorithms,
                "`gzip`, `br`, `zstd`: those offered, in the order preferred where the client has "
                "no preference.",
                check_algorithm)
          .integer("min_content_length", &Config::min_content_length, 1, INT32_MAX,
                   "Bytes; a shorter response is left alone. One of unknown length is compressed.")
          .alias("minContentLength")
          .list("content_types", &Config::content_types,
                "Media types that are compressed. `text/event-stream` only if it is listed.", check_media_type)
          .alias("contentType")
          .boolean("disable_on_etag", &Config::disable_on_etag,
                   "Leaves responses with an ETag alone. Otherwise a strong ETag is made weak.")
          .alias("disableOnEtagHeader")
          .integer("chunk_size", &Config::chunk_size, 1, INT32_MAX,
                   "Bytes; size of the output buffers, rounded up to 4, 16 or 64 KiB.")
          .alias("chunkSize")
          .integer("max_active", &Config::max_active, 1, 10'000'000,
                   "Responses that may be in compression at the same time, on all workers "
                   "together; others pass as they "
                   "are.")
          .integer("level", &Config::level, 1, 9, "gzip: effort.",
                   {{"BEST_COMPRESSION", 9},
                    {"BEST_SPEED", 1},
                    {"DEFAULT_COMPRESSION", 6},
                    {"COMPRESSION_LEVEL_1", 1},
                    {"COMPRESSION_LEVEL_2", 2},
                    {"COMPRESSION_LEVEL_3", 3},
                    {"COMPRESSION_LEVEL_4", 4},
                    {"COMPRESSION_LEVEL_5", 5},
                    {"COMPRESSION_LEVEL_6", 6},
                    {"COMPRESSION_LEVEL_7", 7},
                    {"COMPRESSION_LEVEL_8", 8},
                    {"COMPRESSION_LEVEL_9", 9}})
          .alias("compressionLevel")
          .integer("memory_level", &Config::memory_level, 1, 9, "gzip: memory for the state, 2^(n+9) bytes.")
          .alias("memoryLevel")
          .integer("window_bits", &Config::window_bits, 9, 15,
                   "gzip: window of 2^n bytes in which repetitions are found; it takes four times "
                   "that memory.")
          .alias("windowBits")
          .choice("strategy", &Config::strategy,
                  {{"default", Strategy::kDefault},
                   {"filtered", Strategy::kFiltered},
                   {"huffman_only", Strategy::kHuffmanOnly},
                   {"rle", Strategy::kRle},
                   {"fixed", Strategy::kFixed},
                   {"DEFAULT_STRATEGY", Strategy::kDefault}},
                  "gzip: kind of data that the encoder is tuned for.")
          .alias("compressionStrategy")
          .integer("brotli_quality", &Config::brotli_quality, 0, 11,
                   "br: effort. Memory grows in steps, at 4 to three times that of 3; 10 and 11 "
                   "are slow.")
          .integer("brotli_window_bits", &Config::brotli_window_bits, 10, 24, "br: window of 2^n bytes.")
          .integer("zstd_level", &Config::zstd_level, 1, 19, "zstd: effort.")
          .integer("zstd_window_bits", &Config::zstd_window_bits, 10, 23,
                   "zstd: window of 2^n bytes. All memory follows from it.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::compression
