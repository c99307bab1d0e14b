#pragma once
// Chooses an endpoint. One balancer per cluster and worker, rebuilt when the set of usable endpoints changes.
//
//  round robin    in turn; with weights by earliest deadline (a heap of 1/weight steps)
//  least request  two random candidates, the one with fewer requests per weight (power of two choices)
//  peak EWMA      two random candidates, the one with the lower product of latency and requests; where that is not
//  known
//                 of both, as least request
//  random         by weight
//  ring hash      Ketama-like: each endpoint has points in proportion to its weight; the first point at or after the
//  hash Maglev         the table of Eisenbud et al., NSDI 2016, filled in proportion to weight
//  subsets        the hash chooses one of the equal subsets, in which endpoints are drawn by weight

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/random.h"
#include "config/cluster.h"
#include "upstream/endpoint.h"

namespace sluice::event {
class Loop;
}

namespace sluice::upstream {

// The endpoints a balancer may choose from; borrowed from the cluster state, in its stable order.
using Candidates = std::vector<EndpointState*>;

class LoadBalancer {
 public:
  virtual ~LoadBalancer() = default;
  // `hash` is used by the hashing balancers when has_hash; without one they choose at random. Null only if there are no
  // candidates. `attempt` > 0 asks for another choice than the one before (next point of the ring, another draw).
  virtual EndpointState* pick(bool has_hash, uint64_t hash, uint32_t attempt) = 0;
};

struct BalancerOptions {
  config::LoadBalancing kind = config::LoadBalancing::kLeastRequest;
  uint32_t ring_size = 1024;
  uint32_t maglev_table = 65537;
  uint32_t hash_subset = 0;            // of the hashing ones: endpoints in a subset; 0: each by itself
  const event::Loop* clock = nullptr;  // peak EWMA needs it
};

// `candidates` must not be empty and must outlive the balancer unchanged.
std::unique_ptr<LoadBalancer> make_load_balancer(const BalancerOptions& options, const Candidates& candidates,
                                                 Random& random);

}  // namespace sluice::upstream
