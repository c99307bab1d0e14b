#pragma once
// The native plugins by name. Configuration is parsed once, when a snapshot is compiled, into the plugin's typed struct.

#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "filter/filter.h"

namespace sluice::plugins {

class ConfigNode;  // plugins/config_node.h

using FactoryPointer = std::shared_ptr<const filter::Factory>;

struct Plugin {
  std::string_view name;
  // Parses and validates; the error names the field and says what would be right.
  Result<FactoryPointer> (*parse)(const ConfigNode& config);
};

// Null if there is no native plugin of that name.
const Plugin* find(std::string_view name);
const std::vector<Plugin>& all();

}  // namespace sluice::plugins
