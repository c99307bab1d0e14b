#include "plugins/config_node.h"

namespace sluice::plugins {

ConfigNode ConfigNode::scalar(std::string text, bool quoted) {
  ConfigNode node;
  node.kind_ = Kind::kScalar;
  node.text_ = std::move(text);
  node.quoted_ = quoted;
  return node;
}

ConfigNode ConfigNode::list() {
  ConfigNode node;
  node.kind_ = Kind::kList;
  return node;
}

ConfigNode ConfigNode::map() {
  ConfigNode node;
  node.kind_ = Kind::kMap;
  return node;
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const auto& [name, value] : entries_) {
    if (name == key) return &value;
  }
  return nullptr;
}

ConfigNode& ConfigNode::add(ConfigNode item) {
  items_.push_back(std::move(item));
  return items_.back();
}

ConfigNode& ConfigNode::set(std::string key, ConfigNode value) {
  for (auto& [name, existing] : entries_) {
    if (name == key) return existing = std::move(value);
  }
  entries_.emplace_back(std::move(key), std::move(value));
  return entries_.back().second;
}

}  // namespace sluice::plugins
