#include "proxy/passthrough.h"

#include <algorithm>
#include <array>

#include "base/hash.h"
#include "proxy/forwarding.h"
#include "proxy/worker.h"

namespace sluice::proxy {
namespace {

using config::PassthroughHost;
using http::StreamError;

constexpr int kMovesPerTurn = 16;

bool lets_in(const PassthroughHost& host, const net::Address& client) {
  const auto in = [&](const std::vector<net::Cidr>& list) {
    return std::any_of(list.begin(), list.end(), [&](const net::Cidr& network) { return network.contains(client); });
  };
  return !host.refused && !in(host.deny) && (host.allow.empty() || in(host.allow));
}

}  // namespace

Passthrough::Passthrough(Worker& worker, net::Stream stream, http::ConnectionInfo info, SnapshotRef snapshot,
                         const PassthroughHost& host)
    : worker_(worker),
      info_(std::move(info)),
      snapshot_(std::move(snapshot)),
      host_(&host),
      route_name_(host.route->name),
      started_us_(worker.loop().wall_us()),
      started_ms_(worker.loop().now_ms()) {
  client_.stream = std::move(stream);
  worker_.passthroughs().insert(this);
  ListenerStats& stats = worker_.listener_stats(true);
  ++stats.connections_active;
  ++stats.passthrough_active;
}

Passthrough::~Passthrough() = default;

void Passthrough::start() {
  if (!worker_.loop().rebind(client_.stream.fd(), &client_).ok()) return fail(ResponseFlag::kNone, "cannot be watched");
  net::set_no_delay(client_.stream.fd());
  if (!lets_in(*host_, info_.peer)) return fail(ResponseFlag::kNone, "refused");
  if (worker_.overloaded()) return fail(ResponseFlag::kOverload, "overload");
  choose_destination(*host_);
  cluster_ = cluster_slot_ == UINT32_MAX ? nullptr : worker_.clusters().get(*snapshot_, cluster_slot_);
  if (!cluster_) return fail(ResponseFlag::kNoCluster, "cluster_not_found");
  begin_try();
}

void Passthrough::choose_destination(const PassthroughHost& host) {
  const config::Route& route = *host.route;
  if (!route.total_weight) return;
  uint32_t point = worker_.random().below(route.total_weight);
  for (const config::Destination& destination : route.destinations) {
    if (point < destination.weight) {
      cluster_slot_ = destination.cluster;
      cluster_name_ = destination.cluster_name;
      return;
    }
    point -= destination.weight;
  }
}

void Passthrough::begin_try() {
  const config::Cluster& config = cluster_->config();
  const config::CircuitBreaker& limits = config.circuit_breaker;
  if (cluster_->counters.requests >= limits.max_requests || cluster_->counters.pending >= limits.max_pending ||
      cluster_->counters.connections >= limits.max_connections) {
    ++worker_.stats().cluster(cluster_name_).overflows;
    return fail(ResponseFlag::kUpstreamOverflow, "upstream_overflow");
  }
  const bool has_hash = config.hash.source == config::HashPolicy::Source::kSourceAddress;
  endpoint_ = cluster_->choose(has_hash, has_hash ? mix64(info_.peer.ip_hash()) : 0, {tried_, tried_count_});
  // All have been tried: that is it.
  if (endpoint_ && std::find(tried_, tried_ + tried_count_, endpoint_) != tried_ + tried_count_) {
    endpoint_ = nullptr;
    return fail(ResponseFlag::kUpstreamConnectFailure, "connection_failure");
  }
  if (!endpoint_) {
    ++worker_.stats().cluster(cluster_name_).no_healthy;
    return fail(ResponseFlag::kNoHealthyUpstream, "no_healthy_upstream");
  }
  cluster_->begin_request(*endpoint_);
  ++cluster_->counters.connections;
  ++cluster_->counters.pending;
  endpoint_text_ = endpoint_->address_text;
  upstream::Connector::Options options;
  options.address = endpoint_->config.address;
  options.fallback = cluster_->other_family(*endpoint_);
  options.timeout_ms = static_cast<uint64_t>(config.connect_timeout.count());
  options.proxy_header = proxy_header(config, info_);
  connector_ = new upstream::Connector(worker_.loop(), std::move(options), *this);
  connector_->start();
}

void Passthrough::end_try(const upstream::TryResult& result) {
  if (connector_) {
    connector_->cancel();
    connector_ = nullptr;
    --cluster_->counters.pending;
  }
  if (!endpoint_) return;
  --cluster_->counters.connections;
  cluster_->end_request(*endpoint_, result);
  endpoint_ = nullptr;
}

void Passthrough::on_connected(upstream::Connector&, net::Stream stream) {
  connector_ = nullptr;
  --cluster_->counters.pending;
  ++endpoint_->connections_opened;
  ++worker_.listener_stats(true).passthrough_relayed;
  server_.stream = std::move(stream);
  char text[net::Address::kMaxIpText];
  sockaddr_storage storage;
  socklen_t length = sizeof(storage);
  if (::getsockname(server_.stream.fd(), reinterpret_cast<sockaddr*>(&storage), &length) == 0) {
    const net::Address local = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length);
    local_text_.assign(text, local.format(text));
  }
  if (!worker_.loop().rebind(server_.stream.fd(), &server_).ok())
    return finish(ResponseFlag::kNone, "cannot be watched");
  // The connection may last for days: it keeps nothing of the snapshot it began with.
  idle_timeout_ms_ = static_cast<uint64_t>(snapshot_->globals->downstream_idle_timeout.count());
  host_ = nullptr;
  snapshot_.reset();
  active_ms_ = worker_.loop().now_ms();
  if (idle_timeout_ms_) worker_.loop().arm(idle_timer_, idle_timeout_ms_);
  worker_.loop().run_soon(pump_task_);
}

void Passthrough::on_connect_failed(upstream::Connector&, StreamError, std::string detail) {
  connector_ = nullptr;
  --cluster_->counters.pending;
  ++endpoint_->connect_failures;
  ++worker_.stats().cluster(cluster_name_).connect_failures;
  transport_failure_ = std::move(detail);
  tried_[tried_count_++] = endpoint_;
  end_try({0, true});
  if (tried_count_ == std::size(tried_)) return fail(ResponseFlag::kUpstreamConnectFailure, "connection_failure");
  begin_try();
}

void Passthrough::on_io(Side& side, uint32_t events) {
  if (finished_) return;
  side.stream.note(events);
  if (server_.stream.is_open()) return pump();
  if (side.stream.broken()) finish(ResponseFlag::kDownstreamDisconnect, "downstream_disconnect");
}

void Passthrough::pump() {
  if (finished_) return;
  Flow up = move(client_, server_);
  const Flow down = up == Flow::kBroken ? up : move(server_, client_);
  if (reset_after_end(client_) || reset_after_end(server_)) up = Flow::kBroken;
  if (up == Flow::kBroken || down == Flow::kBroken) {
    const bool by_client = client_.stream.broken() && !server_.stream.broken();
    const Side& side = by_client ? client_ : server_;
    client_.stream.abort();
    server_.stream.abort();
    // Usually the last that a side hears of is the other's close_notify, when it has ended and gone already.
    if (side.read_over && side.waiting.empty()) return finish(ResponseFlag::kNone, {});
    return by_client ? finish(ResponseFlag::kDownstreamDisconnect, "downstream_disconnect")
                     : finish(ResponseFlag::kUpstreamClosed, "upstream_disconnect");
  }
  if (client_.write_over && server_.write_over) return finish(ResponseFlag::kNone, {});
  if (up == Flow::kGoesOn || down == Flow::kGoesOn) worker_.loop().run_soon(pump_task_);
}

// A side that has ended its direction and then goes away altogether is not noticed by reading from it.
bool Passthrough::reset_after_end(const Side& side) {
  return side.read_over && !side.write_over && side.stream.broken();
}

Passthrough::Flow Passthrough::move(Side& from, Side& to) {
  const bool to_client = &to == &client_;
  ListenerStats& stats = worker_.listener_stats(true);
  for (int i = 0; i < kMovesPerTurn; ++i) {
    while (!to.waiting.empty()) {
      const net::IoResult written = to.stream.write(to.waiting.data(), to.waiting.size());
      if (written.status == net::IoStatus::kAgain) return Flow::kWaits;
      if (written.status != net::IoStatus::kOk) return Flow::kBroken;
      to.waiting.remove_prefix(written.bytes);
      active_ms_ = worker_.loop().now_ms();
    }
    to.waiting = Slice();
    if (from.read_over) {
      if (!to.write_over) to.stream.shutdown_write();
      to.write_over = true;
      return Flow::kWaits;
    }
    if (!from.stream.readable()) return Flow::kWaits;
    BlockRef block(acquire_block(from.read_size));
    const size_t room = block->capacity;
    char* data = block->data();
    const net::IoResult read = from.stream.read(data, room);
    if (read.status == net::IoStatus::kAgain) return Flow::kWaits;
    if (read.status == net::IoStatus::kError) return Flow::kBroken;
    if (read.status == net::IoStatus::kEof) {
      from.read_over = true;
      continue;
    }
    to.waiting = Slice(std::move(block), data, read.bytes);
    from.received += read.bytes;
    (to_client ? stats.passthrough_sent : stats.passthrough_received) += read.bytes;
    active_ms_ = worker_.loop().now_ms();
    // A transfer that fills its reads gets larger ones.
    from.read_size = read.bytes < room ? kBlock : from.read_size == kBlock ? kLargeBlock : kHugeBlock;
  }
  return Flow::kGoesOn;
}

void Passthrough::on_idle_timer() {
  const uint64_t idle = worker_.loop().now_ms() - active_ms_;
  if (idle < idle_timeout_ms_) return worker_.loop().arm(idle_timer_, idle_timeout_ms_ - idle);
  finish(ResponseFlag::kStreamIdle, "idle_timeout");
}

void Passthrough::close_now() {
  client_.stream.abort();
  finish(ResponseFlag::kNone, "drain_deadline");
}

void Passthrough::fail(ResponseFlag flag, std::string_view details, std::string transport) {
  if (!transport.empty()) transport_failure_ = std::move(transport);
  ++worker_.listener_stats(true).passthrough_failed;
  finish(flag, details);
}

void Passthrough::finish(ResponseFlag flag, std::string_view details) {
  if (finished_) return;
  finished_ = true;
  idle_timer_.cancel();
  // A connection that was made speaks well of the endpoint.
  end_try({server_.stream.is_open() || server_.received ? 200 : 0, false});
  log(flag, details);
  client_.stream.close();
  server_.stream.close();
  client_.waiting = server_.waiting = Slice();
  host_ = nullptr;
  snapshot_.reset();
  ListenerStats& stats = worker_.listener_stats(true);
  --stats.connections_active;
  --stats.passthrough_active;
  worker_.release_connection();
  worker_.on_passthrough_end(*this);
  worker_.loop().destroy_later(this);
}

void Passthrough::log(ResponseFlag flag, std::string_view details) {
  if (!worker_.access_log() || !worker_.snapshot()->globals->access_log) return;
  LogRecord record;
  char local[net::Address::kMaxIpText], remote[net::Address::kMaxIpText];
  record.local_address = {local, info_.local.format(local)};
  record.remote_address = {remote, info_.peer.format(remote)};
  record.sni = record.authority = info_.sni;
  record.route_name = route_name_;
  record.upstream_cluster = cluster_name_;
  record.upstream_host = endpoint_text_;
  record.upstream_local_address = local_text_;
  record.upstream_failure = transport_failure_;
  std::string text = "ssl_passthrough";
  if (!details.empty()) text += "{" + std::string(details) + "}";
  record.details = text;
  record.flags.add(flag);
  record.bytes_received = client_.received;
  record.bytes_sent = server_.received;
  record.start_time_us = started_us_;
  record.duration_ms = worker_.loop().now_ms() - started_ms_;
  worker_.access_log()->append(record);
}

}  // namespace sluice::proxy
