#pragma once
// ClusterTable: which clusters exist, from which service or registry each is made, and its
// endpoints.
//
// A cluster exists as long as a route refers to it; clusters of registries always do. Its slot
// stays with its name. What changed is marked, and flush() builds just the marked ones into the
// next snapshot: a change of endpoints replaces the endpoint set of a copy of the cluster and
// nothing else.
//
// Hosts: "<service>.<namespace>.svc.<domain suffix>" is a Service, "<name>.static" and "<name>.dns"
// a registry of the McpBridge. A cluster whose service or port is unknown has no entry in the
// snapshot: its requests get 503.
//
// Subsets: endpoints carry the labels of the EndpointSlice they came from; the subset `v1` of a
// host is its endpoints with the label `version: v1` (Istio's convention).

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "compile/annotations.h"
#include "compile/options.h"
#include "compile/tls_contexts.h"
#include "config/snapshot.h"
#include "resource/store.h"

namespace sluice::compile {

struct ClusterKey {
  std::string host;
  uint16_t port = 0;
  std::string subset;
  // A place that a URL names, which need not be a Service or registry: an IP address, or a name that is resolved.
  // Without a subset.
  enum class Url : uint8_t { kNo, kHttp, kHttps } url = Url::kNo;

  // "outbound|<port>|<subset>|<host>"; of a URL "url|<port>|<scheme>|<host>"
  std::string name() const;
};

class ClusterTable {
 public:
  ClusterTable(const resource::Store& store, const Options& options, TlsContexts& contexts);
  ~ClusterTable();

  // --- references ---
  uint32_t acquire(const ClusterKey& key);
  void release(uint32_t slot);

  // Offers options for a service and port; those of the oldest Ingress count.
  void offer(const std::string& host, uint16_t port, const Age& age, std::shared_ptr<const ServiceOptions> options);
  void withdraw(const std::string& host, uint16_t port, const Age& age);
  // Whether other options than those of `age` are in force.
  bool is_overruled(const std::string& host, uint16_t port, const Age& age) const;

  // --- what services say ---
  std::string service_host(const std::string& ns, const std::string& service) const;
  // Where a URL's host and port lead: to the Service or registry if there is one, with what is configured for it.
  ClusterKey key_of_url(const std::string& host, uint16_t port, bool https) const;
  // The number of a service's named port.
  std::optional<uint16_t> port_by_name(const std::string& ns, const std::string& service,
                                       const std::string& port) const;
  // The first port of a service; nothing if it does not exist or has none.
  std::optional<uint16_t> first_port(const std::string& host) const;
  bool has_port(const std::string& host, uint16_t port) const;
  // The only port of a host; nothing if there are several or the host is unknown.
  std::optional<uint16_t> only_port(const std::string& host) const;

  // --- changes ---
  void on_change(const resource::Change& change);
  void set_upstream_idle_timeout(std::chrono::milliseconds timeout);
  void set_resolved(const std::string& name, std::vector<net::Address> addresses);
  void set_health(const std::string& cluster, const net::Address& endpoint, bool healthy);

  // Puts all marked clusters into the snapshot. Returns how many were touched.
  size_t flush(config::Snapshot& next);

  // --- what to tell ---
  // Names to resolve, sorted.
  std::vector<std::string> dns_names() const;
  // Why a cluster can't serve; empty if it can, as far as configuration goes.
  std::string problem(uint32_t slot) const;
  // What is wrong with secrets of clusters.
  void diagnostics(resource::Diagnostics& out) const;

 private:
  struct State;
  struct Source {  // what a host stands for
    const resource::Service* service = nullptr;
    const resource::Registry* registry = nullptr;
  };
  struct HashAddress {
    size_t operator()(const net::Address& address) const { return address.hash(); }
  };

  Source find(const std::string& host) const;
  // Splits a service host; false if it is none.
  bool split_host(const std::string& host, std::string* ns, std::string* service) const;
  void mark_host(const std::string& host, bool endpoints_only);
  void mark(State& state, bool endpoints_only);
  void depend(State& state, const std::string& host);
  void forget_dependencies(State& state);
  void on_slice(const resource::Change& change);
  void on_bridge(const resource::Change& change);

  void build(State& state);
  bool build_from_service(State& state, const resource::Service& service, config::Cluster& cluster);
  void build_from_registry(State& state, const resource::Registry& registry, config::Cluster& cluster);
  bool build_from_url(State& state, const Source& source, config::Cluster& cluster);
  void watch_names(State& state, const config::Cluster& cluster);
  void apply_options(State& state, config::Cluster& cluster);
  bool build_tls(State& state, config::Cluster& cluster, const std::string& sni, const ServiceOptions* options);
  std::shared_ptr<const config::EndpointSet> build_endpoints(State& state) const;
  void add_service_endpoints(const resource::Service& service, const resource::ServicePort& port,
                             const std::string& subset, std::vector<config::Endpoint>& out) const;
  bool add_cluster_ip(const State& state, const resource::Service& service, std::vector<config::Endpoint>& out) const;
  std::shared_ptr<const config::DnsDiscovery> named_endpoints(const resource::Service& service,
                                                              const resource::ServicePort& port,
                                                              const std::string& subset) const;
  void add_dns_endpoints(const config::DnsDiscovery& dns, std::vector<config::Endpoint>& out) const;
  const ServiceOptions* options_for(const ClusterKey& key) const;

  const resource::Store& store_;
  const Options& options_;
  TlsContexts& contexts_;
  std::chrono::milliseconds idle_timeout_{10000};

  std::unordered_map<std::string, std::unique_ptr<State>> by_name_;
  std::vector<State*> by_slot_;
  std::vector<uint32_t> free_slots_;  // the longest free first
  size_t free_head_ = 0;
  std::vector<std::pair<uint32_t, std::string>> removed_;  // since the last flush
  std::vector<State*> marked_;

  std::unordered_map<std::string, std::unordered_set<State*>> by_host_, by_dns_, by_secret_;
  // "host|port" → offers, the oldest first
  std::unordered_map<std::string, std::map<Age, std::shared_ptr<const ServiceOptions>>> offers_;
  // "ns/service" → slices by name
  std::unordered_map<std::string, std::map<std::string, std::shared_ptr<const resource::EndpointSlice>>> slices_;
  using Registries = std::unordered_map<std::string, std::shared_ptr<const resource::Registry>>;
  Registries registries_;                                     // by host; each holds the McpBridge it is part of
  std::unordered_map<std::string, uint32_t> registry_slots_;  // by cluster name
  std::unordered_map<std::string, std::vector<net::Address>> resolved_;
  std::unordered_map<std::string, std::unordered_set<net::Address, HashAddress>> unhealthy_;  // by cluster name
};

}  // namespace sluice::compile
