#include "plugins/local_rate_limit/config.h"

namespace sluice::plugins::local_rate_limit {
namespace {

constexpr int64_t kMaxTokens = INT32_MAX;

std::optional<Problem> check(const Config& config) {
  const bool per_unit = config.requests_per_unit != 0;
  const bool bucket = config.max_tokens || config.tokens_per_fill || config.fill_interval_ms;
  if (per_unit && bucket) {
    return Problem{{},
                   "requests_per_unit and max_tokens, tokens_per_fill, fill_interval_ms can't be "
                   "given together"};
  }
  if (!per_unit && !bucket) return Problem{"requests_per_unit", "is required"};
  if (!bucket) return std::nullopt;
  for (const auto& [name, value] :
       {std::pair{"max_tokens", config.max_tokens}, std::pair{"tokens_per_fill", config.tokens_per_fill},
        std::pair{"fill_interval_ms", config.fill_interval_ms}}) {
    if (!value)
      return Problem{name, "is required: the bucket is told by max_tokens, tokens_per_fill and fill_interval_ms"};
  }
  return std::nullopt;
}

}  // namespace

int64_t Config::bucket_size() const { return max_tokens ? max_tokens : requests_per_unit * burst_multiplier; }
int64_t Config::fill_tokens() const { return tokens_per_fill ? tokens_per_fill : requests_per_unit; }
int64_t Config::interval_ms() const {
  return fill_interval_ms ? fill_interval_ms : unit == Unit::kMinute ? 60'000 : 1000;
}

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .integer("requests_per_unit", &Config::requests_per_unit, 1, 1'000'000,
                   "Requests that pass per `unit` in the long run. Required, unless the token "
                   "bucket is given below.")
          .choice("unit", &Config::unit, {{"second", Unit::kSecond}, {"minute", Unit::kMinute}},
                  "The unit of time of `requests_per_unit`.")
          .integer("burst_multiplier", &Config::burst_multiplier, 1, 1000,
                   "The bucket holds this times `requests_per_unit`: so many requests may pass at once.")
          .integer("max_tokens", &Config::max_tokens, 1, kMaxTokens, "The token bucket told directly: its size.")
          .integer("tokens_per_fill", &Config::tokens_per_fill, 1, kMaxTokens,
                   "The token bucket told directly: tokens that flow in per interval, evenly "
                   "spread over it.")
          .integer("fill_interval_ms", &Config::fill_interval_ms, 1, 86'400'000,
                   "The token bucket told directly: the interval in milliseconds.")
          .check(check);
  return kSchema;
}

}  // namespace sluice::plugins::local_rate_limit
