#pragma once
// HealthChecker: probes the endpoints of clusters that ask for it (config::HealthCheck) and reports changes of verdict.
// Belongs to the control thread; workers learn of a verdict with the next snapshot.
//
// An endpoint counts as healthy until `unhealthy_threshold` probes in a row have failed, and as unhealthy until
// `healthy_threshold` in a row have succeeded. Probes of different endpoints are spread over the interval. An unhealthy
// endpoint that is not probed any more (it is gone, or the check is) counts as healthy: nobody would find that out
// later.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/random.h"
#include "config/snapshot.h"
#include "event/loop.h"

namespace sluice::upstream {

class HealthChecker {
 public:
  // Told when the verdict about an endpoint changes; `reason` says why the last probe failed, or why an endpoint counts
  // as healthy if not by its probes. May call update().
  using Verdict = std::function<void(const std::string& cluster, const net::Address& endpoint, bool healthy,
                                     const std::string& reason)>;

  HealthChecker(event::Loop& loop, Verdict verdict);
  ~HealthChecker();

  // Follows a new snapshot: starts probing new endpoints, stops probing those that are gone.
  void update(const config::Snapshot& snapshot);
  size_t endpoints() const { return checks_.size(); }

 private:
  class Check;
  using Key = std::pair<std::string, net::Address>;

  event::Loop& loop_;
  Verdict verdict_;
  Random random_;
  std::map<Key, std::unique_ptr<Check>> checks_;
};

}  // namespace sluice::upstream
