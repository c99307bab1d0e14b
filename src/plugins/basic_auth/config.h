#pragma once
// Configuration of basic-auth.

#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::basic_auth {

struct Config {
  std::string realm = "Authentication Required";
  std::vector<std::string> users;  // "name:hash"
  std::vector<std::string> skip_addresses;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::basic_auth
