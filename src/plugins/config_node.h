#pragma once
// ConfigNode: a plugin's configuration as a plain tree (what YAML or JSON says), independent of the parser it came
// from.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::plugins {

class ConfigNode {
 public:
  enum class Kind : unsigned char { kNull, kScalar, kList, kMap };

  ConfigNode() = default;
  static ConfigNode scalar(std::string text, bool quoted = false);
  static ConfigNode list();
  static ConfigNode map();

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_scalar() const { return kind_ == Kind::kScalar; }
  bool is_list() const { return kind_ == Kind::kList; }
  bool is_map() const { return kind_ == Kind::kMap; }
  // A scalar that was written in quotes is text, never a number or a bool.
  bool quoted() const { return quoted_; }
  const std::string& text() const { return text_; }

  const std::vector<ConfigNode>& items() const { return items_; }
  const std::vector<std::pair<std::string, ConfigNode>>& entries() const { return entries_; }
  // The entry of that key, or null.
  const ConfigNode* find(std::string_view key) const;

  // Builders; return the stored child.
  ConfigNode& add(ConfigNode item);
  ConfigNode& set(std::string key, ConfigNode value);

 private:
  Kind kind_ = Kind::kNull;
  bool quoted_ = false;
  std::string text_;
  std::vector<ConfigNode> items_;
  std::vector<std::pair<std::string, ConfigNode>> entries_;
};

}  // namespace sluice::plugins
