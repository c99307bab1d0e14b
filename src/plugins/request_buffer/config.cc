#include "plugins/request_buffer/config.h"

namespace sluice::plugins::request_buffer {

const Schema<Config>& schema() {
  static const Schema<Config> kSchema = Schema<Config>().integer(
      "max_bytes", &Config::max_bytes, 1, 64 << 20, "Largest body of unknown length; a larger one is answered 413.");
  return kSchema;
}

}  // namespace sluice::plugins::request_buffer
