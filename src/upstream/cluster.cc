#include "upstream/cluster.h"

#include <algorithm>
#include <unordered_map>

#include "base/hash.h"

namespace sluice::upstream {

size_t max_ejected(const config::Cluster& cluster) {
  return std::max<size_t>(1, cluster.endpoints->endpoints.size() * cluster.outlier.max_ejection_percent / 100);
}

ClusterState::ClusterState(event::Loop& loop, Random& random, std::shared_ptr<const config::Cluster> config,
                           const EjectionSink* on_ejected)
    : loop_(loop), random_(random), on_ejected_(on_ejected) {
  update(std::move(config));
}

ClusterState::~ClusterState() = default;

void ClusterState::update(std::shared_ptr<const config::Cluster> config) {
  const bool first = config_ == nullptr;
  const bool connections_differ = !first && (config_->tls != config->tls || config_->protocol != config->protocol ||
                                             config_->send_proxy_protocol != config->send_proxy_protocol);
  const bool same_endpoints = !first && config_->endpoints == config->endpoints;
  config_ = std::move(config);
  dirty_ = true;
  if (same_endpoints && !connections_differ) return index_pins();

  std::unordered_map<std::string, std::unique_ptr<EndpointState>> previous;
  for (auto& endpoint : endpoints_) previous.emplace(endpoint->address_text, std::move(endpoint));
  endpoints_.clear();
  for (const config::Endpoint& endpoint : config_->endpoints->endpoints) {
    std::string text = endpoint.address.to_string();
    auto found = previous.find(text);
    if (found != previous.end() && found->second && !connections_differ) {
      found->second->config = endpoint;
      endpoints_.push_back(std::move(found->second));
      previous.erase(found);
      continue;
    }
    auto state = std::make_unique<EndpointState>();
    state->config = endpoint;
    state->address_text = std::move(text);
    state->pin = hash64(state->address_text);
    state->added_ms = first ? 0 : loop_.now_ms();
    state->pool = std::make_unique<Pool>(loop_, *this, *state);
    endpoints_.push_back(std::move(state));
  }
  for (auto& [text, endpoint] : previous) {
    if (!endpoint) continue;
    endpoint->removed = true;
    drain(*endpoint);
    removed_.push_back(std::move(endpoint));
  }
  release_removed();
  index_pins();
}

void ClusterState::index_pins() {
  pins_.clear();
  if (!config_->hash.cookie || !config_->hash.cookie->persistent) return;
  for (const auto& endpoint : endpoints_) pins_.emplace_back(endpoint->pin, endpoint.get());
  std::sort(pins_.begin(), pins_.end());
}

EndpointState* ClusterState::find_pinned(uint64_t pin) const {
  const auto found = std::lower_bound(pins_.begin(), pins_.end(), std::pair<uint64_t, EndpointState*>(pin, nullptr));
  return found != pins_.end() && found->first == pin ? found->second : nullptr;
}

bool ClusterState::is_unused(const EndpointState& endpoint) {
  if (endpoint.references > 0 || !endpoint.pool->idle()) return false;
  for (const auto& [host, pool] : endpoint.host_pools) {
    if (!pool->idle()) return false;
  }
  return true;
}

void ClusterState::drain(EndpointState& endpoint) {
  endpoint.pool->drain();
  for (const auto& [host, pool] : endpoint.host_pools) pool->drain();
}

Pool* ClusterState::pool_for(EndpointState& endpoint, std::string_view host) {
  if (!config_->tls || !config_->tls->sni.empty()) return endpoint.pool.get();
  const auto found = endpoint.host_pools.find(host);
  if (found != endpoint.host_pools.end()) return found->second.get();
  if (endpoint.host_pools.size() >= kMaxHostPools) {
    std::erase_if(endpoint.host_pools, [](const auto& entry) { return entry.second->idle(); });
    if (endpoint.host_pools.size() >= kMaxHostPools) return nullptr;
  }
  auto& pool = endpoint.host_pools[std::string(host)];
  pool = std::make_unique<Pool>(loop_, *this, endpoint);
  return pool.get();
}

void ClusterState::release_removed() {
  std::erase_if(removed_, [](const auto& endpoint) { return is_unused(*endpoint); });
}

bool ClusterState::warming_up(const EndpointState& endpoint) const {
  return endpoint.added_ms && config_->slow_start.count() > 0 &&
         loop_.now_ms() - endpoint.added_ms < static_cast<uint64_t>(config_->slow_start.count());
}

void ClusterState::rebuild_candidates() {
  dirty_ = false;
  balancer_.reset();
  candidates_.clear();
  any_warming_ = false;
  for (const auto& endpoint : endpoints_) {
    if (!endpoint->usable()) continue;
    candidates_.push_back(endpoint.get());
    any_warming_ = any_warming_ || warming_up(*endpoint);
  }
  if (candidates_.size() * 100 < endpoints_.size() * config_->panic_threshold_percent) {
    candidates_.clear();
    for (const auto& endpoint : endpoints_) {
      if (endpoint->config.weight > 0) candidates_.push_back(endpoint.get());
    }
  }
  if (candidates_.empty()) return;
  balancer_ = make_load_balancer(
      {config_->load_balancing, config_->ring_size, config_->maglev_table, config_->hash_subset, &loop_}, candidates_,
      random_);
}

EndpointState* ClusterState::choose(bool has_hash, uint64_t hash, std::span<EndpointState* const> tried) {
  if (dirty_) rebuild_candidates();
  if (!balancer_) return nullptr;
  constexpr uint32_t kAttempts = 5;
  EndpointState* chosen = nullptr;
  for (uint32_t attempt = 0; attempt < kAttempts; ++attempt) {
    chosen = balancer_->pick(has_hash, hash, attempt);
    if (std::find(tried.begin(), tried.end(), chosen) != tried.end()) continue;
    if (any_warming_ && warming_up(*chosen)) {
      // Accept in proportion to the endpoint's age.
      const double age =
          static_cast<double>(loop_.now_ms() - chosen->added_ms) / static_cast<double>(config_->slow_start.count());
      if (random_.unit() > std::max(age, 0.1)) continue;
    }
    return chosen;
  }
  if (!tried.empty()) {
    for (EndpointState* candidate : candidates_) {
      if (std::find(tried.begin(), tried.end(), candidate) == tried.end()) return candidate;
    }
  }
  return chosen;
}

bool ClusterState::has_usable_endpoint() {
  if (dirty_) rebuild_candidates();
  return balancer_ != nullptr;
}

net::Address ClusterState::other_family(const EndpointState& endpoint) const {
  if (endpoint.config.hostname.empty()) return {};
  for (const auto& other : endpoints_) {
    if (other->config.hostname == endpoint.config.hostname && other->usable() &&
        other->config.address.family() != endpoint.config.address.family()) {
      return other->config.address;
    }
  }
  return {};
}

void ClusterState::begin_request(EndpointState& endpoint) {
  ++counters.requests;
  ++endpoint.active_requests;
  ++endpoint.references;
  ++endpoint.requests;
}

void ClusterState::end_request(EndpointState& endpoint, const TryResult& result) {
  --counters.requests;
  --endpoint.active_requests;
  --endpoint.references;
  if (result.local_failure || result.status >= 500) ++endpoint.failures;
  if (endpoint.removed) return;
  if (config_->outlier.enabled()) observe(endpoint, result);
}

void ClusterState::observe(EndpointState& endpoint, const TryResult& result) {
  if (!result.local_failure && result.status == 0) return;  // cancelled by the client: says nothing
  if (!result.local_failure && result.status < 500) {
    endpoint.consecutive_5xx = endpoint.consecutive_gateway_errors = 0;
    // Well for as long as the first ejection lasts: one less "in a row".
    if (endpoint.ejections > 0 &&
        loop_.now_ms() - endpoint.returned_ms >= static_cast<uint64_t>(config_->outlier.base_ejection_time.count())) {
      --endpoint.ejections;
      endpoint.returned_ms = loop_.now_ms();
    }
    return;
  }
  ++endpoint.consecutive_5xx;
  const bool gateway_error = result.local_failure || (result.status >= 502 && result.status <= 504);
  endpoint.consecutive_gateway_errors = gateway_error ? endpoint.consecutive_gateway_errors + 1 : 0;
  const config::OutlierDetection& outlier = config_->outlier;
  if ((outlier.consecutive_5xx && endpoint.consecutive_5xx >= outlier.consecutive_5xx) ||
      (outlier.consecutive_gateway_errors &&
       endpoint.consecutive_gateway_errors >= outlier.consecutive_gateway_errors)) {
    eject(endpoint);
  }
}

void ClusterState::eject(EndpointState& endpoint) {
  if (endpoint.ejected()) return;
  size_t ejected = 0;
  for (const auto& other : endpoints_) ejected += other->ejected();
  if (ejected >= max_ejected(*config_)) return;
  ++endpoint.ejections;
  const auto base = static_cast<uint64_t>(config_->outlier.base_ejection_time.count());
  const auto longest = static_cast<uint64_t>(config_->outlier.max_ejection_time.count());
  endpoint.ejected_until_ms = loop_.now_ms() + std::min(base * endpoint.ejections, std::max(base, longest));
  endpoint.consecutive_5xx = endpoint.consecutive_gateway_errors = 0;
  dirty_ = true;
  arm_ejection_timer();
  if (on_ejected_ && *on_ejected_) {
    (*on_ejected_)({config_->name, endpoint.address_text, endpoint.ejected_until_ms, endpoint.ejections});
  }
}

void ClusterState::apply(const Ejection& ejection) {
  for (const auto& endpoint : endpoints_) {
    if (endpoint->address_text != ejection.endpoint) continue;
    endpoint->ejected_until_ms = ejection.until_ms;
    endpoint->consecutive_5xx = endpoint->consecutive_gateway_errors = 0;
    // One that was ejected too hastily has its row back.
    endpoint->ejections = ejection.until_ms ? std::max(endpoint->ejections, ejection.in_a_row)
                                            : endpoint->ejections - (endpoint->ejections > 0);
    dirty_ = true;
    return arm_ejection_timer();
  }
}

void ClusterState::arm_ejection_timer() {
  uint64_t next = 0;
  for (const auto& endpoint : endpoints_) {
    if (endpoint->ejected() && (!next || endpoint->ejected_until_ms < next)) next = endpoint->ejected_until_ms;
  }
  if (next) loop_.arm(ejection_timer_, next > loop_.now_ms() ? next - loop_.now_ms() : 1);
}

void ClusterState::on_ejection_timer() {
  for (const auto& endpoint : endpoints_) {
    if (!endpoint->ejected() || endpoint->ejected_until_ms > loop_.now_ms()) continue;
    endpoint->ejected_until_ms = 0;
    endpoint->returned_ms = loop_.now_ms();
  }
  dirty_ = true;
  arm_ejection_timer();
}

void ClusterState::drain() {
  for (const auto& endpoint : endpoints_) drain(*endpoint);
}

bool ClusterState::idle() const {
  return !(counters.requests || counters.connections || counters.pending || counters.retries);
}

ClusterManager::ClusterManager(event::Loop& loop, Random& random, EjectionSink on_ejected)
    : loop_(loop), random_(random), on_ejected_(std::move(on_ejected)) {}
ClusterManager::~ClusterManager() = default;

ClusterState* ClusterManager::get(const config::Snapshot& snapshot, uint32_t slot) {
  if (slot >= states_.size()) {
    if (!snapshot.clusters.get(slot)) return nullptr;
    states_.resize(slot + 1);
  }
  Entry& entry = states_[slot];
  if (entry.version == snapshot.version) return entry.state.get();
  if (entry.version > snapshot.version) {
    // An older exchange: the slot may have become another cluster's since.
    const config::Cluster* older = snapshot.clusters.get(slot);
    return older && entry.state && entry.state->config().name == older->name ? entry.state.get() : nullptr;
  }
  entry.version = snapshot.version;
  std::shared_ptr<const config::Cluster> config = snapshot.clusters.get_shared(slot);
  if (!config || (entry.state && entry.state->config().name != config->name)) retire(entry);
  if (!config) return nullptr;
  if (!entry.state) {
    entry.state = std::make_unique<ClusterState>(loop_, random_, std::move(config), &on_ejected_);
  } else if (!entry.state->has_config(config.get())) {
    entry.state->update(std::move(config));
  }
  return entry.state.get();
}

void ClusterManager::apply(const config::Snapshot& snapshot, const Ejection& ejection) {
  const uint32_t* slot = snapshot.cluster_slots.find(ejection.cluster);
  if (!slot) return;
  if (ClusterState* state = get(snapshot, *slot)) state->apply(ejection);
}

void ClusterManager::retire(Entry& entry) {
  if (!entry.state) return;
  entry.state->drain();
  retired_.push_back(std::move(entry.state));
}

void ClusterManager::sweep(const config::Snapshot& snapshot) {
  for (uint32_t slot = 0; slot < states_.size(); ++slot) {
    if (states_[slot].state) get(snapshot, slot);
  }
  std::erase_if(retired_, [](const auto& state) { return state->idle(); });
}

}  // namespace sluice::upstream
