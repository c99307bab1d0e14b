#pragma once
// StateFactory: the factory of a plugin whose filters share a State made of the configuration, and need nothing else.
// `State` is constructed from the plugin's Config, `Filter` from a reference to the State; both as often as a
// configuration is parsed, and an exchange begins.

#include <memory>
#include <string_view>

#include "filter/filter.h"
#include "plugins/registry.h"
#include "plugins/schema.h"

namespace sluice::plugins {

template <typename Filter, typename State>
class StateFactory final : public filter::Factory {
 public:
  // `name` is static text.
  template <typename Config>
  StateFactory(std::string_view name, const Config& config) : name_(name), state_(config) {}

  std::string_view name() const override { return name_; }
  filter::Filter* create(filter::Context& context) const override { return context.arena().create<Filter>(state_); }

 private:
  const std::string_view name_;
  const State state_;
};

// What Plugin::parse does for such a plugin.
template <typename Filter, typename State, typename Schema>
Result<FactoryPointer> parse_state(std::string_view name, const Schema& schema, const ConfigNode& node) {
  auto config = schema.parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<StateFactory<Filter, State>>(name, *config));
}

}  // namespace sluice::plugins
