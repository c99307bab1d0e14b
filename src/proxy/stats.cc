#include "proxy/stats.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace sluice::proxy {

void Histogram::record(uint64_t us) {
  const double ms = static_cast<double>(us) / 1000;
  const auto bucket = std::lower_bound(kLatencyBucketsMs.begin(), kLatencyBucketsMs.end(), ms);
  ++counts[static_cast<size_t>(bucket - kLatencyBucketsMs.begin())];
  sum_us += us;
}

void Histogram::merge(const Histogram& other) {
  for (size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
  sum_us += other.sum_us;
}

void ResponseStats::record(int status, uint64_t us) {
  ++by_class[static_cast<size_t>(std::clamp(status / 100, 0, 5))];
  latency.record(us);
}

void ResponseStats::merge(const ResponseStats& other) {
  for (size_t i = 0; i < by_class.size(); ++i) by_class[i] += other.by_class[i];
  latency.merge(other.latency);
  bytes_received += other.bytes_received;
  bytes_sent += other.bytes_sent;
}

void ClusterStats::merge(const ClusterStats& other) {
  ResponseStats::merge(other);
  retries += other.retries;
  connect_failures += other.connect_failures;
  resets += other.resets;
  timeouts += other.timeouts;
  overflows += other.overflows;
  no_healthy += other.no_healthy;
}

void ListenerStats::merge(const ListenerStats& other) {
  connections_total += other.connections_total;
  connections_active += other.connections_active;
  connections_refused += other.connections_refused;
  requests_http1 += other.requests_http1;
  requests_http2 += other.requests_http2;
  refused_requests += other.refused_requests;
  tls_handshakes += other.tls_handshakes;
  tls_failures += other.tls_failures;
  passthrough_active += other.passthrough_active;
  passthrough_relayed += other.passthrough_relayed;
  passthrough_failed += other.passthrough_failed;
  passthrough_received += other.passthrough_received;
  passthrough_sent += other.passthrough_sent;
}

namespace {

std::string escape_label(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

class Writer {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    out_.append("# HELP ").append(name).append(" ").append(help).append("\n# TYPE ").append(name).append(" ");
    out_.append(type).append("\n");
  }
  template <typename Number>
  void sample(std::string_view name, const std::string& labels, Number value) {
    out_.append(name);
    if (!labels.empty()) out_.append("{").append(labels).append("}");
    out_.append(" ").append(std::to_string(value)).append("\n");
  }
  void histogram(std::string_view name, const std::string& labels, const Histogram& histogram) {
    uint64_t total = 0;
    const std::string prefix = labels.empty() ? "" : labels + ",";
    const std::string bucket = std::string(name) + "_bucket";
    for (size_t i = 0; i < kLatencyBucketsMs.size(); ++i) {
      total += histogram.counts[i];
      char bound[32];
      std::snprintf(bound, sizeof(bound), "%g", kLatencyBucketsMs[i] / 1000);
      sample(bucket, prefix + "le=\"" + bound + "\"", total);
    }
    total += histogram.counts.back();
    sample(bucket, prefix + "le=\"+Inf\"", total);
    char sum[48];
    std::snprintf(sum, sizeof(sum), "%.6f", static_cast<double>(histogram.sum_us) / 1e6);
    out_.append(name).append("_sum");
    if (!labels.empty()) out_.append("{").append(labels).append("}");
    out_.append(" ").append(sum).append("\n");
    sample(std::string(name) + "_count", labels, total);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

constexpr const char* kClassNames[] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

using Responses = std::map<std::string_view, const ResponseStats*>;

void response_families(Writer& writer, const Responses& map, const std::string& label, const std::string& prefix) {
  const auto labels = [&](std::string_view name) { return label + "=\"" + escape_label(name) + "\""; };
  writer.family(prefix + "_requests_total", "counter", "Completed requests by response class (none: no response).");
  for (const auto& [name, stats] : map) {
    for (size_t i = 0; i < stats->by_class.size(); ++i) {
      if (!stats->by_class[i]) continue;
      writer.sample(prefix + "_requests_total", labels(name) + ",response_code_class=\"" + kClassNames[i] + "\"",
                    stats->by_class[i]);
    }
  }
  writer.family(prefix + "_request_duration_seconds", "histogram", "Time from request to end of response.");
  for (const auto& [name, stats] : map) {
    writer.histogram(prefix + "_request_duration_seconds", labels(name), stats->latency);
  }
  writer.family(prefix + "_received_bytes_total", "counter", "Request body bytes.");
  for (const auto& [name, stats] : map) {
    writer.sample(prefix + "_received_bytes_total", labels(name), stats->bytes_received);
  }
  writer.family(prefix + "_sent_bytes_total", "counter", "Response body bytes.");
  for (const auto& [name, stats] : map) writer.sample(prefix + "_sent_bytes_total", labels(name), stats->bytes_sent);
}

}  // namespace

ResponseStats& RouteStats::at(uint32_t slot) {
  const size_t index = slot / kChunk;
  if (index >= chunks_.size()) chunks_.resize(index + 1);
  if (!chunks_[index]) chunks_[index] = std::make_unique<Chunk>();
  return (*chunks_[index])[slot % kChunk];
}

void RouteStats::merge(const RouteStats& other) {
  other.for_each([&](uint32_t slot, const ResponseStats& stats) {
    if (!stats.unused()) at(slot).merge(stats);
  });
}

ClusterStats& WorkerStats::cluster(std::string_view name) {
  auto found = clusters.find(name);
  if (found != clusters.end()) return found->second;
  if (clusters.size() >= kMaxNames) name = "other";
  return clusters[std::string(name)];
}

void WorkerStats::merge(const WorkerStats& other) {
  http.merge(other.http);
  https.merge(other.https);
  active_exchanges += other.active_exchanges;
  access_log_dropped += other.access_log_dropped;
  trace_spans_sent += other.trace_spans_sent;
  trace_spans_failed += other.trace_spans_failed;
  trace_spans_dropped += other.trace_spans_dropped;
  block_bytes_in_use += other.block_bytes_in_use;
  block_bytes_free += other.block_bytes_free;
  routes.merge(other.routes);
  for (const auto& [name, stats] : other.clusters) cluster(name).merge(stats);
}

std::string to_prometheus(const WorkerStats& total, const config::PersistentVector<std::string>& route_names) {
  Writer writer;
  const std::pair<const char*, const ListenerStats*> listeners[] = {{"http", &total.http}, {"https", &total.https}};
  const auto listener = [&](const char* name, const char* type, const char* help, auto value) {
    writer.family(name, type, help);
    for (const auto& [label, stats] : listeners)
      writer.sample(name, std::string("listener=\"") + label + "\"", value(*stats));
  };
  listener("sluice_listener_connections_total", "counter", "Accepted connections.",
           [](const ListenerStats& s) { return s.connections_total; });
  listener("sluice_listener_connections_active", "gauge", "Open connections.",
           [](const ListenerStats& s) { return s.connections_active; });
  listener("sluice_listener_connections_refused_total", "counter", "Connections closed because a limit was reached.",
           [](const ListenerStats& s) { return s.connections_refused; });
  listener("sluice_listener_http1_requests_total", "counter", "HTTP/1 requests.",
           [](const ListenerStats& s) { return s.requests_http1; });
  listener("sluice_listener_http2_requests_total", "counter", "HTTP/2 requests.",
           [](const ListenerStats& s) { return s.requests_http2; });
  listener("sluice_listener_refused_requests_total", "counter", "Requests refused by the codec.",
           [](const ListenerStats& s) { return s.refused_requests; });
  listener("sluice_listener_tls_handshakes_total", "counter", "Completed TLS handshakes.",
           [](const ListenerStats& s) { return s.tls_handshakes; });
  listener("sluice_listener_tls_failures_total", "counter", "Failed TLS handshakes.",
           [](const ListenerStats& s) { return s.tls_failures; });
  writer.family("sluice_passthrough_connections_active", "gauge", "Open TLS connections that are passed through.");
  writer.sample("sluice_passthrough_connections_active", "", total.https.passthrough_active);
  writer.family("sluice_passthrough_connections_total", "counter",
                "TLS connections to be passed through, by whether they reached an endpoint.");
  writer.sample("sluice_passthrough_connections_total", "result=\"relayed\"", total.https.passthrough_relayed);
  writer.sample("sluice_passthrough_connections_total", "result=\"failed\"", total.https.passthrough_failed);
  writer.family("sluice_passthrough_bytes_total", "counter", "Bytes passed through.");
  writer.sample("sluice_passthrough_bytes_total", "direction=\"received\"", total.https.passthrough_received);
  writer.sample("sluice_passthrough_bytes_total", "direction=\"sent\"", total.https.passthrough_sent);
  writer.family("sluice_exchanges_active", "gauge", "Requests under way.");
  writer.sample("sluice_exchanges_active", "", total.active_exchanges);
  writer.family("sluice_access_log_dropped_total", "counter",
                "Access-log lines dropped because the sink was too slow.");
  writer.sample("sluice_access_log_dropped_total", "", total.access_log_dropped);
  writer.family("sluice_trace_spans_total", "counter",
                "Spans that were taken by the tracing provider, refused or not answered (failed), or not sent because "
                "it was too slow (dropped).");
  writer.sample("sluice_trace_spans_total", "result=\"sent\"", total.trace_spans_sent);
  writer.sample("sluice_trace_spans_total", "result=\"failed\"", total.trace_spans_failed);
  writer.sample("sluice_trace_spans_total", "result=\"dropped\"", total.trace_spans_dropped);
  writer.family("sluice_buffer_bytes", "gauge", "Bytes of I/O blocks.");
  writer.sample("sluice_buffer_bytes", "state=\"in_use\"", total.block_bytes_in_use);
  writer.sample("sluice_buffer_bytes", "state=\"free\"", total.block_bytes_free);

  Responses routes, clusters;
  total.routes.for_each([&](uint32_t slot, const ResponseStats& stats) {
    const std::string* name = stats.unused() ? nullptr : route_names.get(slot);
    if (name) routes.emplace(*name, &stats);
  });
  response_families(writer, routes, "route", "sluice_route");
  for (const auto& [name, stats] : total.clusters) clusters.emplace(name, &stats);
  response_families(writer, clusters, "cluster", "sluice_cluster");
  const auto cluster = [&](const char* name, const char* help, auto value) {
    writer.family(name, "counter", help);
    for (const auto& [key, stats] : total.clusters) {
      writer.sample(name, "cluster=\"" + escape_label(key) + "\"", value(stats));
    }
  };
  cluster("sluice_cluster_retries_total", "Retried requests.", [](const ClusterStats& s) { return s.retries; });
  cluster("sluice_cluster_connect_failures_total", "Failed connection attempts of requests.",
          [](const ClusterStats& s) { return s.connect_failures; });
  cluster("sluice_cluster_resets_total", "Requests whose upstream stream broke.",
          [](const ClusterStats& s) { return s.resets; });
  cluster("sluice_cluster_timeouts_total", "Requests that timed out.",
          [](const ClusterStats& s) { return s.timeouts; });
  cluster("sluice_cluster_overflows_total", "Requests refused by circuit breaking.",
          [](const ClusterStats& s) { return s.overflows; });
  cluster("sluice_cluster_no_healthy_endpoint_total", "Requests without a healthy endpoint.",
          [](const ClusterStats& s) { return s.no_healthy; });
  return writer.take();
}

}  // namespace sluice::proxy
