#include "upstream/pool.h"

#include <algorithm>

#include "http/http1_client.h"
#include "http/http2_client.h"
#include "net/tls.h"
#include "upstream/cluster.h"

namespace sluice::upstream {
namespace {

const http::Http1ClientSettings kHttp1Settings;
const http::Http2Settings kHttp2Settings = http::Http2Settings::for_client();

}  // namespace

Pool::Pool(event::Loop& loop, ClusterState& cluster, EndpointState& endpoint)
    : loop_(loop), cluster_(cluster), endpoint_(endpoint) {
  if (cluster.config().tls) sessions_ = std::make_shared<net::TlsSessionCache>();
}

Pool::~Pool() {
  for (Connector* connector : connectors_) connector->cancel();
}

bool Pool::is_http2() const { return cluster_.config().protocol == config::UpstreamProtocol::kHttp2; }

bool Pool::over_request_limit(const http::ClientConnection& connection) const {
  const uint32_t limit = cluster_.config().max_requests_per_connection;
  return limit && connection.total_streams() >= limit;
}

http::ClientStream* Pool::open_on_existing(http::ClientHandler& handler, const StreamNeeds& needs) {
  if (needs.fresh_connection || !needs.proxy_header.empty()) return nullptr;
  for (http::ClientConnection* connection : multiplexed_) {
    if (!connection->can_open() || connection->active_streams() >= cluster_.config().max_concurrent_streams) continue;
    if (over_request_limit(*connection)) continue;
    if (http::ClientStream* stream = connection->open(handler)) return stream;
  }
  while (!idle_.empty()) {
    http::Http1ClientConnection* connection = idle_.back().connection;
    idle_.pop_back();
    if (!needs.replayable && connection->is_stale()) {
      connection->close_idle();
      continue;
    }
    if (http::ClientStream* stream = connection->open(handler)) return stream;
    connection->close_idle();
  }
  return nullptr;
}

http::ClientStream* Pool::acquire(StreamWaiter& waiter, const StreamNeeds& needs) {
  if (http::ClientStream* stream = open_on_existing(waiter.stream_handler(), needs)) return stream;
  waiter.pool_ = this;
  waiter.previous_ = last_waiter_;
  waiter.next_ = nullptr;
  (last_waiter_ ? last_waiter_->next_ : first_waiter_) = &waiter;
  last_waiter_ = &waiter;
  ++waiters_;
  ++cluster_.counters.pending;

  const size_t per_connection = is_http2() ? cluster_.config().max_concurrent_streams : 1;
  if (connectors_.size() * per_connection < waiters_) connect(needs);
  return nullptr;
}

void Pool::connect(const StreamNeeds& needs) {
  const config::Cluster& config = cluster_.config();
  if (cluster_.counters.connections >= config.circuit_breaker.max_connections) return;  // wait for one to come free
  Connector::Options options;
  options.address = endpoint_.config.address;
  options.timeout_ms = static_cast<uint64_t>(config.connect_timeout.count());
  options.tls = config.tls;
  if (config.tls) {
    options.sni = config.tls->sni.empty() ? std::string(needs.sni) : config.tls->sni;
    options.sessions = sessions_;
  }
  options.proxy_header = needs.proxy_header;
  auto* connector = new Connector(loop_, std::move(options), *this);
  connectors_.push_back(connector);
  ++connections_;
  ++cluster_.counters.connections;
  connector->start();
}

StreamWaiter* Pool::pop_waiter() {
  StreamWaiter* waiter = first_waiter_;
  if (waiter) cancel(*waiter);
  return waiter;
}

void Pool::cancel(StreamWaiter& waiter) {
  if (waiter.pool_ != this) return;
  (waiter.previous_ ? waiter.previous_->next_ : first_waiter_) = waiter.next_;
  (waiter.next_ ? waiter.next_->previous_ : last_waiter_) = waiter.previous_;
  waiter.pool_ = nullptr;
  --waiters_;
  --cluster_.counters.pending;
}

void Pool::forget_connector(Connector& connector) {
  connectors_.erase(std::find(connectors_.begin(), connectors_.end(), &connector));
}

void Pool::on_connected(Connector& connector, net::Stream stream) {
  forget_connector(connector);
  ++endpoint_.connections_opened;
  bool http2 = is_http2();
  if (stream.tls() && stream.tls()->alpn() == "http/1.1") http2 = false;
  if (http2) {
    auto* connection = new http::Http2ClientConnection(loop_, std::move(stream), kHttp2Settings, *this);
    multiplexed_.push_back(connection);
    if (connection->start()) return serve_waiters(*connection);
    on_closed(*connection);
    loop_.destroy_later(connection);
    return;
  }
  auto* connection = new http::Http1ClientConnection(loop_, std::move(stream), kHttp1Settings, *this);
  if (connection->start()) return on_available(*connection);
  on_closed(*connection);
  loop_.destroy_later(connection);
}

void Pool::on_connect_failed(Connector& connector, http::StreamError error, std::string detail) {
  forget_connector(connector);
  --connections_;
  --cluster_.counters.connections;
  ++endpoint_.connect_failures;
  // Those who waited for this connection: one request, or with HTTP/2 everybody.
  const uint32_t affected = is_http2() && connectors_.empty() ? waiters_ : std::min(waiters_, 1u);
  for (uint32_t i = 0; i < affected; ++i) {
    if (StreamWaiter* waiter = pop_waiter()) waiter->on_stream_failed(error, detail);
  }
}

void Pool::serve_waiters(http::ClientConnection& connection) {
  while (first_waiter_ && connection.can_open() &&
         connection.active_streams() < cluster_.config().max_concurrent_streams) {
    http::ClientStream* stream = connection.open(first_waiter_->stream_handler());
    if (!stream) return;
    pop_waiter()->on_stream_ready(*stream);
  }
}

// An HTTP/1 connection is free, or an HTTP/2 connection has room.
void Pool::on_available(http::ClientConnection& connection) {
  if (draining_ || over_request_limit(connection)) return connection.drain();
  const bool multiplexed =
      std::find(multiplexed_.begin(), multiplexed_.end(), &connection) != multiplexed_.end();
  serve_waiters(connection);
  if (multiplexed || !connection.can_open()) return;
  idle_.push_back({static_cast<http::Http1ClientConnection*>(&connection), loop_.now_ms()});
  arm_idle_timer();
}

void Pool::on_draining(http::ClientConnection& connection) {
  std::erase(multiplexed_, &connection);
  if (first_waiter_ && connectors_.empty()) connect({});
}

void Pool::on_closed(http::ClientConnection& connection) {
  std::erase(multiplexed_, &connection);
  for (size_t i = idle_.size(); i-- > 0;) {
    if (static_cast<http::ClientConnection*>(idle_[i].connection) != &connection) continue;
    idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(i));
    break;
  }
  --connections_;
  --cluster_.counters.connections;
  // Waiters that found the cluster at its connection limit get the place.
  if (first_waiter_ && connectors_.empty() && !draining_) connect({});
}

void Pool::arm_idle_timer() {
  const auto timeout = static_cast<uint64_t>(cluster_.config().idle_timeout.count());
  if (timeout && !idle_timer_.armed() && !idle_.empty()) {
    const uint64_t due = idle_.front().since_ms + timeout;
    loop_.arm(idle_timer_, due > loop_.now_ms() ? due - loop_.now_ms() : 1);
  }
}

void Pool::on_idle_timer() {
  const auto timeout = static_cast<uint64_t>(cluster_.config().idle_timeout.count());
  while (!idle_.empty() && idle_.front().since_ms + timeout <= loop_.now_ms()) {
    idle_.front().connection->close_idle();
  }
  arm_idle_timer();
}

void Pool::drain() {
  draining_ = true;
  while (!idle_.empty()) idle_.back().connection->close_idle();
  for (http::ClientConnection* connection : std::vector(multiplexed_)) connection->drain();
}

}  // namespace sluice::upstream
