// Pool over HTTP/2 and over TLS, against servers of our own on the same loop.

#include "net/tls_test_certs.h"
#include "net/tls_ticket_keys.h"
#include "upstream/test_server.h"

namespace sluice::upstream {
namespace {

using namespace test;
using http::test::ServerExchange;

// Requests to one server, in one cluster.
struct ProtocolWorld : World {
  std::vector<std::unique_ptr<Request>> requests;

  void connect_to(const Server& server, config::UpstreamProtocol protocol) {
    config->protocol = protocol;
    start({server.address()});
  }
  Request& send(std::string_view sni = "a.example") {
    requests.push_back(std::make_unique<Request>());
    requests.back()->start(pool(), {.sni = sni});
    return *requests.back();
  }
  template <typename Condition>
  void until(Condition condition) {
    loop.update_clock();
    const uint64_t deadline = loop.now_ms() + 10'000;
    while (!condition() && loop.now_ms() < deadline) {
      turns(1);
      loop.run_once(1);
    }
    EXPECT_TRUE(condition());
  }
  void until_done() {
    until([&] {
      for (const auto& r : requests) {
        if (!r->done && r->error == http::StreamError::kNone) return false;
      }
      return true;
    });
  }
  size_t done() const {
    size_t count = 0;
    for (const auto& r : requests) count += r->done;
    return count;
  }
  ~ProtocolWorld() { requests.clear(); }
};

TEST(PoolHttp2, StreamsShareAConnection) {
  ProtocolWorld w;
  Server server(w.loop, true);
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 10; ++i) w.send();
    w.until_done();
  }
  EXPECT_EQ(w.done(), 30u);
  EXPECT_EQ(w.requests[0]->body, "/");
  EXPECT_EQ(server.accepted, 1);
  EXPECT_EQ(w.pool().connections(), 1u);
  EXPECT_EQ(w.state->counters.pending, 0u);
}

TEST(PoolHttp2, OurStreamLimitOpensMoreConnections) {
  ProtocolWorld w;
  Server server(w.loop, true);
  server.answer = [](ServerExchange&) {};
  w.config->max_concurrent_streams = 2;
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  for (int i = 0; i < 5; ++i) w.send();
  w.until([&] { return server.exchanges.size() == 5; });
  EXPECT_EQ(server.accepted, 3);
  for (auto& e : server.exchanges) e->answer(200, "late");
  w.until_done();
  EXPECT_EQ(w.done(), 5u);
}

TEST(PoolHttp2, TheServersLimitIsKept) {
  ProtocolWorld w;
  Server server(w.loop, true);
  server.http2_settings.max_concurrent_streams = 1;
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  w.config->circuit_breaker.max_connections = 1;
  w.send();
  w.until_done();
  for (int i = 0; i < 5; ++i) w.send();
  w.until_done();
  EXPECT_EQ(w.done(), 6u) << "one after the other";
  EXPECT_EQ(server.accepted, 1);
}

TEST(PoolHttp2, GoawayLosesNothing) {
  ProtocolWorld w;
  Server server(w.loop, true);
  server.answer = [](ServerExchange&) {};
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  w.send();
  w.until([&] { return server.exchanges.size() == 1; });
  server.connections[0]->drain();
  w.turns(2);
  w.wait(50);
  w.send();
  w.until([&] { return server.exchanges.size() == 2; });
  EXPECT_EQ(server.accepted, 2) << "the next goes elsewhere";
  for (auto& e : server.exchanges) e->answer(200, "late");
  w.until_done();
  EXPECT_EQ(w.done(), 2u);
  server.exchanges[0]->finish();
  w.until([&] { return w.pool().connections() == 1; });
}

TEST(PoolHttp2, IdleConnectionIsClosed) {
  ProtocolWorld w;
  Server server(w.loop, true);
  w.config->idle_timeout = std::chrono::milliseconds(40);
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  w.send();
  w.until_done();
  EXPECT_EQ(w.pool().connections(), 1u);
  w.until([&] { return w.pool().connections() == 0 && server.connections.empty(); });
  w.send();
  w.until_done();
  EXPECT_EQ(w.done(), 2u);
}

TEST(PoolHttp2, WhoWaitsHearsThatThereIsNoConnection) {
  ProtocolWorld w;
  Server server(w.loop, true);
  server.stop_listening();
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  for (int i = 0; i < 4; ++i) w.send();
  w.until_done();
  for (const auto& r : w.requests) EXPECT_EQ(r->error, http::StreamError::kConnectFailed);
  EXPECT_EQ(w.state->counters.connections, 0u);
  EXPECT_EQ(w.state->counters.pending, 0u);
}

TEST(PoolHttp2, LostConnectionResetsItsStreams) {
  ProtocolWorld w;
  Server server(w.loop, true);
  server.answer = [](ServerExchange&) {};
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  for (int i = 0; i < 3; ++i) w.send();
  w.until([&] { return server.exchanges.size() == 3; });
  server.connections[0]->close_now();
  w.until_done();
  for (const auto& r : w.requests) EXPECT_EQ(r->error, http::StreamError::kConnectionClosed);
  EXPECT_EQ(w.pool().connections(), 0u);
}

// --- TLS

const net::TestCertificate& authority() {
  static const net::TestCertificate certificate = net::make_test_ca();
  return certificate;
}

std::shared_ptr<const net::TlsContext> server_context(const std::vector<std::string>& alpn) {
  static const auto keys = std::make_shared<net::TlsTicketKeys>();
  static const net::TestCertificate leaf =
      net::make_test_certificate({.common_name = "a", .sans = "DNS:a.example,DNS:b.example"}, &authority());
  net::TlsServerConfig config;
  config.certificate_pem = leaf.certificate_pem();
  config.private_key_pem = leaf.key_pem();
  config.alpn = alpn;
  config.ticket_keys = keys;
  auto context = net::TlsContext::server(config);
  EXPECT_TRUE(context) << context.error().message;
  return *context;
}

std::shared_ptr<const config::UpstreamTls> client_tls(const std::vector<std::string>& alpn,
                                                      std::string sni = "a.example") {
  net::TlsClientConfig config;
  config.ca_pem = authority().certificate_pem();
  config.alpn = alpn;
  auto context = net::TlsContext::client(config);
  EXPECT_TRUE(context) << context.error().message;
  auto tls = std::make_shared<config::UpstreamTls>();
  tls->context = *context;
  tls->sni = std::move(sni);
  return tls;
}

TEST(PoolTls, Http1ConnectionsAreReused) {
  ProtocolWorld w;
  Server server(w.loop, false, server_context({"http/1.1"}));
  w.config->tls = client_tls({"http/1.1"});
  w.connect_to(server, config::UpstreamProtocol::kHttp1);
  for (int i = 0; i < 3; ++i) {
    w.send();
    w.until_done();
    w.turns(5);
  }
  EXPECT_EQ(w.done(), 3u);
  EXPECT_EQ(server.accepted, 1);
}

TEST(PoolTls, Http2ByAlpn) {
  ProtocolWorld w;
  Server server(w.loop, true, server_context({"h2", "http/1.1"}));
  w.config->tls = client_tls({"h2", "http/1.1"});
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  for (int i = 0; i < 5; ++i) w.send();
  w.until_done();
  EXPECT_EQ(w.done(), 5u);
  EXPECT_EQ(server.http2_connections, server.accepted);
  EXPECT_EQ(server.accepted, 1);
}

TEST(PoolTls, ServerThatOnlySpeaksHttp1) {
  ProtocolWorld w;
  Server server(w.loop, false, server_context({"http/1.1"}));
  w.config->tls = client_tls({"h2", "http/1.1"});
  w.connect_to(server, config::UpstreamProtocol::kHttp2);
  for (int i = 0; i < 4; ++i) w.send();
  w.until_done();
  EXPECT_EQ(w.done(), 4u) << "each gets a connection";
  EXPECT_EQ(server.http2_connections, 0);
}

TEST(PoolTls, SessionsAreResumed) {
  ProtocolWorld w;
  Server server(w.loop, false, server_context({"http/1.1"}));
  w.config->tls = client_tls({"http/1.1"});
  w.connect_to(server, config::UpstreamProtocol::kHttp1);
  w.send();
  w.until_done();
  w.requests.push_back(std::make_unique<Request>());
  w.requests.back()->start(w.pool(), {.sni = "a.example", .fresh_connection = true});
  w.until_done();
  EXPECT_EQ(w.done(), 2u);
  EXPECT_EQ(server.accepted, 2);
  EXPECT_EQ(server.resumed, 1);
}

TEST(PoolTls, WrongNameIsRefused) {
  for (const auto protocol : {config::UpstreamProtocol::kHttp1, config::UpstreamProtocol::kHttp2}) {
    ProtocolWorld w;
    Server server(w.loop, false, server_context({"h2", "http/1.1"}));
    w.config->tls = client_tls({"h2", "http/1.1"}, "other.example");
    w.connect_to(server, protocol);
    Request& request = w.send();
    w.until_done();
    EXPECT_EQ(request.error, http::StreamError::kConnectFailed);
    EXPECT_NE(request.failure.find("TLS_error"), std::string::npos) << request.failure;
    EXPECT_NE(request.failure.find("other.example"), std::string::npos) << request.failure;
    EXPECT_EQ(w.endpoint().connect_failures, 1u);
    EXPECT_EQ(w.pool().connections(), 0u);
  }
}

TEST(PoolTls, HandshakeTimeout) {
  ProtocolWorld w;
  w.config->connect_timeout = std::chrono::milliseconds(60);
  w.config->tls = client_tls({"http/1.1"});
  w.start();  // a listener that says nothing
  Request& request = w.send();
  w.until_done();
  EXPECT_EQ(request.error, http::StreamError::kTimeout);
  EXPECT_EQ(request.failure, "TLS handshake timeout");
}

// --- Happy eyeballs

// An address of ::1 on which nobody answers: connections are refused, or (`silent`) run into a full queue.
struct DeadIpv6 {
  explicit DeadIpv6(bool silent) {
    fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_addr = in6addr_loopback;
    socklen_t length = sizeof(any);
    if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&any), length) != 0) return;
    usable = true;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&any), &length);
    address = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&any), length);
    if (!silent) return;
    ::listen(fd, 0);
    for (int i = 0; i < 8; ++i) {
      fillers.push_back(::socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
      (void)::connect(fillers.back(), reinterpret_cast<sockaddr*>(&any), length);
    }
  }
  ~DeadIpv6() {
    ::close(fd);
    for (const int filler : fillers) ::close(filler);
  }
  int fd;
  bool usable = false;
  net::Address address;
  std::vector<int> fillers;
};

// How long a request takes whose endpoint, of the two that a name resolved to, is the one given; 0: it failed.
uint64_t connect_time(const net::Address& ipv6, bool ipv6_first) {
  ProtocolWorld w;
  Server server(w.loop, false);
  w.start({ipv6, server.address()});
  auto named = std::make_shared<config::Cluster>(*w.config);
  auto set = std::make_shared<config::EndpointSet>(*w.config->endpoints);
  for (config::Endpoint& endpoint : set->endpoints) endpoint.hostname = "two.example";
  named->endpoints = set;
  w.state->update(named);
  w.loop.update_clock();
  const uint64_t start = w.loop.now_ms();
  Request request;
  request.start(w.pool(ipv6_first ? 0 : 1));
  w.until([&] { return request.done || request.error != http::StreamError::kNone; });
  w.loop.update_clock();
  return request.done ? w.loop.now_ms() - start + 1 : 0;
}

TEST(HappyEyeballs, SilentAddressCostsTheHeadStart) {
  const DeadIpv6 dead(true);
  if (!dead.usable) GTEST_SKIP() << "no IPv6 on this machine";
  const uint64_t took = connect_time(dead.address, true);
  EXPECT_GE(took, Connector::kHeadStartMs);
  EXPECT_LT(took, Connector::kHeadStartMs + 600);
}

TEST(HappyEyeballs, RefusedAddressCostsNothing) {
  const DeadIpv6 dead(false);
  if (!dead.usable) GTEST_SKIP() << "no IPv6 on this machine";
  const uint64_t took = connect_time(dead.address, true);
  EXPECT_GT(took, 0u);
  EXPECT_LT(took, Connector::kHeadStartMs);
}

TEST(HappyEyeballs, WorkingAddressIsNotHurried) {
  const DeadIpv6 dead(true);
  if (!dead.usable) GTEST_SKIP() << "no IPv6 on this machine";
  const uint64_t took = connect_time(dead.address, false);
  EXPECT_GT(took, 0u);
  EXPECT_LT(took, Connector::kHeadStartMs);
}

}  // namespace
}  // namespace sluice::upstream
