#pragma once
// Worker: one thread with everything it needs to serve traffic. Workers share nothing mutable; the control thread talks
// to them through Loop::post() and publishes snapshots by one atomic store.

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/log.h"
#include "base/random.h"
#include "config/snapshot.h"
#include "event/loop.h"
#include "filter/call.h"
#include "http/http1_server.h"
#include "http/stream.h"
#include "proxy/access_log.h"
#include "proxy/options.h"
#include "proxy/snapshot_ref.h"
#include "proxy/stats.h"
#include "proxy/tracer.h"
#include "upstream/cluster.h"

namespace sluice::proxy {

class Listener;
class Gateway;
class Passthrough;
struct EndpointReport;

class Worker final : public http::ServerCallbacks,
                     public http::ServerConnection::Owner,
                     public http::Http1ServerConnection::Upgrader {
 public:
  Worker(Gateway& gateway, uint32_t index);
  ~Worker();

  // Binds nothing: takes listening sockets made by the gateway.
  void add_listener(int fd, const ListenerOptions& options);
  void start();  // the thread
  void join();

  event::Loop& loop() { return loop_; }
  Random& random() { return random_; }
  upstream::ClusterManager& clusters() { return clusters_; }
  WorkerStats& stats() { return stats_; }
  const Options& options() const;
  AccessLog::Producer* access_log() { return access_log_.get(); }
  uint32_t index() const { return index_; }

  // The current snapshot. Worker's thread.
  const SnapshotRef& snapshot();
  // `Thu, 01 Jan 1970 00:00:00 GMT`, cached for a second.
  std::string_view date();
  // Call-outs that no exchange owns. They are given up when the worker ends.
  std::unordered_set<filter::CallReceiver::Call*>& unattended_calls() { return unattended_calls_; }
  // Too much memory is in flight: new requests are shed.
  bool overloaded() const;

  // On the worker's thread: stop accepting; connections finish what they do and close. `done` is called once when all
  // are gone or the deadline is over.
  void drain(uint64_t deadline_ms, std::function<void()> done);
  void stop_listening();
  bool draining() const override { return draining_; }

  // http::ServerCallbacks
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head, bool end) override;
  void on_refused(const http::ConnectionInfo& connection, int status, std::string_view why) override;
  // http::ServerConnection::Owner
  void on_closed(http::ServerConnection& connection) override;
  // http::Http1ServerConnection::Upgrader
  void on_http2_preface(http::Http1ServerConnection& connection, net::Stream stream, http::ConnectionInfo info,
                        Slice received) override;

  // The TLS context of the host that a client names; null refuses the handshake.
  std::shared_ptr<const net::TlsContext> select_tls(std::string_view sni);
  // A connection whose transport is ready (accepted, PROXY header read, TLS established).
  void serve(net::Stream stream, http::ConnectionInfo info, Slice received, bool registered, bool http2);
  uint64_t next_connection_id() { return ++connection_ids_; }
  ListenerStats& listener_stats(bool tls) { return tls ? stats_.https : stats_.http; }
  Tracer& tracer() { return tracer_; }
  // To the process's log, which the control thread writes.
  void log(log::Level level, std::string_view component, std::string message);
  std::vector<EndpointReport> endpoint_reports() const;
  // The gateway's verdict about an endpoint. Worker's thread.
  void apply(const upstream::Ejection& ejection) { clusters_.apply(*snapshot(), ejection); }
  // Counts an accepted connection against the limit; false: over it.
  bool admit_connection();
  void release_connection();
  // Connections before HTTP: in the PROXY header or the TLS handshake. Draining waits for them.
  void pending_begin() { ++pending_; }
  void pending_end();
  // Connections that are passed through. Draining waits for them.
  std::unordered_set<Passthrough*>& passthroughs() { return passthroughs_; }
  void on_passthrough_end(Passthrough& connection);

 private:
  void run();
  upstream::EjectionSink ejection_sink();
  void on_turn_end();
  void adopt(http::ServerConnection& connection);
  void on_sweep();
  void on_log_timer();
  void check_drained();
  void on_drain_deadline();

  Gateway& gateway_;
  const uint32_t index_;
  event::Loop loop_;
  Random random_;
  SnapshotRef::Release release_;  // outlives snapshot_, which calls it
  SnapshotRef snapshot_;
  upstream::ClusterManager clusters_;
  WorkerStats stats_;
  Tracer tracer_{*this};
  std::unique_ptr<AccessLog::Producer> access_log_;
  std::vector<std::unique_ptr<Listener>> listeners_;
  http::ServerConnection* connections_ = nullptr;
  uint64_t connection_count_ = 0;
  uint64_t connection_ids_ = 0;
  uint64_t pending_ = 0;
  std::unordered_set<Passthrough*> passthroughs_;
  std::unordered_set<filter::CallReceiver::Call*> unattended_calls_;
  http::Http1Settings http1_;
  http::Http2Settings http2_;
  uint64_t date_second_ = 0;
  char date_[32];
  bool draining_ = false;
  bool drain_over_ = false;
  std::function<void()> drained_;
  event::MemberTimer<Worker, &Worker::on_sweep> sweep_timer_{this};
  event::MemberTimer<Worker, &Worker::on_log_timer> log_timer_{this};
  event::MemberTimer<Worker, &Worker::on_drain_deadline> drain_timer_{this};
  std::thread thread_;
};

}  // namespace sluice::proxy
