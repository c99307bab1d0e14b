#include "plugins/bandwidth_limit/config.h"

namespace sluice::plugins::bandwidth_limit {

const Schema<Config>& schema() {
  static const Schema<Config> kSchema = Schema<Config>()
                                            .integer("bytes_per_second", &Config::bytes_per_second, 1, int64_t{1} << 42,
                                                     "Body bytes per second of one response.")
                                            .required()
                                            .integer("after_bytes", &Config::after_bytes, 0, int64_t{1} << 42,
                                                     "The first so many leave as fast as they can.");
  return kSchema;
}

}  // namespace sluice::plugins::bandwidth_limit
