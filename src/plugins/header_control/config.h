#pragma once
// Configuration of header-control.

#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::header_control {

struct Edit {
  std::string name;
  std::string value;  // see value_template.h
};

struct Edits {
  std::vector<std::string> remove;
  std::vector<Edit> update;
  std::vector<Edit> add;
};

struct Config {
  Edits request;
  Edits response;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::header_control
