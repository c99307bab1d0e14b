#pragma once
// Configuration of response-rewrite.

#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::response_rewrite {

struct Rule {
  std::string from;
  std::string to;
};

struct Config {
  std::vector<Rule> cookie_domain;
  std::vector<Rule> cookie_path;
  std::vector<Rule> location;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::response_rewrite
