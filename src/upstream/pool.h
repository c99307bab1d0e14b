#pragma once
// Pool: a worker's connections to one endpoint. HTTP/1: idle connections are kept last in, first out; HTTP/2: streams
// go to the first connection with room, and another connection is opened when all are full.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "event/loop.h"
#include "http/stream.h"
#include "upstream/connector.h"
#include "upstream/endpoint.h"

namespace sluice::http {
class Http1ClientConnection;
class Http2ClientConnection;
}  // namespace sluice::http

namespace sluice::upstream {

class ClusterState;

// What a request tells the pool about itself. The texts outlive the wait for a stream.
struct StreamNeeds {
  std::string_view sni;           // for UpstreamTls without a fixed name
  std::string_view proxy_header;  // PROXY protocol header; such connections are not shared
  bool replayable = true;         // false: the request must not be sent twice, so a kept connection is checked first
  bool fresh_connection = false;  // after a closing race: no kept connection
};

// A request that wants a stream. Embedded in its owner.
class StreamWaiter {
 public:
  // The handler the stream is opened with.
  virtual http::ClientHandler& stream_handler() = 0;
  virtual void on_stream_ready(http::ClientStream& stream) = 0;
  virtual void on_stream_failed(http::StreamError error, std::string_view detail) = 0;
  // Leaves the queue it may stand in.
  void stop_waiting();

 protected:
  ~StreamWaiter() = default;

 private:
  friend class Pool;
  StreamWaiter* previous_ = nullptr;
  StreamWaiter* next_ = nullptr;
  Pool* pool_ = nullptr;
  StreamNeeds needs_;
  bool has_connector_ = false;  // with a PROXY header: a connection is being made for this request alone
};

class Pool final : public Connector::Owner, public http::ClientConnection::Observer {
 public:
  Pool(event::Loop& loop, ClusterState& cluster, EndpointState& endpoint);
  ~Pool();

  // Returns an open stream, or null: then the waiter is told later. The caller has checked the request limits.
  http::ClientStream* acquire(StreamWaiter& waiter, const StreamNeeds& needs);
  // Forgets a waiter that has not been told yet.
  void cancel(StreamWaiter& waiter);

  // Closes idle connections and lets none be reused. Who waits already is still served.
  void drain();
  bool idle() const { return connections_ == 0 && connectors_.empty() && !first_waiter_; }
  uint32_t connections() const { return connections_; }

 private:
  struct IdleConnection {
    http::Http1ClientConnection* connection;
    uint64_t since_ms;
  };
  struct Multiplexed {
    http::Http2ClientConnection* connection;
    uint64_t idle_since_ms;  // meaningful without streams
  };

  void on_connected(Connector& connector, net::Stream stream) override;
  void on_connect_failed(Connector& connector, http::StreamError error, std::string detail) override;
  void on_available(http::ClientConnection& connection) override;
  void on_draining(http::ClientConnection& connection) override;
  void on_closed(http::ClientConnection& connection) override;
  void on_idle_timer();

  http::ClientStream* open_on_existing(http::ClientHandler& handler, const StreamNeeds& needs);
  // Makes as many connections as the waiters want and the limits allow.
  void connect_for_waiters();
  bool connect(const StreamNeeds& needs);
  void on_private_connected(Connector& connector, net::Stream stream);
  size_t streams_per_connection() const;
  Multiplexed* find_multiplexed(const http::ClientConnection& connection);
  void serve_waiters(http::ClientConnection& connection);
  StreamWaiter* pop_waiter();
  void forget_connector(Connector& connector);
  bool over_request_limit(const http::ClientConnection& connection) const;
  void arm_idle_timer();
  bool is_http2() const { return http2_; }

  event::Loop& loop_;
  ClusterState& cluster_;
  EndpointState& endpoint_;
  const bool http2_;                      // when the protocol of the cluster changes, its endpoints get new pools
  std::vector<IdleConnection> idle_;      // HTTP/1, oldest first
  std::vector<Multiplexed> multiplexed_;  // HTTP/2
  size_t peer_stream_limit_ = SIZE_MAX;   // HTTP/2: as the endpoint said last
  std::vector<Connector*> connectors_;
  StreamWaiter* first_waiter_ = nullptr;
  StreamWaiter* last_waiter_ = nullptr;
  uint32_t waiters_ = 0;
  uint32_t connections_ = 0;
  bool http1_by_alpn_ = false;  // the server was asked for h2 and chose http/1.1
  bool draining_ = false;
  std::shared_ptr<net::TlsSessionCache> sessions_;
  event::MemberTimer<Pool, &Pool::on_idle_timer> idle_timer_{this};
};

inline void StreamWaiter::stop_waiting() {
  if (pool_) pool_->cancel(*this);
}

}  // namespace sluice::upstream
