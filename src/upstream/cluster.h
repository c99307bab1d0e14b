#pragma once
// A worker's run-time state of the clusters: endpoints with their pools, the balancer, limits and outlier detection.

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

class ClusterState {
 public:
  // What is under way, checked against config().circuit_breaker.
  struct Counters {
    uint32_t connections = 0;
    uint32_t pending = 0;
    uint32_t requests = 0;
    uint32_t retries = 0;
  };

  ClusterState(event::Loop& loop, Random& random, std::shared_ptr<const config::Cluster> config);
  ~ClusterState();

  const config::Cluster& config() const { return *config_; }
  // Takes over a newer configuration or endpoint set; endpoints keep their state by address.
  void update(std::shared_ptr<const config::Cluster> config);
  bool has_config(const config::Cluster* config) const { return config_.get() == config; }

  // Chooses an endpoint, avoiding those in `tried` if others are usable. Null: none is usable.
  EndpointState* choose(bool has_hash, uint64_t hash, std::span<EndpointState* const> tried);

  // An address of the other IP family that the endpoint's name resolved to; none if there is none.
  net::Address other_family(const EndpointState& endpoint) const;

  // The pool for a request with that host. Null: too many hosts are in use at the endpoint (kMaxHostPools).
  Pool* pool_for(EndpointState& endpoint, std::string_view host);
  static constexpr size_t kMaxHostPools = 256;

  // A request holds its endpoint from begin to end.
  void begin_request(EndpointState& endpoint);
  void end_request(EndpointState& endpoint, const TryResult& result);

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
  void release_removed();
  void observe(EndpointState& endpoint, const TryResult& result);
  void eject(EndpointState& endpoint);
  void on_ejection_timer();
  void arm_ejection_timer();
  bool warming_up(const EndpointState& endpoint) const;

  event::Loop& loop_;
  Random& random_;
  std::shared_ptr<const config::Cluster> config_;
  std::vector<std::unique_ptr<EndpointState>> endpoints_;
  std::vector<std::unique_ptr<EndpointState>> removed_;  // still have requests or connections
  Candidates candidates_;
  std::unique_ptr<LoadBalancer> balancer_;
  bool dirty_ = true;
  bool any_warming_ = false;
  event::MemberTimer<ClusterState, &ClusterState::on_ejection_timer> ejection_timer_{this};
};

class ClusterManager {
 public:
  ClusterManager(event::Loop& loop, Random& random);
  ~ClusterManager();

  // The state of the cluster in that slot, brought up to the snapshot. Null: the slot is empty.
  ClusterState* get(const config::Snapshot& snapshot, uint32_t slot);
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
  std::vector<Entry> states_;  // by slot
  std::vector<std::unique_ptr<ClusterState>> retired_;
};

}  // namespace sluice::upstream
