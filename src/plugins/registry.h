#pragma once
// The native plugins by name. Configuration is parsed once, when a snapshot is compiled, into the
// plugin's typed struct.

#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "filter/filter.h"

namespace sluice::plugins {

class ConfigNode;  // plugins/config_node.h
class SchemaBase;  // plugins/schema.h

using FactoryPointer = std::shared_ptr<const filter::Factory>;

struct Plugin {
  std::string_view name;
  // Parses and validates; the error names the field and says what would be right.
  Result<FactoryPointer> (*parse)(const ConfigNode& config);
  // One line for lists of plugins.
  std::string_view summary = {};
  // The fields of its configuration.
  const SchemaBase& (*schema)() = nullptr;
};

// Null if there is no native plugin of that name.
const Plugin* find(std::string_view name);
const std::vector<Plugin>& all();

}  // namespace sluice::plugins
