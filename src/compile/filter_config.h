#pragma once
// The configuration that annotations give to native plugins: which plugin, and what its
// configuration says. The only place where the names and fields of plugins meet annotations.

#include <string>
#include <vector>

#include "compile/annotations.h"

namespace sluice::compile {

struct FilterSpec {
  std::string name;  // of the plugin
  plugins::ConfigNode config;
  std::string source;     // the annotation, for messages: "higress.io/…" without prefix
  bool stateful = false;  // the factory has run-time state: only the same route may use it again
};

// The filters of one route in the order of the request direction. `path` is the route's, and so is
// `redirect` (null: none).
std::vector<FilterSpec> route_filters(const IngressOptions& options, const config::PathMatch& path,
                                      const config::Redirect* redirect);
FilterSpec redirect_filter(const config::Redirect& redirect, std::string source);

// A text that identifies a plugin and its configuration.
std::string fingerprint(const FilterSpec& spec);

}  // namespace sluice::compile
