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
    : loop_(loop),
      cluster_(cluster),
      endpoint_(endpoint),
      http2_(cluster.config().protocol == config::UpstreamProtocol::kHttp2) {
  if (cluster.config().tls) sessions_ = std::make_shared<net::TlsSessionCache>();
}

Pool::~Pool() {
  drain();
  for (Connector* connector : connectors_) connector->cancel();
}

bool Pool::over_request_limit(const http::ClientConnection& connection) const {
  const uint32_t limit = cluster_.config().max_requests_per_connection;
  return limit && connection.total_streams() >= limit;
}

http::ClientStream* Pool::open_on_existing(http::ClientHandler& handler, const StreamNeeds& needs) {
  if (needs.fresh_connection || !needs.proxy_header.empty()) return nullptr;
  for (const Multiplexed& item : multiplexed_) {
    http::Http2ClientConnection* connection = item.connection;
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
  waiter.needs_ = needs;
  waiter.has_connector_ = false;
  waiter.previous_ = last_waiter_;
  waiter.next_ = nullptr;
  (last_waiter_ ? last_waiter_->next_ : first_waiter_) = &waiter;
  last_waiter_ = &waiter;
  ++waiters_;
  ++cluster_.counters.pending;
  connect_for_waiters();
  return nullptr;
}

size_t Pool::streams_per_connection() const {
  if (!is_http2() || http1_by_alpn_) return 1;
  return std::max<size_t>(std::min<size_t>(cluster_.config().max_concurrent_streams, peer_stream_limit_), 1);
}

Pool::Multiplexed* Pool::find_multiplexed(const http::ClientConnection& connection) {
  for (Multiplexed& item : multiplexed_) {
    if (static_cast<http::ClientConnection*>(item.connection) == &connection) return &item;
  }
  return nullptr;
}

void Pool::connect_for_waiters() {
  if (!first_waiter_) return;
  if (!first_waiter_->needs_.proxy_header.empty()) {
    for (StreamWaiter* waiter = first_waiter_; waiter; waiter = waiter->next_) {
      if (!waiter->has_connector_ && !(waiter->has_connector_ = connect(waiter->needs_))) return;
    }
    return;
  }
  const size_t each = streams_per_connection();
  size_t coming = connectors_.size() * each;
  for (const Multiplexed& item : multiplexed_) {
    const size_t active = item.connection->active_streams();
    if (!item.connection->ready() && active < each) coming += each - active;
  }
  while (coming < waiters_ && connect(first_waiter_->needs_)) coming += each;
}

// False: the cluster has all the connections it may have; waiters wait for one to come free. The first connection of an
// endpoint is always made: those of other endpoints would never serve its waiters.
bool Pool::connect(const StreamNeeds& needs) {
  const config::Cluster& config = cluster_.config();
  if (cluster_.counters.connections >= config.circuit_breaker.max_connections && connections_ > 0) return false;
  Connector::Options options;
  options.address = endpoint_.config.address;
  options.fallback = cluster_.other_family(endpoint_);
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
  return true;
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
  if (!connector.proxy_header().empty()) return on_private_connected(connector, std::move(stream));
  bool http2 = is_http2();
  if (stream.tls() && stream.tls()->alpn() == "http/1.1") http2 = false;
  http1_by_alpn_ = is_http2() && !http2;
  if (http2) {
    auto* connection = new http::Http2ClientConnection(loop_, std::move(stream), kHttp2Settings, *this);
    multiplexed_.push_back({connection, loop_.now_ms()});
    if (connection->start()) {
      serve_waiters(*connection);
      return arm_idle_timer();
    }
    on_closed(*connection);
    loop_.destroy_later(connection);
    return;
  }
  auto* connection = new http::Http1ClientConnection(loop_, std::move(stream), kHttp1Settings, *this);
  if (connection->start()) {
    on_available(*connection);
    return connect_for_waiters();
  }
  on_closed(*connection);
  loop_.destroy_later(connection);
}

// A connection that begins with a PROXY header speaks for one client: it carries the request it was made for, and no
// other.
void Pool::on_private_connected(Connector& connector, net::Stream stream) {
  StreamWaiter* waiter = first_waiter_;
  while (waiter && waiter->needs_.proxy_header != connector.proxy_header()) waiter = waiter->next_;
  if (!waiter) {  // given up meanwhile
    --connections_;
    --cluster_.counters.connections;
    return connect_for_waiters();
  }
  cancel(*waiter);
  const bool http1 = !is_http2() || (stream.tls() && stream.tls()->alpn() == "http/1.1");
  http::ClientStream* opened = nullptr;
  const auto open = [&](auto* connection) {
    if (!connection->start()) {
      on_closed(*connection);
      return loop_.destroy_later(connection);
    }
    opened = connection->open(waiter->stream_handler());
    connection->drain();
  };
  if (http1) {
    open(new http::Http1ClientConnection(loop_, std::move(stream), kHttp1Settings, *this));
  } else {
    open(new http::Http2ClientConnection(loop_, std::move(stream), kHttp2Settings, *this));
  }
  if (opened) return waiter->on_stream_ready(*opened);
  waiter->on_stream_failed(http::StreamError::kConnectFailed, "connection closed");
}

void Pool::on_connect_failed(Connector& connector, http::StreamError error, std::string detail) {
  forget_connector(connector);
  --connections_;
  --cluster_.counters.connections;
  ++endpoint_.connect_failures;
  if (!connector.proxy_header().empty()) {
    StreamWaiter* waiter = first_waiter_;
    while (waiter && waiter->needs_.proxy_header != connector.proxy_header()) waiter = waiter->next_;
    if (waiter) {
      cancel(*waiter);
      waiter->on_stream_failed(error, detail);
    }
    return connect_for_waiters();
  }
  // Those who waited for this connection: one request, or with HTTP/2 everybody.
  const uint32_t affected =
      is_http2() && connectors_.empty() && multiplexed_.empty() ? waiters_ : std::min(waiters_, 1u);
  for (uint32_t i = 0; i < affected; ++i) {
    if (StreamWaiter* waiter = pop_waiter()) waiter->on_stream_failed(error, detail);
  }
  connect_for_waiters();
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
  if (over_request_limit(connection) || (draining_ && !first_waiter_)) return connection.drain();
  if (Multiplexed* item = find_multiplexed(connection)) {
    if (item->connection->ready()) peer_stream_limit_ = item->connection->stream_limit();
    item->idle_since_ms = loop_.now_ms();
    serve_waiters(connection);
    connect_for_waiters();
    return arm_idle_timer();
  }
  serve_waiters(connection);
  if (draining_) return connection.drain();
  if (!connection.can_open()) return;
  idle_.push_back({static_cast<http::Http1ClientConnection*>(&connection), loop_.now_ms()});
  arm_idle_timer();
}

void Pool::on_draining(http::ClientConnection& connection) {
  std::erase_if(multiplexed_, [&](const Multiplexed& item) { return item.connection == &connection; });
  connect_for_waiters();
}

void Pool::on_closed(http::ClientConnection& connection) {
  std::erase_if(multiplexed_, [&](const Multiplexed& item) { return item.connection == &connection; });
  for (size_t i = idle_.size(); i-- > 0;) {
    if (static_cast<http::ClientConnection*>(idle_[i].connection) != &connection) continue;
    idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(i));
    break;
  }
  --connections_;
  --cluster_.counters.connections;
  // Waiters that found the cluster at its connection limit get the place.
  connect_for_waiters();
}

void Pool::arm_idle_timer() {
  const auto timeout = static_cast<uint64_t>(cluster_.config().idle_timeout.count());
  if (!timeout || idle_timer_.armed()) return;
  uint64_t since = idle_.empty() ? UINT64_MAX : idle_.front().since_ms;
  for (const Multiplexed& item : multiplexed_) {
    if (item.connection->active_streams() == 0) since = std::min(since, item.idle_since_ms);
  }
  if (since == UINT64_MAX) return;
  const uint64_t due = since + timeout;
  loop_.arm(idle_timer_, due > loop_.now_ms() ? due - loop_.now_ms() : 1);
}

void Pool::on_idle_timer() {
  const auto timeout = static_cast<uint64_t>(cluster_.config().idle_timeout.count());
  while (!idle_.empty() && idle_.front().since_ms + timeout <= loop_.now_ms()) {
    idle_.front().connection->close_idle();
  }
  for (const Multiplexed& item : std::vector(multiplexed_)) {
    if (item.connection->active_streams() > 0 || item.idle_since_ms + timeout > loop_.now_ms()) continue;
    std::erase_if(multiplexed_, [&](const Multiplexed& other) { return other.connection == item.connection; });
    item.connection->drain();
  }
  arm_idle_timer();
}

void Pool::drain() {
  draining_ = true;
  while (!idle_.empty()) idle_.back().connection->close_idle();
  for (const Multiplexed& item : std::vector(multiplexed_)) item.connection->drain();
}

}  // namespace sluice::upstream
