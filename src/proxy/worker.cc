#include "proxy/worker.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "config/router.h"
#include "http/http2_server.h"
#include "proxy/exchange.h"
#include "proxy/gateway.h"
#include "proxy/listener.h"
#include "proxy/passthrough.h"

namespace sluice::proxy {
namespace {

constexpr uint64_t kSweepMs = 10'000;

}  // namespace

Worker::Worker(Gateway& gateway, uint32_t index)
    : gateway_(gateway),
      index_(index),
      random_(static_cast<uint64_t>(time(nullptr)) * 1000003u + index * 7919u + reinterpret_cast<uintptr_t>(this)),
      release_([&gateway](std::shared_ptr<const config::Snapshot> snapshot) {
        gateway.control_loop().post([snapshot = std::move(snapshot)] {});
      }),
      clusters_(loop_, random_, ejection_sink()),
      http1_(gateway.options().http1),
      http2_(gateway.options().http2) {
  tracer_.set_on_idle([this] { check_drained(); });
  if (gateway.access_log()) access_log_ = std::make_unique<AccessLog::Producer>(*gateway.access_log());
}

Worker::~Worker() = default;

upstream::EjectionSink Worker::ejection_sink() {
  return [this](const upstream::Ejection& ejection) {
    gateway_.control_loop().post(
        [&gateway = gateway_, worker = this, ejection] { gateway.on_ejected(*worker, ejection); });
  };
}

const Options& Worker::options() const { return gateway_.options(); }

void Worker::add_listener(int fd, const ListenerOptions& options) {
  listeners_.push_back(std::make_unique<Listener>(*this, fd, options));
}

void Worker::start() {
  thread_ = std::thread([this] { run(); });
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::run() {
  // Signals are the control thread's.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  char name[16];
  std::snprintf(name, sizeof(name), "worker-%u", index_);
  pthread_setname_np(pthread_self(), name);

  loop_.set_turn_hook([this] { on_turn_end(); });
  for (const auto& listener : listeners_) (void)listener->start();
  loop_.arm(sweep_timer_, kSweepMs);
  loop_.run();
  while (!unattended_calls_.empty()) (*unattended_calls_.begin())->give_up();
}

const SnapshotRef& Worker::snapshot() {
  if (!snapshot_ || snapshot_->version != gateway_.version()) {
    snapshot_ = SnapshotRef(gateway_.current(), &release_);
    // The listener settings that are live configuration.
    const config::Globals& globals = *snapshot_->globals;
    http1_.max_head_bytes = globals.max_request_headers_bytes;
    http1_.max_fields = globals.max_request_header_count;
    http1_.idle_timeout_ms = static_cast<uint64_t>(globals.downstream_idle_timeout.count());
    http2_.max_header_list_bytes = globals.max_request_headers_bytes;
    http2_.max_header_count = globals.max_request_header_count;
    http2_.max_concurrent_streams = globals.h2_max_concurrent_streams;
    http2_.stream_window = globals.h2_initial_stream_window;
    http2_.connection_window = globals.h2_initial_connection_window;
    http2_.idle_timeout_ms = static_cast<uint32_t>(globals.downstream_idle_timeout.count());
    if (access_log_) access_log_->set_format(globals.access_log_format);
  }
  return snapshot_;
}

std::string_view Worker::date() {
  const uint64_t second = loop_.wall_us() / 1'000'000;
  if (second != date_second_) {
    date_second_ = second;
    const auto now = static_cast<time_t>(second);
    tm parts;
    gmtime_r(&now, &parts);
    strftime(date_, sizeof(date_), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  }
  return {date_, 29};
}

bool Worker::overloaded() const {
  const uint64_t limit = gateway_.options().max_memory_bytes;
  return limit && block_pool_stats().in_use_bytes > limit;
}

std::shared_ptr<const net::TlsContext> Worker::select_tls(std::string_view sni) {
  const config::TlsHost* host = config::match_tls(*snapshot(), sni);
  return host ? host->context : nullptr;
}

bool Worker::admit_connection() {
  if (gateway_.connection_count().fetch_add(1, std::memory_order_relaxed) < gateway_.options().max_connections)
    return true;
  release_connection();
  return false;
}

void Worker::release_connection() { gateway_.connection_count().fetch_sub(1, std::memory_order_relaxed); }

void Worker::adopt(http::ServerConnection& connection) {
  connection.next = connections_;
  if (connections_) connections_->previous = &connection;
  connections_ = &connection;
  ++connection_count_;
}

void Worker::serve(net::Stream stream, http::ConnectionInfo info, Slice received, bool registered, bool http2) {
  (void)snapshot();  // the settings below follow it
  ++listener_stats(info.tls).connections_active;
  if (http2) {
    auto* connection = new http::Http2ServerConnection(loop_, std::move(stream), std::move(info), http2_, *this, *this);
    adopt(*connection);
    if (!connection->start(std::move(received), registered)) {
      on_closed(*connection);
      loop_.destroy_later(connection);
    }
    return;
  }
  http::Http1ServerConnection::Upgrader* upgrader = info.tls ? nullptr : this;
  auto* connection =
      new http::Http1ServerConnection(loop_, std::move(stream), std::move(info), http1_, *this, *this, upgrader);
  adopt(*connection);
  if (!connection->start(std::move(received), registered)) {
    on_closed(*connection);
    loop_.destroy_later(connection);
  }
}

void Worker::on_http2_preface(http::Http1ServerConnection&, net::Stream stream, http::ConnectionInfo info,
                              Slice received) {
  // The HTTP/1 connection is given back right after this; the new one takes its place in the count.
  gateway_.connection_count().fetch_add(1, std::memory_order_relaxed);
  serve(std::move(stream), std::move(info), std::move(received), false, true);
}

void Worker::on_closed(http::ServerConnection& connection) {
  if (connection.previous) {
    connection.previous->next = connection.next;
  } else {
    connections_ = connection.next;
  }
  if (connection.next) connection.next->previous = connection.previous;
  connection.previous = connection.next = nullptr;
  --connection_count_;
  --listener_stats(connection.is_tls()).connections_active;
  release_connection();
  if (draining_) check_drained();
}

http::StreamHandler* Worker::on_request(http::ServerStream& stream, http::RequestHead& head, bool end) {
  ListenerStats& stats = listener_stats(stream.connection().tls);
  ++(head.version == http::Protocol::kHttp2 ? stats.requests_http2 : stats.requests_http1);
  auto* exchange = new Exchange(*this, stream, head);
  return exchange->start(end) ? exchange : nullptr;
}

void Worker::on_refused(const http::ConnectionInfo& connection, int status, std::string_view why) {
  ++listener_stats(connection.tls).refused_requests;
  if (!access_log_ || !snapshot()->globals->access_log) return;
  LogRecord record;
  char local[net::Address::kMaxIpText], remote[net::Address::kMaxIpText];
  record.local_address = {local, connection.local.format(local)};
  record.remote_address = {remote, connection.peer.format(remote)};
  record.sni = connection.sni;
  record.status = status;
  record.details = why;
  record.flags.add(ResponseFlag::kDownstreamProtocol);
  record.start_time_us = loop_.wall_us();
  access_log_->append(record);
}

void Worker::on_turn_end() {
  if (!access_log_ || access_log_->empty()) return;
  stats_.access_log_dropped += access_log_->flush();
  if (!access_log_->empty() && !log_timer_.armed()) loop_.arm(log_timer_, 10);
}

void Worker::on_log_timer() {}  // the turn's end flushes

void Worker::on_sweep() {
  clusters_.sweep(*snapshot());
  trim_block_pool();
  loop_.arm(sweep_timer_, kSweepMs);
}

void Worker::log(log::Level level, std::string_view component, std::string message) {
  gateway_.control_loop().post([level, component = std::string(component), message = std::move(message)] {
    log::write(level, component, message);
  });
}

std::vector<EndpointReport> Worker::endpoint_reports() const {
  std::vector<EndpointReport> reports;
  clusters_.for_each([&](const upstream::ClusterState& cluster) {
    for (const auto& endpoint : cluster.endpoints()) {
      EndpointReport report;
      report.cluster = cluster.config().name;
      report.address = endpoint->address_text;
      report.weight = endpoint->config.weight;
      report.healthy = endpoint->config.healthy;
      report.ejected_workers = endpoint->ejected() ? 1 : 0;
      report.active_requests = endpoint->active_requests;
      report.connections = endpoint->pool->connections();
      for (const auto& [host, pool] : endpoint->host_pools) report.connections += pool->connections();
      report.requests = endpoint->requests;
      report.failures = endpoint->failures;
      report.connect_failures = endpoint->connect_failures;
      reports.push_back(std::move(report));
    }
  });
  return reports;
}

void Worker::stop_listening() {
  for (const auto& listener : listeners_) listener->stop();
}

void Worker::drain(uint64_t deadline_ms, std::function<void()> done) {
  draining_ = true;
  drained_ = std::move(done);
  stop_listening();
  // drain() may close a connection at once, which takes it off the list.
  for (http::ServerConnection* connection = connections_; connection;) {
    http::ServerConnection* next = connection->next;
    connection->drain();
    connection = next;
  }
  loop_.arm(drain_timer_, deadline_ms);
  check_drained();
}

void Worker::pending_end() {
  if (pending_ > 0) --pending_;
  if (draining_) check_drained();
}

void Worker::on_passthrough_end(Passthrough& connection) {
  passthroughs_.erase(&connection);
  if (draining_) check_drained();
}

void Worker::check_drained() {
  if (connection_count_ + pending_ + passthroughs_.size() > 0 || !drained_) return;
  // The spans of the last requests leave before the worker does.
  if (!drain_over_ && !tracer_.idle()) return tracer_.flush();
  const auto done = std::exchange(drained_, nullptr);
  if (access_log_) access_log_->flush();
  done();
  loop_.stop();
}

void Worker::on_drain_deadline() {
  drain_over_ = true;
  while (connections_) {
    http::ServerConnection* connection = connections_;
    connection->close_now();
    if (connections_ == connection) break;  // it closes later in the turn
  }
  connection_count_ = pending_ = 0;
  while (!passthroughs_.empty()) (*passthroughs_.begin())->close_now();
  check_drained();
}

}  // namespace sluice::proxy
