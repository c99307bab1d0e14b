#pragma once
// Counters of one worker. Plain integers: only the worker touches them; readers ask the worker for a copy through its
// mailbox (Gateway::collect).

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/string_map.h"
#include "config/snapshot.h"

namespace sluice::proxy {

// Upper bounds of the latency buckets in milliseconds; one more bucket counts everything above.
inline constexpr std::array<double, 18> kLatencyBucketsMs = {
    0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 1800000};

struct Histogram {
  uint64_t sum_us = 0;
  std::array<uint64_t, kLatencyBucketsMs.size() + 1> counts{};

  void record(uint64_t us);
  void merge(const Histogram& other);
};

// Responses by class: index 0 is "no response" (cancelled), 1..5 the hundreds. In the order of use: what a fast request
// touches is the first two cache lines.
struct alignas(64) ResponseStats {
  std::array<uint64_t, 6> by_class{};
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  Histogram latency;  // of the whole exchange, or of the upstream part for clusters

  void record(int status, uint64_t us);
  void merge(const ResponseStats& other);
  bool unused() const { return by_class == decltype(by_class){}; }
};

struct ClusterStats : ResponseStats {
  uint64_t retries = 0;
  uint64_t connect_failures = 0;
  uint64_t resets = 0;
  uint64_t timeouts = 0;
  uint64_t overflows = 0;
  uint64_t no_healthy = 0;

  void merge(const ClusterStats& other);
};

struct ListenerStats {
  uint64_t connections_total = 0;
  int64_t connections_active = 0;
  uint64_t connections_refused = 0;  // over a limit
  uint64_t requests_http1 = 0;
  uint64_t requests_http2 = 0;
  uint64_t refused_requests = 0;  // malformed, too large, too slow
  uint64_t tls_handshakes = 0;
  uint64_t tls_failures = 0;
  int64_t passthrough_active = 0;
  uint64_t passthrough_relayed = 0;   // that reached an endpoint
  uint64_t passthrough_failed = 0;    // that did not
  uint64_t passthrough_received = 0;  // bytes from clients
  uint64_t passthrough_sent = 0;      // bytes to clients

  void merge(const ListenerStats& other);
};

// Statistics by Route::stats_slot. Addresses are stable.
class RouteStats {
 public:
  ResponseStats& at(uint32_t slot);
  void merge(const RouteStats& other);
  // Calls visit(slot, stats) for each slot that was asked for or lies near one that was.
  template <typename Visit>
  void for_each(Visit visit) const {
    for (size_t i = 0; i < chunks_.size(); ++i) {
      for (size_t j = 0; chunks_[i] && j < kChunk; ++j) visit(static_cast<uint32_t>(i * kChunk + j), (*chunks_[i])[j]);
    }
  }

 private:
  static constexpr size_t kChunk = 32;
  using Chunk = std::array<ResponseStats, kChunk>;
  std::vector<std::unique_ptr<Chunk>> chunks_;
};

struct WorkerStats {
  ListenerStats http;
  ListenerStats https;
  int64_t active_exchanges = 0;
  uint64_t access_log_dropped = 0;
  uint64_t trace_spans_sent = 0;
  uint64_t trace_spans_failed = 0;   // the provider did not take them
  uint64_t trace_spans_dropped = 0;  // the provider was too slow
  uint64_t block_bytes_in_use = 0;
  uint64_t block_bytes_free = 0;
  RouteStats routes;                 // bounded by Snapshot::kMaxRouteNames
  StringMap<ClusterStats> clusters;  // by cluster name

  // Bounded: names beyond this share the entry "other".
  static constexpr size_t kMaxNames = 50'000;
  ClusterStats& cluster(std::string_view name);
  void merge(const WorkerStats& other);
};

// Prometheus text exposition format 0.0.4. `route_names` is Snapshot::route_names.
std::string to_prometheus(const WorkerStats& total, const config::PersistentVector<std::string>& route_names);

}  // namespace sluice::proxy
