#pragma once
// Gateway: the data plane as the control plane sees it: start workers, publish snapshots, collect statistics, drain.
//
// All methods belong to the control thread unless noted.

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/snapshot.h"
#include "event/loop.h"
#include "proxy/access_log.h"
#include "proxy/options.h"
#include "proxy/stats.h"
#include "upstream/cluster.h"

namespace sluice::proxy {

class Worker;

// Health and load of one endpoint, summed over the workers.
struct EndpointReport {
  std::string cluster;
  std::string address;
  uint32_t weight = 0;
  bool healthy = true;
  uint32_t ejected_workers = 0;
  uint64_t active_requests = 0;
  uint64_t connections = 0;
  uint64_t requests = 0;
  uint64_t failures = 0;
  uint64_t connect_failures = 0;
};

struct Report {
  WorkerStats stats;
  std::vector<EndpointReport> endpoints;
};

class Gateway {
 public:
  // `access_log` may be null.
  Gateway(event::Loop& control_loop, Options options, std::unique_ptr<AccessLog> access_log);
  ~Gateway();

  // Binds the listeners, or takes over `inherited` listening sockets (listener by listener, worker by worker), and
  // starts the workers. The error names the address. Publish a snapshot first.
  Status start(const std::vector<int>& inherited = {});
  // The listening sockets in the order that start() takes them.
  std::vector<int> listening_sockets() const;

  // Workers see it at their next exchange.
  void publish(std::shared_ptr<const config::Snapshot> snapshot);
  std::shared_ptr<const config::Snapshot> current() const;                       // any thread
  uint64_t version() const { return version_.load(std::memory_order_acquire); }  // any thread

  // Asks all workers; `done` is called on the control thread.
  void collect(std::function<void(Report)> done);

  // A worker has ejected an endpoint: tells the others, or has it take that back if too many of the cluster's endpoints
  // are ejected already.
  void on_ejected(Worker& worker, const upstream::Ejection& ejection);

  // Stops accepting, lets connections finish, ends the workers. `done` is called on the control thread.
  void drain(std::function<void()> done);
  // After drain(): joins the threads.
  void join();

  const Options& options() const { return options_; }
  AccessLog* access_log() { return access_log_.get(); }
  event::Loop& control_loop() { return control_loop_; }
  // Counts accepted connections of all workers (any thread).
  std::atomic<uint32_t>& connection_count() { return connections_; }

 private:
  Result<int> bind(const ListenerOptions& listener);

  event::Loop& control_loop_;
  const Options options_;
  std::unique_ptr<AccessLog> access_log_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<int> sockets_;
  std::atomic<uint64_t> version_{0};
  mutable std::mutex snapshot_mutex_;  // held for a pointer copy, only when the version has changed
  std::shared_ptr<const config::Snapshot> snapshot_;
  std::atomic<uint32_t> connections_{0};
  // Ejections in force: cluster and endpoint → until when.
  std::map<std::pair<std::string, std::string>, uint64_t> ejected_;
  bool draining_ = false;
};

}  // namespace sluice::proxy
