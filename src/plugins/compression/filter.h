#pragma once
// compression: compresses responses with gzip, Brotli or Zstandard. See README.md.

#include "plugins/compression/config.h"
#include "plugins/registry.h"

namespace sluice::plugins::compression {

Plugin plugin();

}  // namespace sluice::plugins::compression
