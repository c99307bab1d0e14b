// HealthChecker against servers on the same loop: every kind of probe, thresholds, and configuration that changes.

#include "upstream/health_checker.h"

#include "net/tls_test_certs.h"
#include "upstream/test_server.h"

namespace sluice::upstream {
namespace {

using namespace test;
using Kind = config::HealthCheck::Kind;
using http::test::ServerExchange;
using std::chrono::milliseconds;

struct HealthWorld {
  event::Loop loop;
  std::vector<std::string> verdicts;  // "healthy", or the reason
  HealthChecker checker{
      loop, [this](const std::string& cluster, const net::Address&, bool healthy, const std::string& reason) {
        EXPECT_EQ(cluster, "outbound|80||a");
        verdicts.push_back(healthy ? "healthy" + reason : reason);
      }};
  std::shared_ptr<config::Cluster> cluster = std::make_shared<config::Cluster>();
  uint64_t version = 0;

  explicit HealthWorld(Kind kind) {
    cluster->name = "outbound|80||a";
    cluster->health_check.kind = kind;
    cluster->health_check.interval = milliseconds(10);
    cluster->health_check.timeout = milliseconds(400);
    cluster->health_check.unhealthy_threshold = 2;
    cluster->health_check.healthy_threshold = 2;
    if (kind == Kind::kGrpc) cluster->protocol = config::UpstreamProtocol::kHttp2;
  }
  void check(const std::vector<net::Address>& addresses) {
    cluster->endpoints = World::set_of(addresses);
    config::Snapshot snapshot;
    snapshot.version = ++version;
    snapshot.clusters.set(0, std::make_shared<config::Cluster>(*cluster));
    checker.update(snapshot);
  }
  template <typename Condition>
  void until(Condition condition) {
    loop.update_clock();
    const uint64_t deadline = loop.now_ms() + 10'000;
    while (!condition() && loop.now_ms() < deadline) loop.run_once(2);
    EXPECT_TRUE(condition());
  }
  void wait(uint64_t ms) { http::test::pump_ms(loop, ms); }
  // Waits for the next verdict and returns it.
  std::string next() {
    until([&] { return !verdicts.empty(); });
    std::string first = verdicts.empty() ? "none" : verdicts.front();
    verdicts.clear();
    return first;
  }
};

// Answers with what the test says.
struct Answers {
  int status = 200;
  void install(Server& server) {
    server.answer = [this](ServerExchange& e) {
      e.drained_hook = [](ServerExchange& x) {
        if (x.stream && x.stream->buffered() == 0) x.finish();
      };
      e.answer(status, "x");
    };
  }
};

void follows_the_status(bool http2) {
  HealthWorld w(Kind::kHttp);
  if (http2) w.cluster->protocol = config::UpstreamProtocol::kHttp2;
  w.cluster->health_check.path = "/ready";
  w.cluster->health_check.host = "check.example";
  Server server(w.loop, http2);
  Answers answers;
  answers.install(server);
  w.check({server.address()});
  w.until([&] { return server.exchanges.size() > 4; });
  EXPECT_TRUE(w.verdicts.empty()) << "healthy until shown otherwise";
  EXPECT_EQ(server.exchanges[0]->path, "/ready");
  EXPECT_EQ(server.exchanges[0]->authority, "check.example");
  answers.status = 500;
  EXPECT_EQ(w.next(), "status 500");
  answers.status = 204;
  EXPECT_EQ(w.next(), "healthy");
  answers.status = 302;
  EXPECT_EQ(w.next(), "status 302");
}

TEST(HealthChecker, Http1FollowsTheStatus) { follows_the_status(false); }
TEST(HealthChecker, Http2FollowsTheStatus) { follows_the_status(true); }

TEST(HealthChecker, ThresholdsAreOfProbesInARow) {
  HealthWorld w(Kind::kHttp);
  w.cluster->health_check.unhealthy_threshold = 3;
  Server server(w.loop, false);
  size_t probes = 0;
  server.answer = [&](ServerExchange& e) {
    e.drained_hook = [](ServerExchange& x) {
      if (x.stream && x.stream->buffered() == 0) x.finish();
    };
    e.answer(++probes % 3 == 0 ? 200 : 500, "x");
  };
  w.check({server.address()});
  w.until([&] { return probes > 12; });
  EXPECT_TRUE(w.verdicts.empty()) << "never three in a row";
}

TEST(HealthChecker, TcpAndRefusedConnections) {
  HealthWorld w(Kind::kTcp);
  auto server = std::make_unique<Server>(w.loop, false);
  w.check({server->address()});
  w.until([&] { return server->accepted > 3; });
  EXPECT_TRUE(w.verdicts.empty());
  server->stop_listening();
  EXPECT_NE(w.next().find("refused"), std::string::npos);
}

TEST(HealthChecker, SilentServerTimesOut) {
  for (const Kind kind : {Kind::kHttp, Kind::kGrpc}) {
    HealthWorld w(kind);
    w.cluster->health_check.timeout = milliseconds(30);
    Server server(w.loop, kind == Kind::kGrpc);
    server.http1_settings.half_close_grace_ms = 1;
    server.answer = [](ServerExchange&) {};
    w.check({server.address()});
    EXPECT_EQ(w.next(), "timeout");
    w.until([&] { return server.connections.size() <= 1; });  // the probes before have been given up
  }
}

TEST(HealthChecker, ServerThatHangsUp) {
  HealthWorld w(Kind::kHttp);
  Server server(w.loop, false);
  server.answer = [](ServerExchange& e) { std::exchange(e.stream, nullptr)->reset(http::StreamError::kCancelled); };
  w.check({server.address()});
  EXPECT_NE(w.next().find("closed the connection before the response"), std::string::npos);
}

// --- gRPC

// A length-prefixed HealthCheckResponse with that status.
std::string health_response(int status) { return std::string("\0\0\0\0\2\x08", 6) + static_cast<char>(status); }

void answer_grpc(ServerExchange& e, std::string_view body, std::string_view grpc_status, int status = 200) {
  e.drained_hook = [](ServerExchange& x) {
    if (x.stream && x.stream->buffered() == 0) x.finish();
  };
  http::ResponseHead head;
  head.status = status;
  head.headers = http::HeaderMap(e.head->headers.arena());
  head.headers.add(http::HeaderId::kContentType, "application/grpc");
  e.stream->send_head(head, false);
  if (!body.empty()) e.stream->send_data(Slice::copy(body), false);
  http::HeaderMap trailers(e.head->headers.arena());
  trailers.add(http::HeaderId::kGrpcStatus, grpc_status);
  e.stream->send_trailers(trailers);
}

TEST(HealthChecker, GrpcFollowsTheServingStatus) {
  HealthWorld w(Kind::kGrpc);
  w.cluster->health_check.grpc_service = "shop.Cart";
  Server server(w.loop, true);
  std::string body = health_response(1), grpc_status = "0";
  int status = 200;
  server.answer = [&](ServerExchange& e) { answer_grpc(e, body, grpc_status, status); };
  w.check({server.address()});
  w.until([&] { return server.exchanges.size() > 3; });
  EXPECT_TRUE(w.verdicts.empty());
  EXPECT_EQ(server.exchanges[0]->path, "/grpc.health.v1.Health/Check");
  EXPECT_EQ(server.exchanges[0]->method, "POST");
  EXPECT_EQ(server.exchanges[0]->body, std::string("\0\0\0\0\x0b\x0a\x09shop.Cart", 16));
  const auto recover = [&] {
    body = health_response(1);
    grpc_status = "0";
    status = 200;
    EXPECT_EQ(w.next(), "healthy");
  };
  body = health_response(2);
  EXPECT_EQ(w.next(), "not SERVING");
  recover();
  grpc_status = "12";
  EXPECT_EQ(w.next(), "grpc-status 12");
  recover();
  body = "";
  EXPECT_EQ(w.next(), "not SERVING");
  recover();
  status = 503;
  EXPECT_EQ(w.next(), "HTTP status 503");
}

TEST(HealthChecker, GrpcWithoutHttp2) {
  HealthWorld w(Kind::kGrpc);
  Server server(w.loop, false);  // takes the preface for a bad request
  w.check({server.address()});
  EXPECT_NE(w.next(), "healthy");
}

// --- TLS

TEST(HealthChecker, OverTls) {
  const net::TestCertificate ca = net::make_test_ca();
  const net::TestCertificate leaf = net::make_test_certificate({.sans = "DNS:a.example"}, &ca);
  net::TlsServerConfig server_config;
  server_config.certificate_pem = leaf.certificate_pem();
  server_config.private_key_pem = leaf.key_pem();
  server_config.alpn = {"h2", "http/1.1"};
  for (const bool http2 : {false, true}) {
    HealthWorld w(Kind::kHttp);
    if (http2) w.cluster->protocol = config::UpstreamProtocol::kHttp2;
    Server server(w.loop, http2, *net::TlsContext::server(server_config));
    net::TlsClientConfig client;
    client.ca_pem = ca.certificate_pem();
    client.alpn = http2 ? std::vector<std::string>{"h2", "http/1.1"} : std::vector<std::string>{"http/1.1"};
    auto tls = std::make_shared<config::UpstreamTls>();
    tls->context = *net::TlsContext::client(client);
    tls->sni = "a.example";
    w.cluster->tls = tls;
    w.check({server.address()});
    w.until([&] { return server.exchanges.size() > 3; });
    EXPECT_TRUE(w.verdicts.empty());
    EXPECT_EQ(server.http2_connections > 0, http2);
    auto other = std::make_shared<config::UpstreamTls>(*tls);
    other->sni = "b.example";
    w.cluster->tls = other;
    w.check({server.address()});
    EXPECT_NE(w.next().find("b.example"), std::string::npos);
  }
}

// --- configuration

TEST(HealthChecker, FollowsTheSnapshot) {
  HealthWorld w(Kind::kHttp);
  Server one(w.loop, false), two(w.loop, false);
  w.check({one.address(), two.address()});
  EXPECT_EQ(w.checker.endpoints(), 2u);
  w.until([&] { return one.exchanges.size() > 1 && two.exchanges.size() > 1; });
  w.check({two.address()});
  EXPECT_EQ(w.checker.endpoints(), 1u);
  const size_t seen = one.exchanges.size();
  w.cluster->health_check.path = "/other";
  w.check({two.address()});
  w.until([&] { return two.exchanges.back()->path == "/other"; });
  EXPECT_LE(one.exchanges.size(), seen + 1) << "no longer asked";
  w.cluster->health_check.kind = Kind::kNone;
  w.check({two.address()});
  EXPECT_EQ(w.checker.endpoints(), 0u);
}

TEST(HealthChecker, UnhealthyEndpointThatIsNotCheckedAnyMoreIsForgiven) {
  HealthWorld w(Kind::kHttp);
  Server one(w.loop, false), two(w.loop, false);
  Answers bad;
  bad.status = 500;
  bad.install(one);
  // It leaves, and what comes back under its address may be well.
  w.check({one.address(), two.address()});
  EXPECT_EQ(w.next(), "status 500");
  w.check({two.address()});
  EXPECT_EQ(w.next(), "healthynot checked any more");
  w.check({one.address(), two.address()});
  EXPECT_EQ(w.next(), "status 500");
  // The check goes.
  w.cluster->health_check.kind = Kind::kNone;
  w.check({one.address(), two.address()});
  EXPECT_EQ(w.next(), "healthynot checked any more");
  EXPECT_EQ(w.checker.endpoints(), 0u);
}

// In the middle of a probe, of every kind.
TEST(HealthChecker, DestroyedWhileAProbeRuns) {
  for (const Kind kind : {Kind::kTcp, Kind::kHttp, Kind::kGrpc}) {
    for (int turns = 0; turns < 12; ++turns) {
      event::Loop loop;
      Server server(loop, kind == Kind::kGrpc);
      server.answer = [](ServerExchange&) {};
      {
        HealthChecker checker(loop, [](const std::string&, const net::Address&, bool, const std::string&) {});
        config::Snapshot snapshot;
        auto cluster = std::make_shared<config::Cluster>();
        cluster->name = "c";
        cluster->health_check.kind = kind;
        cluster->health_check.interval = milliseconds(1);
        if (kind == Kind::kGrpc) cluster->protocol = config::UpstreamProtocol::kHttp2;
        cluster->endpoints = World::set_of({server.address()});
        snapshot.clusters.set(0, cluster);
        checker.update(snapshot);
        for (int i = 0; i < turns; ++i) loop.run_once(1);
      }
      http::test::pump_ms(loop, 5);
    }
  }
}

}  // namespace
}  // namespace sluice::upstream
