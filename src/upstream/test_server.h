#pragma once
// For tests: a server of HTTP/1 or HTTP/2, in clear or over TLS, on the test's own loop.

#include "http/http1_server.h"
#include "http/http2_test_peer.h"
#include "net/tls.h"
#include "upstream/pool_test_support.h"

namespace sluice::upstream::test {

class Server final : public http::ServerCallbacks,
                     public http::ServerConnection::Owner,
                     private event::IoHandler,
                     private net::TlsServerSelector {
 public:
  // `tls` null: in clear, and HTTP/2 if `http2`; otherwise what ALPN agrees on.
  Server(event::Loop& loop, bool http2, std::shared_ptr<const net::TlsContext> tls = nullptr)
      : loop_(loop), http2_(http2), tls_(std::move(tls)) {
    EXPECT_TRUE(loop_.add(backend_.listener, this, EPOLLIN));
  }
  ~Server() {
    stop_listening();
    for (http::ServerConnection* connection : std::vector(connections)) connection->close_now();
    for (auto& exchange : exchanges) {
      if (exchange->stream) exchange->finish();
    }
    http::test::pump(loop_);
  }

  const net::Address& address() const { return backend_.address; }
  void stop_listening() {
    if (backend_.listener >= 0) loop_.remove(backend_.listener);
    backend_.stop();
  }

  http::Http1Settings http1_settings;
  http::Http2Settings http2_settings;
  std::vector<http::ServerConnection*> connections;
  int accepted = 0, resumed = 0, http2_connections = 0;
  std::vector<std::unique_ptr<http::test::ServerExchange>> exchanges;
  // Answers a request whose head has come; by default 200 with its path.
  std::function<void(http::test::ServerExchange&)> answer = [](http::test::ServerExchange& e) {
    e.drained_hook = [](http::test::ServerExchange& x) {
      if (x.ended && x.stream && x.stream->buffered() == 0) x.finish();
    };
    e.answer(200, e.path);
  };

 private:
  // A TLS handshake under way.
  struct Handshake final : event::IoHandler, event::Destroyable {
    Handshake(Server& server, int fd) : server(server), stream(fd) {
      stream.set_tls(net::TlsSession::accept(fd, server));
      EXPECT_TRUE(server.loop_.add(fd, this));
    }
    void on_io(uint32_t events) override {
      if (!stream.is_open()) return;
      stream.note(events);
      const net::IoResult result = stream.tls()->handshake();
      if (result.status == net::IoStatus::kAgain) return;
      server.loop_.destroy_later(this);
      if (result.status != net::IoStatus::kOk) return stream.close();
      server.resumed += stream.tls()->resumed();
      const bool http2 = stream.tls()->alpn() == "h2";
      server.serve(std::move(stream), http2, true);
    }
    Server& server;
    net::Stream stream;
  };

  void on_io(uint32_t) override {
    int fd;
    while ((fd = ::accept4(backend_.listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
      ++accepted;
      if (tls_) {
        new Handshake(*this, fd);
      } else {
        serve(net::Stream(fd), http2_, false);
      }
    }
  }
  void serve(net::Stream stream, bool http2, bool registered) {
    const auto start = [&](auto* connection) {
      connections.push_back(connection);
      if (!connection->start(Slice(), registered)) std::abort();
    };
    if (http2) {
      ++http2_connections;
      start(new http::Http2ServerConnection(loop_, std::move(stream), {}, http2_settings, *this, *this));
    } else {
      start(new http::Http1ServerConnection(loop_, std::move(stream), {}, http1_settings, *this, *this, nullptr));
    }
  }
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head, bool end) override {
    exchanges.push_back(std::make_unique<http::test::ServerExchange>());
    http::test::ServerExchange& exchange = *exchanges.back();
    exchange.stream = &stream;
    exchange.head = &head;
    exchange.path = head.path;
    exchange.method = head.method_text;
    exchange.authority = head.authority;
    exchange.ended = end;
    if (end) {
      answer(exchange);
    } else {
      exchange.end_hook = [this](http::test::ServerExchange& e) { answer(e); };
    }
    return exchange.stream ? &exchange : nullptr;
  }
  void on_refused(const http::ConnectionInfo&, int, std::string_view) override {}
  void on_closed(http::ServerConnection& connection) override { std::erase(connections, &connection); }
  bool draining() const override { return false; }
  std::shared_ptr<const net::TlsContext> select(std::string_view) override { return tls_; }

  event::Loop& loop_;
  const bool http2_;
  const std::shared_ptr<const net::TlsContext> tls_;
  Backend backend_;
};

}  // namespace sluice::upstream::test
