#pragma once
// One Ingress to the routes, clusters and TLS hosts it asks for. What several Ingresses decide
// together (order and conflicts within a host, whose options count for a service) is decided
// elsewhere: compile/hosts.h, clusters.h, tls_hosts.h.

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "compile/annotations.h"
#include "compile/clusters.h"
#include "compile/options.h"
#include "config/route.h"
#include "plugins/registry.h"
#include "resource/diagnostic.h"
#include "resource/objects.h"
#include "resource/store.h"

namespace sluice::compile {

// How a canary Ingress's routes come into play.
struct CanaryRule {
  std::optional<config::ValueMatch> condition;  // on a header or cookie; otherwise by weight
  // As nginx has it: conditions one after the other, whose requests go to the canary, or to the base; the rest by
  // weight.
  struct Decision {
    config::ValueMatch condition;
    bool canary = true;
  };
  std::vector<Decision> cascade;
  uint64_t weight = 0;
  std::optional<uint64_t> weight_total;
};

// A route with what ordering and conflicts need to know.
struct HostRoute {
  // A kCanary route is not served as it is: it is added to that of the same rule key (compile/canary.h).
  enum class Role : uint8_t { kPath, kAppRoot, kDefaultBackend, kCanary };
  std::shared_ptr<config::Route> route;
  Role role = Role::kPath;
  uint32_t method_length = 0;  // characters of "GET|POST"; 0: any method
  uint32_t header_conditions = 0;
  uint32_t query_conditions = 0;
  std::string rule_key;  // path, kind, methods and conditions; unique within a host
  std::string field;     // "spec.rules[0].http.paths[1]"
  // Which of the route's filters edit headers: those a canary replaces.
  uint32_t header_filters_at = 0, header_filters = 0;
  std::shared_ptr<const CanaryRule> canary;            // kCanary only
  std::shared_ptr<const config::HashPolicy> affinity;  // a client keeps to base or canary by this; null: it does not
  resource::Mark mark;

  // Set by seal() from the above when it is complete: what a host of ten thousand routes is ordered
  // and told apart by without touching the routes themselves.
  uint64_t sort_high = 0, sort_low = 0;
  size_t rule_hash = 0;
  void seal();
};

// What is asked of an Ingress's hosts with ssl-passthrough.
struct PassthroughUse {
  std::vector<net::Cidr> allow, deny;
  bool refused = false;  // as config::PassthroughHost
};

struct CompiledIngress {
  struct Host {
    std::string name;
    std::vector<HostRoute> routes = {};
    // What gives the Ingress the host. Of several Ingresses only those with the strongest claim contribute to a host;
    // of those that are not rules only the oldest.
    enum class Claim : uint8_t { kRule, kAlias, kWwwRedirect } claim = Claim::kRule;
    std::string stands_for = {};  // not kRule: the host it was made for
  };
  std::vector<Host> hosts;

  struct ClusterUse {
    uint32_t slot;
    std::string host;
    uint16_t port;
    std::string field;
    resource::Mark mark;
    bool backend = true;  // of a route; otherwise of a fallback or mirror, whose service options are not this Ingress's
  };
  std::vector<ClusterUse> clusters;  // each is acquired once
  std::vector<std::string> needs;    // service hosts whose ports were looked up, and "Secret ns/name"
  std::shared_ptr<const ServiceOptions> service_options;  // null: says nothing about services

  struct TlsUse {
    std::string host;
    SecretRef secret;     // empty: the host has options but no certificate here
    bool claimed = true;  // by a rule; otherwise an alias, which gives way to those
    bool asks = false;    // spec.tls is given but names no Secret for the host: higress-https may have one
  };
  std::vector<TlsUse> tls;
  TlsOptions tls_options;
  std::optional<PassthroughUse> passthrough;
  bool canary = false;  // has no hosts of its own
  // With nginx's meaning: a host where one of these makes paths regular expressions has no others of theirs.
  bool as_nginx = false, makes_regexes = false;

  resource::Diagnostics diagnostics;
};

// Builds filter factories through the plugin registry; equal configurations share one factory while
// it is in use.
class FilterCache {
 public:
  // A factory for the configuration. Equal configurations share one; a stateful one is shared only
  // with earlier versions of the same route, so that its state outlives a recompilation.
  Result<plugins::FactoryPointer> get(const struct FilterSpec& spec, const std::string& route);

 private:
  std::unordered_map<std::string, std::weak_ptr<const filter::Factory>> shared_;
  size_t sweep_at_ = 256;
};

// Whether this gateway serves the Ingress (its class).
bool is_accepted(const resource::Ingress& ingress, const Options& options);

// What higress-config decides for all Ingresses that say nothing else.
struct IngressDefaults {
  ExternalAuthOptions auth;  // no URL: none
  bool as_nginx = false;
  bool operator==(const IngressDefaults&) const = default;
};

// Acquires the clusters it lists in the result; the caller releases them when the result is
// replaced.
CompiledIngress compile_ingress(const resource::Ingress& ingress, const resource::Store& store, const Options& options,
                                const IngressDefaults& defaults, ClusterTable& clusters, FilterCache& filters);

}  // namespace sluice::compile
