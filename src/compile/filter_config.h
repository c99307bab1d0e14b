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
  // A canary has its own header edits.
  enum class Stage : uint8_t { kEarly, kHeaderEdits, kLate } stage = Stage::kEarly;
  bool guards = false;  // restricts access: if it can't be built, the route must not be served
};

// Where a route's external authentication asks.
struct AuthTarget {
  std::string cluster, host;
  HeaderEdits headers;  // of the call, beside the request's
};

// What route_filters() needs beside the annotations.
struct RouteFacts {
  const config::PathMatch& path;
  const config::Redirect* redirect = nullptr;            // null: none
  const std::vector<std::string>* auth_users = nullptr;  // "name:hash"; null: no authentication
  std::string mirror_cluster;                            // empty: no mirror
  HeaderEdits response_headers = {};                     // of custom-headers
  std::string_view ingress;                              // "ns/name"
  const AuthTarget* auth_target = nullptr;               // null: no external authentication
};
// The filters of one route in the order of the request direction.
std::vector<FilterSpec> route_filters(const IngressOptions& options, const RouteFacts& facts);
FilterSpec redirect_filter(const config::Redirect& redirect, std::string source);

// A text that identifies a plugin and its configuration.
std::string fingerprint(const FilterSpec& spec);

}  // namespace sluice::compile
