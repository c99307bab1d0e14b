#include "plugins/registry.h"

namespace sluice::plugins {

const std::vector<Plugin>& all() {
  static const std::vector<Plugin> plugins;
  return plugins;
}

const Plugin* find(std::string_view name) {
  for (const Plugin& plugin : all()) {
    if (plugin.name == name) return &plugin;
  }
  return nullptr;
}

}  // namespace sluice::plugins
