#include "compile/clusters.h"

#include <algorithm>

#include "compile/clusters_state.h"

namespace sluice::compile {

using resource::Kind;

std::string ClusterKey::name() const {
  if (url == Url::kNo) return "outbound|" + std::to_string(port) + "|" + subset + "|" + host;
  return "url|" + std::to_string(port) + (url == Url::kHttps ? "|https|" : "|http|") + host;
}

ClusterTable::ClusterTable(const resource::Store& store, const Options& options, TlsContexts& contexts)
    : store_(store), options_(options), contexts_(contexts) {}

ClusterTable::~ClusterTable() = default;

// --- references ---

uint32_t ClusterTable::acquire(const ClusterKey& key) {
  std::string name = key.name();
  auto [at, fresh] = by_name_.try_emplace(std::move(name));
  if (fresh) {
    at->second = std::make_unique<State>();
    State& state = *at->second;
    state.key = key;
    state.name = at->first;
    // A slot rests for a while before another cluster gets it, so that nobody who still looks at an
    // older snapshot meets a stranger there.
    constexpr size_t kResting = 256;
    if (free_slots_.size() - free_head_ > kResting) {
      state.slot = free_slots_[free_head_++];
      if (free_head_ == 1024) {
        free_slots_.erase(free_slots_.begin(), free_slots_.begin() + 1024);
        free_head_ = 0;
      }
    } else {
      state.slot = static_cast<uint32_t>(by_slot_.size());
      by_slot_.push_back(nullptr);
    }
    by_slot_[state.slot] = &state;
    mark(state, false);
  }
  ++at->second->references;
  return at->second->slot;
}

void ClusterTable::release(uint32_t slot) {
  State* state = by_slot_[slot];
  if (--state->references > 0) return;
  forget_dependencies(*state);
  if (state->marked) std::erase(marked_, state);
  removed_.emplace_back(slot, state->name);
  unhealthy_.erase(state->name);
  by_slot_[slot] = nullptr;
  free_slots_.push_back(slot);
  by_name_.erase(std::string(state->name));
}

void ClusterTable::offer(const std::string& host, uint16_t port, const Age& age,
                         std::shared_ptr<const ServiceOptions> options) {
  offers_[host + "|" + std::to_string(port)][age] = std::move(options);
  mark_host(host, false);
}

void ClusterTable::withdraw(const std::string& host, uint16_t port, const Age& age) {
  auto at = offers_.find(host + "|" + std::to_string(port));
  if (at == offers_.end()) return;
  at->second.erase(age);
  if (at->second.empty()) offers_.erase(at);
  mark_host(host, false);
}

bool ClusterTable::is_overruled(const std::string& host, uint16_t port, const Age& age) const {
  auto at = offers_.find(host + "|" + std::to_string(port));
  return at != offers_.end() && at->second.begin()->first != age;
}

const ServiceOptions* ClusterTable::options_for(const ClusterKey& key) const {
  auto at = offers_.find(key.host + "|" + std::to_string(key.port));
  return at == offers_.end() ? nullptr : at->second.begin()->second.get();
}

// --- what services say ---

std::string ClusterTable::service_host(const std::string& ns, const std::string& service) const {
  return service + "." + ns + ".svc." + options_.domain_suffix;
}

bool ClusterTable::split_host(const std::string& host, std::string* ns, std::string* service) const {
  std::string_view rest = host;
  std::string tail = ".svc." + options_.domain_suffix;
  if (!rest.ends_with(tail)) return false;
  rest.remove_suffix(tail.size());
  size_t dot = rest.find('.');
  if (dot == rest.npos || rest.find('.', dot + 1) != rest.npos) return false;
  *service = rest.substr(0, dot);
  *ns = rest.substr(dot + 1);
  return true;
}

ClusterTable::Source ClusterTable::find(const std::string& host) const {
  Source out;
  if (auto at = registries_.find(host); at != registries_.end()) {
    out.registry = at->second.get();
    return out;
  }
  std::string ns, service;
  if (split_host(host, &ns, &service)) out.service = store_.get<resource::Service>(ns, service);
  return out;
}

ClusterKey ClusterTable::key_of_url(const std::string& host, uint16_t port, bool https) const {
  const Source source = find(host);
  if (source.registry || (source.service && !https)) return {host, port, {}};
  return {host, port, {}, https ? ClusterKey::Url::kHttps : ClusterKey::Url::kHttp};
}

std::optional<uint16_t> ClusterTable::port_by_name(const std::string& ns, const std::string& service,
                                                   const std::string& port) const {
  const auto* found = store_.get<resource::Service>(ns, service);
  if (!found) return std::nullopt;
  for (const resource::ServicePort& candidate : found->ports) {
    if (candidate.name == port) return candidate.port;
  }
  return std::nullopt;
}

std::optional<uint16_t> ClusterTable::only_port(const std::string& host) const {
  Source source = find(host);
  if (source.registry) return source.registry->port;
  if (source.service && source.service->ports.size() == 1) return source.service->ports[0].port;
  return std::nullopt;
}

std::optional<uint16_t> ClusterTable::first_port(const std::string& host) const {
  Source source = find(host);
  if (source.registry) return source.registry->port;
  if (source.service && !source.service->ports.empty()) return source.service->ports[0].port;
  return std::nullopt;
}

bool ClusterTable::has_port(const std::string& host, uint16_t port) const {
  Source source = find(host);
  if (source.registry) return source.registry->port == port;
  if (!source.service) return false;
  const auto& ports = source.service->ports;
  return std::any_of(ports.begin(), ports.end(), [&](const auto& p) { return p.port == port; });
}

// --- changes ---

void ClusterTable::mark(State& state, bool endpoints_only) {
  if (!state.marked) {
    state.marked = true;
    state.endpoints_only = endpoints_only;
    marked_.push_back(&state);
  } else {
    state.endpoints_only &= endpoints_only;
  }
}

void ClusterTable::mark_host(const std::string& host, bool endpoints_only) {
  auto at = by_host_.find(host);
  if (at == by_host_.end()) return;
  for (State* state : at->second) mark(*state, endpoints_only);
}

void ClusterTable::depend(State& state, const std::string& host) {
  state.hosts.push_back(host);
  by_host_[host].insert(&state);
}

void ClusterTable::forget_dependencies(State& state) {
  auto forget = [&](auto& index, std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
      auto at = index.find(key);
      if (at == index.end()) continue;
      at->second.erase(&state);
      if (at->second.empty()) index.erase(at);
    }
    keys.clear();
  };
  forget(by_host_, state.hosts);
  forget(by_dns_, state.dns_names);
  forget(by_secret_, state.secrets);
}

void ClusterTable::on_change(const resource::Change& change) {
  switch (change.key.kind) {
    case Kind::kService:
      return mark_host(service_host(change.key.ns, change.key.name), false);
    case Kind::kEndpoints:
      return mark_host(service_host(change.key.ns, change.key.name), true);
    case Kind::kEndpointSlice:
      return on_slice(change);
    case Kind::kMcpBridge:
      if (change.key.ns == options_.system_namespace && change.key.name == "default") on_bridge(change);
      return;
    case Kind::kSecret: {
      auto at = by_secret_.find(change.key.ns + "/" + change.key.name);
      if (at == by_secret_.end()) return;
      for (State* state : at->second) mark(*state, false);
      return;
    }
    default:
      return;
  }
}

void ClusterTable::on_slice(const resource::Change& change) {
  auto touch = [&](const resource::ObjectPtr& object, bool insert) {
    if (!object) return;
    auto slice = std::static_pointer_cast<const resource::EndpointSlice>(object);
    if (slice->service.empty()) return;
    std::string key = slice->meta.ns + "/" + slice->service;
    if (insert) {
      slices_[key][slice->meta.name] = slice;
    } else {
      auto at = slices_.find(key);
      if (at != slices_.end()) {
        at->second.erase(slice->meta.name);
        if (at->second.empty()) slices_.erase(at);
      }
    }
    // Names have to be resolved: another cluster, not just other endpoints.
    const bool names = slice->address_type == resource::EndpointSlice::AddressType::kFqdn;
    mark_host(service_host(slice->meta.ns, slice->service), !names);
  };
  touch(change.before, false);
  touch(change.after, true);
}

void ClusterTable::on_bridge(const resource::Change& change) {
  Registries old = std::move(registries_);
  std::unordered_map<std::string, uint32_t> old_slots = std::move(registry_slots_);
  registries_.clear();
  registry_slots_.clear();
  if (auto bridge = std::static_pointer_cast<const resource::McpBridge>(change.after)) {
    for (const resource::Registry& registry : bridge->registries) registries_[registry.host()] = {bridge, &registry};
    for (const std::string& host : bridge->refused) {
      if (auto last_good = old.find(host); last_good != old.end()) registries_.emplace(host, last_good->second);
    }
  }
  // Clusters that stay are acquired before they are released, so that they keep their slots.
  for (const auto& [host, registry] : registries_) {
    ClusterKey key{host, registry->port, {}};
    registry_slots_[key.name()] = acquire(key);
    mark_host(host, false);
  }
  for (const auto& [host, registry] : old) mark_host(host, false);
  for (const auto& [name, slot] : old_slots) release(slot);
}

void ClusterTable::set_upstream_idle_timeout(std::chrono::milliseconds timeout) {
  if (timeout == idle_timeout_) return;
  idle_timeout_ = timeout;
  for (const auto& [name, state] : by_name_) mark(*state, false);
}

void ClusterTable::set_resolved(const std::string& name, std::vector<net::Address> addresses) {
  std::sort(addresses.begin(), addresses.end());
  auto& known = resolved_[name];
  if (known == addresses) return;
  known = std::move(addresses);
  auto at = by_dns_.find(name);
  if (at == by_dns_.end()) return;
  for (State* state : at->second) mark(*state, true);
}

void ClusterTable::set_health(const std::string& cluster, const net::Address& endpoint, bool healthy) {
  auto at = by_name_.find(cluster);
  if (at == by_name_.end()) return;
  auto& set = unhealthy_[cluster];
  bool changed = healthy ? set.erase(endpoint) > 0 : set.insert(endpoint).second;
  if (set.empty()) unhealthy_.erase(cluster);
  if (changed) mark(*at->second, true);
}

size_t ClusterTable::flush(config::Snapshot& next) {
  size_t touched = marked_.size() + removed_.size();
  std::vector<std::pair<uint32_t, std::shared_ptr<const config::Cluster>>> built;
  std::sort(removed_.begin(), removed_.end());
  for (const auto& [slot, name] : removed_) {
    built.emplace_back(slot, nullptr);
    next.cluster_slots.set(name, nullptr);
  }
  next.clusters.set_all(built);
  built.clear();
  removed_.clear();
  // build() may not mark anything; the list is stable.
  std::sort(marked_.begin(), marked_.end(), [](const State* a, const State* b) { return a->slot < b->slot; });
  built.reserve(marked_.size());
  for (State* state : marked_) {
    bool existed = state->built != nullptr;
    if (state->endpoints_only && existed) {
      auto cluster = std::make_shared<config::Cluster>(*state->built);
      cluster->endpoints = build_endpoints(*state);
      state->built = std::move(cluster);
    } else {
      build(*state);
    }
    state->marked = state->endpoints_only = false;
    built.emplace_back(state->slot, state->built);
    if (!state->built) {
      if (existed) next.cluster_slots.set(state->name, nullptr);
    } else if (!existed) {
      next.cluster_slots.set(state->name, std::make_shared<const uint32_t>(state->slot));
    }
  }
  next.clusters.set_all(built);
  marked_.clear();
  if (resolved_.size() > 2 * by_dns_.size() + 64) {
    std::erase_if(resolved_, [&](const auto& entry) { return !by_dns_.contains(entry.first); });
  }
  return touched;
}

std::vector<std::string> ClusterTable::dns_names() const {
  std::vector<std::string> out;
  for (const auto& [name, states] : by_dns_) out.push_back(name);
  std::sort(out.begin(), out.end());
  return out;
}

std::string ClusterTable::problem(uint32_t slot) const {
  const State* state = slot < by_slot_.size() ? by_slot_[slot] : nullptr;
  return state ? state->problem : "does not exist";
}

void ClusterTable::diagnostics(resource::Diagnostics& out) const {
  for (const State* state : by_slot_) {
    if (state) out.insert(out.end(), state->diagnostics.begin(), state->diagnostics.end());
  }
}

}  // namespace sluice::compile
