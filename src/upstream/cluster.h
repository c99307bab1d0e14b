#pragma once
// A worker's run-time state of the clusters: endpoints with their pools, the balancer, limits and outlier detection.

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "config/snapshot.h"
#include "event/loop.h"
#include "upstream/endpoint.h"
#include "upstream/load_balancer.h"
#include "upstream/pool.h"

namespace sluice::upstream {

// How one try ended, for outlier detection.
struct TryResult {
  int status = 0;              // of the response; 0: none came
  bool local_failure = false;  // connect failure, reset, timeout
};

// A verdict of outlier detection. It is made by one worker, checked against the share of endpoints that may be ejected
// by the control thread, and kept by all workers.
struct Ejection {
  std::string cluster;
  std::string endpoint;   // EndpointState::address_text
  uint64_t until_ms = 0;  // of the loops' clock; 0: the endpoint is not ejected after all
  uint32_t in_a_row = 0;  // EndpointState::ejections
};
using EjectionSink = std::function<void(const Ejection&)>;

// How many endpoints of the cluster may be ejected at a time.
size_t max_ejected(const config::Cluster& cluster);

class ClusterState {
 public:
  // What is under way, checked against config().circuit_breaker.
  struct Counters {
    uint32_t connections = 0;
    uint32_t pending = 0;
    uint32_t requests = 0;
    uint32_t retries = 0;
  };

  // `on_ejected` (may be null) is told of each ejection that this state decides on; outlives it.
  ClusterState(event::Loop& loop, Random& random, std::shared_ptr<const config::Cluster> config,
               const EjectionSink* on_ejected = nullptr);
  ~ClusterState();

  const config::Cluster& config() const { return *config_; }
  // Takes over a newer configuration or endpoint set; endpoints keep their state by address.
  void update(std::shared_ptr<const config::Cluster> config);
  bool has_config(const config::Cluster* config) const { return config_.get() == config; }

  // Chooses an endpoint, avoiding those in `tried` if others are usable. Null: none is usable.
  EndpointState* choose(bool has_hash, uint64_t hash, std::span<EndpointState* const> tried);

  // The endpoint that the value of a persistent affinity cookie names. Null: it is gone. It may be unusable now.
  EndpointState* find_pinned(uint64_t pin) const;

  // Whether choose() finds an endpoint; chooses none.
  bool has_usable_endpoint();

  // An address of the other IP family that the endpoint's name resolved to; none if there is none.
  net::Address other_family(const EndpointState& endpoint) const;

  // The pool for a request with that host. Null: too many hosts are in use at the endpoint (kMaxHostPools).
  Pool* pool_for(EndpointState& endpoint, std::string_view host);
  static constexpr size_t kMaxHostPools = 256;

  // A request holds its endpoint from begin to end.
  void begin_request(EndpointState& endpoint);
  void end_request(EndpointState& endpoint, const TryResult& result);

  // Takes over a verdict; nothing if the endpoint is not known.
  void apply(const Ejection& ejection);

  // Closes idle connections; for clusters that no snapshot names any more.
  void drain();
  // Nothing is under way.
  bool idle() const;

  const std::vector<std::unique_ptr<EndpointState>>& endpoints() const { return endpoints_; }
  Counters counters;

 private:
  static bool is_unused(const EndpointState& endpoint);
  static void drain(EndpointState& endpoint);
  void rebuild_candidates();
  void index_pins();
  void release_removed();
  void observe(EndpointState& endpoint, const TryResult& result);
  void eject(EndpointState& endpoint);
  void on_ejection_timer();
  void arm_ejection_timer();
  bool warming_up(const EndpointState& endpoint) const;

  event::Loop& loop_;
  Random& random_;
  const EjectionSink* on_ejected_;
  std::shared_ptr<const config::Cluster> config_;
  std::vector<std::unique_ptr<EndpointState>> endpoints_;
  std::vector<std::unique_ptr<EndpointState>> removed_;    // still have requests or connections
  std::vector<std::pair<uint64_t, EndpointState*>> pins_;  // sorted; of clusters with persistent affinity
  Candidates candidates_;
  std::unique_ptr<LoadBalancer> balancer_;
  bool dirty_ = true;
  bool any_warming_ = false;
  event::MemberTimer<ClusterState, &ClusterState::on_ejection_timer> ejection_timer_{this};
};

class ClusterManager {
 public:
  // `on_ejected`: see ClusterState; may be empty.
  ClusterManager(event::Loop& loop, Random& random, EjectionSink on_ejected = {});
  ~ClusterManager();

  // The state of the cluster in that slot, brought up to the snapshot. Null: the slot is empty.
  ClusterState* get(const config::Snapshot& snapshot, uint32_t slot);
  // Takes over a verdict about a cluster of `snapshot`.
  void apply(const config::Snapshot& snapshot, const Ejection& ejection);
  // Drops the state of clusters that `snapshot` does not have; called now and then.
  void sweep(const config::Snapshot& snapshot);

  template <typename Function>
  void for_each(Function function) const {
    for (const Entry& entry : states_) {
      if (entry.state) function(*entry.state);
    }
  }

 private:
  struct Entry {
    std::unique_ptr<ClusterState> state;
    uint64_t version = 0;  // of the snapshot it was last brought up to
  };
  void retire(Entry& entry);

  event::Loop& loop_;
  Random& random_;
  const EjectionSink on_ejected_;
  std::vector<Entry> states_;  // by slot
  std::vector<std::unique_ptr<ClusterState>> retired_;
};

}  // namespace sluice::upstream
