// ClusterTable: making one cluster from a Service or a registry.

#include <algorithm>

#include "compile/clusters_state.h"
#include "compile/protocols.h"
#include "compile/route_options.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

constexpr std::chrono::milliseconds kConnectTimeout{10000};

std::string secret_text(const resource::SecretBytes* bytes) {
  return bytes ? std::string(bytes->expose()) : std::string();
}

bool slice_has_label(const resource::EndpointSlice& slice, const std::string& subset) {
  if (subset.empty()) return true;
  const resource::Pair* label = resource::find(slice.meta.labels, "version");
  return label && label->value == subset;
}

// The port of a slice (or an Endpoints subset) that stands for a service port: of the same name, or
// the only one of an unnamed service port.
const resource::SlicePort* find_port(const std::vector<resource::SlicePort>& ports,
                                     const resource::ServicePort& wanted) {
  for (const resource::SlicePort& port : ports) {
    if (port.name == wanted.name && port.protocol == "TCP") return &port;
  }
  if (wanted.name.empty() && ports.size() == 1 && ports[0].protocol == "TCP") return &ports[0];
  return nullptr;
}

uint16_t port_number(const resource::SlicePort& port, const resource::ServicePort& service) {
  if (port.port) return port.port;
  return service.target.number ? service.target.number : service.port;
}

}  // namespace

Protocol protocol_of(const resource::ServicePort& port) {
  if (!port.app_protocol.empty()) {
    if (auto known = protocol_by_word(resource::to_lower(port.app_protocol))) return *known;
  }
  std::string name = resource::to_lower(port.name);
  if (auto known = protocol_by_word(name)) return *known;
  if (name.starts_with("grpc-web-")) return *protocol_by_word("grpc-web");
  if (auto known = protocol_by_word(std::string_view(name).substr(0, name.find('-')))) return *known;
  return {};
}

void ClusterTable::build(State& state) {
  forget_dependencies(state);
  depend(state, state.key.host);
  state.problem.clear();
  state.diagnostics.clear();
  state.endpoints_host.clear();
  auto cluster = std::make_shared<config::Cluster>();
  cluster->name = state.name;
  cluster->service = state.key.host;
  cluster->port = state.key.port;
  cluster->slot = state.slot;
  cluster->connect_timeout = kConnectTimeout;
  cluster->idle_timeout = idle_timeout_;
  Source source = find(state.key.host);
  bool usable = true;
  if (state.key.url != ClusterKey::Url::kNo) {
    usable = build_from_url(state, source, *cluster);
  } else if (source.registry) {
    build_from_registry(state, *source.registry, *cluster);
  } else if (source.service) {
    usable = build_from_service(state, *source.service, *cluster);
  } else {
    std::string ns, service;
    state.problem =
        split_host(state.key.host, &ns, &service)
            ? "Service " + ns + "/" + service + " does not exist; requests get 503"
            : "no Service or registry is called " + resource::in_quotes(state.key.host) + "; requests get 503";
    usable = false;
  }
  if (!usable) {
    state.built = nullptr;
    return;
  }
  if (!state.problem.empty()) {
    cluster->endpoints = std::make_shared<config::EndpointSet>();
    state.built = std::move(cluster);
    return;
  }
  state.built = cluster;  // build_endpoints() looks at it
  cluster->endpoints = build_endpoints(state);
}

bool ClusterTable::build_from_service(State& state, const resource::Service& service, config::Cluster& cluster) {
  auto port =
      std::find_if(service.ports.begin(), service.ports.end(), [&](const auto& p) { return p.port == state.key.port; });
  if (port == service.ports.end()) {
    state.problem = "Service " + service.meta.ns + "/" + service.meta.name + " has no port " +
                    std::to_string(state.key.port) + "; requests get 503";
    return false;
  }
  Protocol protocol = protocol_of(*port);
  cluster.protocol = protocol.version;
  std::string sni;
  if (service.type == resource::Service::Type::kExternalName) {
    std::string ns, name;
    if (split_host(service.external_name, &ns, &name)) {
      // An alias of a service in the cluster.
      depend(state, service.external_name);
      state.endpoints_host = service.external_name;
    } else {
      auto dns = std::make_shared<config::DnsDiscovery>();
      dns->names = {service.external_name};
      dns->port = state.key.port;
      cluster.dns = std::move(dns);
      sni = service.external_name;
    }
  } else {
    state.endpoints_host = state.key.host;
    cluster.dns = named_endpoints(service, *port, state.key.subset);
  }
  if (protocol.tls) build_tls(state, cluster, sni, nullptr);
  apply_options(state, cluster);
  return true;
}

// What a URL names need not be known here. A Service that is reached over TLS keeps its endpoints.
bool ClusterTable::build_from_url(State& state, const Source& source, config::Cluster& cluster) {
  const std::string& host = state.key.host;
  if (source.service) {
    if (!build_from_service(state, *source.service, cluster)) return false;
  } else if (!net::Address::parse_ip(host, state.key.port)) {
    auto dns = std::make_shared<config::DnsDiscovery>();
    dns->names = {host};
    dns->port = state.key.port;
    cluster.dns = std::move(dns);
    watch_names(state, cluster);
  }
  if (state.key.url == ClusterKey::Url::kHttps && !cluster.tls) build_tls(state, cluster, host, nullptr);
  return true;
}

// The names of slices with addressType FQDN; null if there are none. Their port is that of the first.
std::shared_ptr<const config::DnsDiscovery> ClusterTable::named_endpoints(const resource::Service& service,
                                                                          const resource::ServicePort& port,
                                                                          const std::string& subset) const {
  auto slices = slices_.find(service.meta.ns + "/" + service.meta.name);
  if (slices == slices_.end()) return nullptr;
  auto out = std::make_shared<config::DnsDiscovery>();
  for (const auto& [name, slice] : slices->second) {
    if (slice->address_type != resource::EndpointSlice::AddressType::kFqdn || !slice_has_label(*slice, subset))
      continue;
    const resource::SlicePort* found = find_port(slice->ports, port);
    if (!found) continue;
    if (!out->port) out->port = port_number(*found, port);
    for (const resource::SliceEndpoint& item : slice->endpoints) {
      if (item.ready) out->names.insert(out->names.end(), item.addresses.begin(), item.addresses.end());
    }
  }
  if (out->names.empty()) return nullptr;
  std::sort(out->names.begin(), out->names.end());
  out->names.erase(std::unique(out->names.begin(), out->names.end()), out->names.end());
  return out;
}

void ClusterTable::build_from_registry(State& state, const resource::Registry& registry, config::Cluster& cluster) {
  if (registry.port != state.key.port) {
    state.problem = state.key.host + " has no port " + std::to_string(state.key.port) + ", only " +
                    std::to_string(registry.port) + "; requests get 503";
    return;
  }
  Protocol protocol = protocol_by_word(registry.protocol).value_or(Protocol{});
  cluster.protocol = protocol.version;
  if (registry.type == resource::Registry::Type::kDns) {
    auto dns = std::make_shared<config::DnsDiscovery>();
    dns->names = registry.domains;
    dns->port = registry.port;
    cluster.dns = std::move(dns);
  }
  if (protocol.tls) build_tls(state, cluster, registry.sni, nullptr);
  apply_options(state, cluster);
}

void ClusterTable::watch_names(State& state, const config::Cluster& cluster) {
  if (!cluster.dns) return;
  for (const std::string& name : cluster.dns->names) {
    state.dns_names.push_back(name);
    by_dns_[name].insert(&state);
  }
}

void ClusterTable::apply_options(State& state, config::Cluster& cluster) {
  watch_names(state, cluster);
  const ServiceOptions* options = options_for(state.key);
  if (!options) return;
  if (options->policy) options->policy->apply(cluster);
  if (options->load_balancing) cluster.load_balancing = *options->load_balancing;
  const bool maglev = cluster.load_balancing == config::LoadBalancing::kMaglev;
  const auto hashing = maglev ? config::LoadBalancing::kMaglev : config::LoadBalancing::kRingHash;
  if (options->affinity) {
    cluster.load_balancing = hashing;
    cluster.hash = affinity_policy(*options);
  } else if (options->hash.source != config::HashPolicy::Source::kNone) {
    cluster.load_balancing = hashing;
    cluster.hash = options->hash;
    cluster.hash_subset = options->hash_by_subset ? static_cast<uint32_t>(options->hash_subset) : 0;
  }
  if (options->connect_timeout_seconds) {
    cluster.connect_timeout = std::chrono::seconds(options->connect_timeout_seconds);
  }
  using P = ServiceOptions::Protocol;
  if (options->protocol == P::kUnset) {
    if (cluster.tls && options->has_tls()) {
      build_tls(state, cluster, cluster.tls->sni, options);
    }
    return;
  }
  bool http2 = options->protocol == P::kHttp2 || options->protocol == P::kGrpc || options->protocol == P::kGrpcs;
  cluster.protocol = http2 ? config::UpstreamProtocol::kHttp2 : config::UpstreamProtocol::kHttp1;
  bool tls = options->protocol == P::kHttps || options->protocol == P::kGrpcs ||
             (options->protocol != P::kHttp && !options->client_secret.empty());
  std::string sni = cluster.tls ? cluster.tls->sni : std::string();
  if (sni.empty() && cluster.dns && cluster.dns->names.size() == 1) sni = cluster.dns->names[0];
  cluster.tls = nullptr;
  if (tls) build_tls(state, cluster, sni, options);
}

bool ClusterTable::build_tls(State& state, config::Cluster& cluster, const std::string& sni,
                             const ServiceOptions* options) {
  net::TlsClientConfig config;
  config.sni = options && options->send_server_name && !options->ssl_name.empty() ? options->ssl_name : sni;
  config.verify = options && options->verify.value_or(false);
  if (options) {
    config.ciphers_tls12 = options->ciphers;
    config.verify_depth = static_cast<int>(options->verify_depth);
    if (options->tls_min_version == "TLSv1.3") config.min_version = net::TlsVersion::kTls13;
    if (options->tls_max_version == "TLSv1.2") config.max_version = net::TlsVersion::kTls12;
  }
  config.alpn = {cluster.protocol == config::UpstreamProtocol::kHttp2 ? "h2" : "http/1.1"};
  std::string problem;
  resource::Diagnostic diagnostic;
  const std::string secret_name = options ? options->client_secret.to_string() : std::string();
  if (options && !options->client_secret.empty()) {
    const SecretRef& ref = options->client_secret;
    state.secrets.push_back(ref.to_string());
    by_secret_[ref.to_string()].insert(&state);
    diagnostic.object = "Secret " + ref.to_string();
    const auto* secret = store_.get<resource::Secret>(ref.ns, ref.name);
    if (!secret) {
      problem = "Secret " + ref.to_string() + " for the upstream (proxy-ssl-secret) does not exist";
    } else {
      config.certificate_pem = secret_text(secret->certificate());
      config.private_key_pem = secret_text(secret->private_key());
      config.ca_pem = secret_text(secret->ca());
      config.verify = options->verify.value_or(!config.ca_pem.empty());
      if (secret->meta.file) diagnostic.file = *secret->meta.file;
      diagnostic.line = secret->meta.mark.line;
      diagnostic.column = secret->meta.mark.column;
    }
  }
  if (problem.empty()) {
    auto context = contexts_.client(config);
    if (context) {
      auto tls = std::make_shared<config::UpstreamTls>();
      tls->context = *context;
      tls->sni = config.sni;
      cluster.tls = state.last_tls = std::move(tls);
      state.last_tls_secret = secret_name;
      return true;
    }
    problem = context.error().message;
  }
  diagnostic.message = problem + " (cluster " + state.name + ")";
  if (state.last_tls && state.last_tls_secret == secret_name) {
    diagnostic.message += "; the last good certificate stays in use";
    cluster.tls = state.last_tls;
  } else {
    // Without what was asked for, nothing is sent at all.
    state.problem = problem + "; requests get 503";
  }
  state.diagnostics.push_back(std::move(diagnostic));
  return false;
}

std::shared_ptr<const config::EndpointSet> ClusterTable::build_endpoints(State& state) const {
  auto out = std::make_shared<config::EndpointSet>();
  if (!state.problem.empty()) return out;
  std::vector<config::Endpoint>& list = out->endpoints;
  if (state.built->dns) {
    add_dns_endpoints(*state.built->dns, list);
  }
  if (!state.endpoints_host.empty()) {
    Source source = find(state.endpoints_host);
    if (source.service) {
      auto port = std::find_if(source.service->ports.begin(), source.service->ports.end(),
                               [&](const auto& p) { return p.port == state.key.port; });
      if (port != source.service->ports.end() && !add_cluster_ip(state, *source.service, list)) {
        add_service_endpoints(*source.service, *port, state.key.subset, list);
      }
    }
  } else if (Source source = find(state.key.host); !state.built->dns && source.registry && state.key.subset.empty()) {
    for (const auto& [ip, port] : source.registry->addresses) {
      config::Endpoint endpoint;
      if (auto address = net::Address::parse_ip(ip, port)) endpoint.address = *address;
      list.push_back(std::move(endpoint));
    }
  }
  if (state.key.url != ClusterKey::Url::kNo && list.empty() && !state.built->dns && state.endpoints_host.empty()) {
    if (auto address = net::Address::parse_ip(state.key.host, state.key.port)) list.emplace_back().address = *address;
  }
  std::sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.address < b.address; });
  list.erase(std::unique(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.address == b.address; }),
             list.end());
  if (auto unhealthy = unhealthy_.find(state.name); unhealthy != unhealthy_.end()) {
    for (config::Endpoint& endpoint : list) endpoint.healthy = !unhealthy->second.contains(endpoint.address);
  }
  return out;
}

// With service-upstream: the Service's own address in place of those of its pods.
bool ClusterTable::add_cluster_ip(const State& state, const resource::Service& service,
                                  std::vector<config::Endpoint>& out) const {
  const ServiceOptions* options = options_for(state.key);
  if (!options || !options->cluster_ip || !state.key.subset.empty()) return false;
  auto address = net::Address::parse_ip(service.cluster_ip, state.key.port);
  if (!address) return false;  // headless
  out.emplace_back().address = *address;
  return true;
}

void ClusterTable::add_service_endpoints(const resource::Service& service, const resource::ServicePort& port,
                                         const std::string& subset, std::vector<config::Endpoint>& out) const {
  auto add = [&](const std::string& ip, uint16_t number) -> config::Endpoint* {
    auto address = net::Address::parse_ip(ip, number);
    if (!address) return nullptr;
    out.emplace_back().address = *address;
    return &out.back();
  };
  auto slices = slices_.find(service.meta.ns + "/" + service.meta.name);
  if (slices == slices_.end()) {
    const auto* endpoints = store_.get<resource::Endpoints>(service.meta.ns, service.meta.name);
    if (!endpoints || !subset.empty()) return;
    for (const resource::EndpointsSubset& part : endpoints->subsets) {
      const resource::SlicePort* found = find_port(part.ports, port);
      if (!found) continue;
      for (const std::string& ip : part.addresses) add(ip, port_number(*found, port));
    }
    return;
  }
  for (const auto& [name, slice] : slices->second) {
    const resource::SlicePort* found = find_port(slice->ports, port);
    if (!found || !slice_has_label(*slice, subset)) continue;
    for (const resource::SliceEndpoint& item : slice->endpoints) {
      if (!item.ready) continue;
      for (const std::string& ip : item.addresses) {
        config::Endpoint* endpoint = add(ip, port_number(*found, port));
        if (!endpoint) continue;
        endpoint->zone = item.zone;
        if (const resource::Pair* version = resource::find(slice->meta.labels, "version")) {
          endpoint->labels.emplace_back("version", version->value);
        }
      }
    }
  }
}

void ClusterTable::add_dns_endpoints(const config::DnsDiscovery& dns, std::vector<config::Endpoint>& out) const {
  for (const std::string& name : dns.names) {
    auto at = resolved_.find(name);
    if (at == resolved_.end()) continue;
    for (const net::Address& address : at->second) {
      config::Endpoint& endpoint = out.emplace_back();
      endpoint.address = address.with_port(dns.port);
      endpoint.hostname = name;
    }
  }
}

}  // namespace sluice::compile
