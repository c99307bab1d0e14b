#pragma once
// Configuration of rewrite.

#include <string>

#include "plugins/schema.h"

namespace sluice::plugins::rewrite {

// How the path is changed. At most one of `regex`, `literal` and `prefix` is set; none of them: the
// whole path is replaced.
struct PathConfig {
  std::string regex;
  std::string literal;
  std::string prefix;
  std::string replacement;

  bool empty() const { return regex.empty() && literal.empty() && prefix.empty() && replacement.empty(); }
};

struct Config {
  std::string host;  // empty: kept
  PathConfig path;   // empty: kept
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::rewrite
