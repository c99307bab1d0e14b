#pragma once
// Configurations as text: the flow style of YAML, as far as tests need it: {a: 1, b: "text", c: [x,
// y]}. Test only.

#include <cstdlib>
#include <string>
#include <string_view>

#include "plugins/config_node.h"
#include "plugins/registry.h"

namespace sluice::plugins::testing {

class ConfigText {
 public:
  explicit ConfigText(std::string_view text) : rest_(text) {}

  ConfigNode value() {
    skip_space();
    if (rest_.empty()) return {};
    if (take('{')) return map();
    if (take('[')) return list();
    if (take('"')) {
      std::string text;
      while (!rest_.empty() && rest_[0] != '"') {
        if (rest_[0] == '\\' && rest_.size() > 1) rest_.remove_prefix(1);
        text += rest_[0];
        rest_.remove_prefix(1);
      }
      take('"');
      return ConfigNode::scalar(text, true);
    }
    std::string text(rest_.substr(0, rest_.find_first_of(",]}:")));
    if (text.empty()) std::abort();
    rest_.remove_prefix(text.size());
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text == "null" ? ConfigNode() : ConfigNode::scalar(text);
  }

 private:
  ConfigNode map() {
    ConfigNode out = ConfigNode::map();
    while (!end('}')) {
      std::string key = value().text();
      if (!take(':')) std::abort();
      out.set(key, value());
      take(',');
    }
    return out;
  }
  ConfigNode list() {
    ConfigNode out = ConfigNode::list();
    while (!end(']')) {
      out.add(value());
      if (!take(',') && rest_.substr(0, 1) != "]") std::abort();
    }
    return out;
  }
  void skip_space() {
    while (!rest_.empty() && (rest_[0] == ' ' || rest_[0] == '\n')) rest_.remove_prefix(1);
  }
  bool take(char c) {
    skip_space();
    if (rest_.empty() || rest_[0] != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  bool end(char c) {
    skip_space();
    if (rest_.empty()) std::abort();
    return take(c);
  }

  std::string_view rest_;
};

inline ConfigNode config(std::string_view text) { return ConfigText(text).value(); }

// The factory of a plugin; null if the configuration is wrong.
inline FactoryPointer make(std::string_view plugin, std::string_view text) {
  auto factory = find(plugin)->parse(config(text));
  return factory ? *factory : nullptr;
}

// What is wrong with a configuration; empty if nothing is.
inline std::string error(std::string_view plugin, std::string_view text) {
  auto factory = find(plugin)->parse(config(text));
  return factory ? std::string() : factory.error().message;
}

}  // namespace sluice::plugins::testing
