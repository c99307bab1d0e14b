#include "plugins/size_limit/config.h"

namespace sluice::plugins::size_limit {
namespace {

constexpr int64_t kMost = int64_t{1} << 50;

std::optional<Problem> check(const Config& config) {
  if (config.request_body_bytes || config.response_head_bytes) return std::nullopt;
  return Problem{"request_body_bytes", "is required, or response_head_bytes"};
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .integer("request_body_bytes", &Config::request_body_bytes, 0, kMost,
                   "Largest request body; a larger one is answered 413. 0: no limit.")
          .integer("response_head_bytes", &Config::response_head_bytes, 0, kMost,
                   "Largest head of an upstream's response; a larger one is answered 502. 0: no limit.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::size_limit
