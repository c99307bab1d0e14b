// Pool and Connector against real listeners on the loopback interface.

#include "upstream/pool.h"

#include "upstream/pool_test_support.h"

namespace sluice::upstream {
namespace {

using namespace test;

TEST(Pool, ConnectsAndReuses) {
  World w;
  w.start();
  for (int i = 0; i < 3; ++i) {
    Request r;
    r.start(w.pool());
    w.turns();
    ASSERT_EQ(w.backend.accepted.size(), 1u);
    EXPECT_EQ(w.backend.read(0).substr(0, 5), "GET /");
    w.backend.answer(0);
    w.turns();
    EXPECT_TRUE(r.done);
    EXPECT_EQ(r.body, "ok");
  }
  EXPECT_EQ(w.endpoint().connections_opened, 1u);
  EXPECT_EQ(w.pool().connections(), 1u);
  EXPECT_EQ(w.state->counters.connections, 1u);
  EXPECT_EQ(w.state->counters.pending, 0u);
}

TEST(Pool, UsesTheConnectionThatWasUsedLast) {
  World w;
  w.start();
  {
    Request a, b;
    a.start(w.pool());
    b.start(w.pool());
    w.turns();
    ASSERT_EQ(w.backend.accepted.size(), 2u);
    w.backend.answer(0);
    w.turns();
    w.backend.answer(1);
    w.turns();
    ASSERT_TRUE(a.done && b.done);
    w.backend.read(0);
    w.backend.read(1);
  }
  Request c;
  c.start(w.pool());
  w.turns();
  EXPECT_EQ(w.backend.read(0), "nothing");
  EXPECT_EQ(w.backend.read(1).substr(0, 5), "GET /");
}

TEST(Pool, ConnectionLimitMakesRequestsWait) {
  World w;
  w.config->circuit_breaker.max_connections = 2;
  w.start();
  std::vector<std::unique_ptr<Request>> requests;
  for (int i = 0; i < 5; ++i) {
    requests.push_back(std::make_unique<Request>());
    requests.back()->start(w.pool());
  }
  EXPECT_EQ(w.state->counters.pending, 5u);
  w.turns();
  EXPECT_EQ(w.backend.accepted.size(), 2u);
  EXPECT_EQ(w.state->counters.pending, 3u);
  for (int round = 0; round < 3; ++round) {
    for (size_t which : {0u, 1u}) {
      if (w.backend.read(which) != "nothing") w.backend.answer(which);
    }
    w.turns();
  }
  for (const auto& r : requests) EXPECT_TRUE(r->done);
  EXPECT_EQ(w.backend.accepted.size(), 2u);
}

// A connection that ends makes place for who waits, and so does one that could not be made.
TEST(Pool, WaitersGetThePlaceOfWhatFailed) {
  World w;
  w.config->circuit_breaker.max_connections = 1;
  w.start();
  Request a, b;
  a.start(w.pool());
  b.start(w.pool());
  w.turns();
  ASSERT_EQ(w.backend.accepted.size(), 1u);
  ::close(w.backend.accepted[0]);
  w.backend.accepted.clear();
  w.turns();
  EXPECT_EQ(a.error, http::StreamError::kConnectionClosed);
  ASSERT_EQ(w.backend.accepted.size(), 1u);
  w.backend.answer(0);
  w.turns();
  EXPECT_TRUE(b.done);

  World refused;
  refused.config->circuit_breaker.max_connections = 1;
  refused.backend.stop();
  refused.start();
  Request c, d, e;
  c.start(refused.pool());
  d.start(refused.pool());
  e.start(refused.pool());
  for (int i = 0; i < 20; ++i) refused.loop.run_once(1);
  EXPECT_EQ(c.error, http::StreamError::kConnectFailed);
  EXPECT_EQ(d.error, http::StreamError::kConnectFailed) << "nobody is left waiting for nothing";
  EXPECT_EQ(e.error, http::StreamError::kConnectFailed);
  EXPECT_EQ(refused.state->counters.connections, 0u);
  EXPECT_EQ(refused.state->counters.pending, 0u);
}

// The limit is the cluster's: idle connections of one endpoint must not starve another endpoint for ever.
TEST(Pool, AnEndpointWithoutConnectionsGetsItsFirst) {
  World w;
  Backend other;
  w.config->circuit_breaker.max_connections = 1;
  w.start({w.backend.address, other.address});
  Request a;
  a.start(w.pool(0));
  w.turns();
  w.backend.answer(0);
  w.turns();
  ASSERT_TRUE(a.done);
  Request b;
  b.start(w.pool(1));
  w.turns();
  ASSERT_EQ(other.accept(), 1u);
  other.answer(0);
  w.turns();
  EXPECT_TRUE(b.done);
}

TEST(Pool, IdleTimeoutClosesTheOldest) {
  World w;
  w.config->idle_timeout = std::chrono::milliseconds(40);
  w.start();
  {
    Request a, b;
    a.start(w.pool());
    b.start(w.pool());
    w.turns();
    w.backend.answer(0);
    w.backend.answer(1);
    w.turns();
    ASSERT_TRUE(a.done && b.done);
  }
  EXPECT_EQ(w.pool().connections(), 2u);
  w.wait(20);
  Request c;
  c.start(w.pool());
  w.turns();
  w.wait(35);
  EXPECT_EQ(w.pool().connections(), 1u) << "the one in use stays";
  EXPECT_EQ(c.error, http::StreamError::kNone);
}

TEST(Pool, RequestLimitOfAConnection) {
  World w;
  w.config->max_requests_per_connection = 2;
  w.start();
  for (int i = 0; i < 5; ++i) {
    Request r;
    r.start(w.pool());
    w.turns();
    w.backend.answer(w.backend.accepted.size() - 1);
    w.turns();
    ASSERT_TRUE(r.done) << i;
  }
  EXPECT_EQ(w.backend.accepted.size(), 3u);
}

TEST(Pool, StaleConnectionIsNotUsedForWhatMustNotBeRepeated) {
  World w;
  w.start();
  {
    Request r;
    r.start(w.pool());
    w.turns();
    w.backend.answer(0);
    w.turns();
  }
  ::close(w.backend.accepted[0]);
  w.backend.accepted.clear();
  usleep(2000);
  // The loop has not seen the end yet.
  Request r;
  r.start(w.pool(), {.replayable = false});
  w.turns();
  ASSERT_EQ(w.backend.accepted.size(), 1u);
  EXPECT_EQ(w.backend.read(0).substr(0, 5), "GET /");
  w.backend.answer(0);
  w.turns();
  EXPECT_TRUE(r.done);
}

TEST(Pool, FreshConnectionOnDemand) {
  World w;
  w.start();
  {
    Request r;
    r.start(w.pool());
    w.turns();
    w.backend.answer(0);
    w.turns();
  }
  Request r;
  r.start(w.pool(), {.fresh_connection = true});
  w.turns();
  EXPECT_EQ(w.backend.accepted.size(), 2u);
}

TEST(Pool, CancelledWaiterIsForgotten) {
  World w;
  w.start();
  {
    Request r;
    r.start(w.pool());
    EXPECT_EQ(w.state->counters.pending, 1u);
  }
  EXPECT_EQ(w.state->counters.pending, 0u);
  w.turns();
  EXPECT_EQ(w.pool().connections(), 1u) << "the connection it asked for serves the next";
  Request next;
  next.start(w.pool());
  w.turns();
  EXPECT_EQ(w.backend.accepted.size(), 1u);
}

TEST(Pool, ConnectTimeout) {
  World w;
  w.config->connect_timeout = std::chrono::milliseconds(50);
  w.start({net::Address::ipv4(127, 0, 0, 1, 1)});
  // A listener whose queue is full does not answer.
  Backend full;
  ::listen(full.listener, 0);
  std::vector<int> fillers;
  sockaddr_storage storage;
  const socklen_t length = full.address.to_sockaddr(&storage);
  for (int i = 0; i < 8; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    (void)::connect(fd, reinterpret_cast<sockaddr*>(&storage), length);
    fillers.push_back(fd);
  }
  auto slow = std::make_shared<config::Cluster>(*w.config);
  slow->endpoints = World::set_of({full.address});
  w.state->update(slow);
  Request r;
  r.start(w.pool());
  w.wait(120);
  EXPECT_EQ(r.error, http::StreamError::kTimeout) << r.failure;
  EXPECT_EQ(w.endpoint().connect_failures, 1u);
  for (int fd : fillers) ::close(fd);
}

TEST(Pool, UnusableAddressFailsLater) {
  World w;
  w.start({net::Address::unix_path(std::string(200, 'x'))});
  Request r;
  r.start(w.pool());
  EXPECT_EQ(r.error, http::StreamError::kNone) << "not from inside acquire()";
  for (int i = 0; i < 5; ++i) w.loop.run_once(2);
  EXPECT_EQ(r.error, http::StreamError::kConnectFailed);
  EXPECT_FALSE(r.failure.empty());
}

// An endpoint that leaves the set: who waits for its connection is still served, nothing is reused afterwards.
TEST(Pool, RemovedEndpointServesItsWaiters) {
  World w;
  w.start();
  Request r, q;
  w.state->begin_request(w.endpoint());
  r.start(w.pool());
  q.start(w.pool());
  EndpointState& leaving = w.endpoint();
  auto empty = std::make_shared<config::Cluster>(*w.config);
  empty->endpoints = World::set_of({});
  w.state->update(empty);
  w.turns();
  ASSERT_EQ(w.backend.accepted.size(), 2u);
  w.backend.answer(0);
  w.backend.answer(1);
  w.turns();
  EXPECT_TRUE(r.done && q.done);
  EXPECT_EQ(leaving.pool->connections(), 0u);
  r.pool = q.pool = nullptr;
  w.state->end_request(leaving, {200, false});
  w.state->update(w.config);
}

TEST(Pool, PrivateConnectionsWithAProxyHeader) {
  World w;
  w.config->send_proxy_protocol = 1;
  w.start();
  Request a, b;
  a.path = "/a";
  b.path = "/b";
  a.start(w.pool(), {.proxy_header = "PROXY TCP4 1.1.1.1 9.9.9.9 1 80\r\n"});
  b.start(w.pool(), {.proxy_header = "PROXY TCP4 2.2.2.2 9.9.9.9 2 80\r\n"});
  w.turns();
  ASSERT_EQ(w.backend.accepted.size(), 2u);
  for (size_t i : {0u, 1u}) {
    const std::string text = w.backend.read(i);
    const bool first = text.find("1.1.1.1") != std::string::npos;
    EXPECT_NE(text.find(first ? "GET /a" : "GET /b"), std::string::npos) << text;
    w.backend.answer(i);
  }
  w.turns();
  EXPECT_TRUE(a.done && b.done);
  EXPECT_EQ(w.pool().connections(), 0u) << "a connection that speaks for one client is not kept";
}

TEST(Pool, DestroyedWithIdleConnectionsAndConnectorsUnderWay) {
  World w;
  w.start();
  {
    Request r;
    r.start(w.pool());
    w.turns();
    w.backend.answer(0);
    w.turns();
    Request busy;
    busy.start(w.pool());
    Request waiting;
    waiting.start(w.pool());
    busy.pool = nullptr;
    std::exchange(busy.stream, nullptr)->reset(http::StreamError::kCancelled);
  }
  w.state.reset();  // a sanitizer sees what is left behind
}

}  // namespace
}  // namespace sluice::upstream
