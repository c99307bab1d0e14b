#include "plugins/mirror/config.h"

namespace sluice::plugins::mirror {

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .text("cluster", &Config::cluster, "The cluster that gets the copies: `outbound|<port>||<host>`.")
          .required()
          .text("host", &Config::host, "Host of the copies; empty: the request's with `-shadow`.", check_authority)
          .boolean("body", &Config::body, "Whether the copies have the request's body.")
          .number("percentage", &Config::percentage, 0, 100, "Share of the requests that are copied.")
          .integer("max_body_bytes", &Config::max_body_bytes, 0, 16 << 20,
                   "A request whose body is longer is not copied.")
          .integer("timeout_ms", &Config::timeout_ms, 1, 3'600'000, "Milliseconds after which the copy is given up.");
  return kSchema;
}

}  // namespace sluice::plugins::mirror
