// A real gateway with two workers on loopback ports: snapshots published while clients send requests, statistics
// collected meanwhile, and a drain at the end. Made for the thread sanitizer.

#include "proxy/gateway.h"

#include "proxy/gateway_test_support.h"

namespace sluice::proxy {
namespace {

using namespace test;

std::shared_ptr<config::Snapshot> only(uint64_t version, const Upstream& upstream, const std::string& name) {
  return make_snapshot(version, {make_cluster(name, 0, {upstream.address})});
}

TEST(Gateway, PublishesWhileRequestsRun) {
  // The upstreams and the control loop outlive the gateway.
  Upstream first("first"), second("second");
  event::Loop control;
  Options options;
  options.workers = 2;
  options.drain_deadline_ms = 5000;
  options.listeners.push_back({free_port(), false, false});
  auto log = AccessLog::open("/dev/null", AccessLogFormat::standard());
  ASSERT_TRUE(log.ok());
  std::vector<std::weak_ptr<const config::Snapshot>> published;
  {
    Gateway gateway(control, options, std::move(*log));
    auto initial = only(1, first, "first");
    published.push_back(initial);
    gateway.publish(std::move(initial));
    const Status started = gateway.start();
    ASSERT_TRUE(started.ok()) << started.error().message;

    std::atomic<bool> stop{false};
    std::atomic<int> good{0}, bad{0};
    std::vector<std::thread> clients;
    for (int t = 0; t < 3; ++t) {
      clients.emplace_back([&, t] {
        int fd = -1;
        int i = 0;
        // Everybody sends some, however slow the machine.
        while (!stop.load() || i < 20) {
          if (fd < 0) fd = connect_to(options.listeners[0].address);
          const std::string answer = ask(fd, "GET /" + std::to_string(t) + " HTTP/1.1\r\nhost: a\r\n\r\n");
          const bool ok =
              answer.substr(0, 15) == "HTTP/1.1 200 OK" &&
              (answer.find("\r\n\r\nfirst") != std::string::npos || answer.find("\r\n\r\nsecond") != std::string::npos);
          ++(ok ? good : bad);
          if (!ok && bad < 5) ADD_FAILURE() << answer;
          if (!ok || ++i % 7 == 0) {
            ::close(fd);
            fd = -1;
          }
        }
        if (fd >= 0) ::close(fd);
      });
    }
    int reports = 0;
    for (uint64_t version = 2; version <= 1001; ++version) {
      auto next = version % 2 ? only(version, first, "first") : only(version, second, "second");
      published.push_back(next);
      gateway.publish(std::move(next));
      EXPECT_EQ(gateway.current()->version, version);
      if (version % 50 == 0) {
        gateway.collect([&](Report report) {
          ++reports;
          EXPECT_GE(report.stats.http.requests_http1, 0u);
        });
      }
      control.run_once(version % 3 ? 0 : 1);
    }
    stop = true;
    for (std::thread& client : clients) client.join();
    EXPECT_EQ(bad.load(), 0);
    EXPECT_GE(good.load(), 60);
    run_until(control, [&] { return reports == 20; });

    Report last;
    bool collected = false;
    gateway.collect([&](Report report) {
      last = std::move(report);
      collected = true;
    });
    run_until(control, [&] { return collected; });
    EXPECT_EQ(last.stats.http.requests_http1, static_cast<uint64_t>(good.load()));
    uint64_t by_route = 0;
    last.stats.routes.for_each([&](uint32_t, const ResponseStats& stats) { by_route += stats.by_class[2]; });
    EXPECT_EQ(by_route, static_cast<uint64_t>(good.load()));
    finish(control, gateway);
    // Old snapshots are not kept by anybody.
    size_t alive = 0;
    for (const auto& snapshot : published) alive += !snapshot.expired();
    EXPECT_LE(alive, 3u);
  }
  control.run_once(0);
}

TEST(Gateway, DrainAnswersWhatIsUnderWay) {
  Upstream upstream("only");
  event::Loop control;
  Options options;
  options.workers = 2;
  options.drain_deadline_ms = 5000;
  options.listeners.push_back({free_port(), false, false});
  Gateway gateway(control, options, nullptr);
  gateway.publish(only(1, upstream, "only"));
  ASSERT_TRUE(gateway.start().ok());
  std::vector<int> fds;
  for (int i = 0; i < 6; ++i) {
    fds.push_back(connect_to(options.listeners[0].address));
    EXPECT_NE(ask(fds.back(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n").find("only"), std::string::npos);
  }
  finish(control, gateway);
  for (int fd : fds) {
    char byte;
    EXPECT_EQ(::recv(fd, &byte, 1, 0), 0) << "idle connections end in order";
    ::close(fd);
  }
  EXPECT_EQ(connect_to(options.listeners[0].address), -1);
}

// What the gateway says of its endpoints.
std::vector<EndpointReport> endpoints_of(event::Loop& control, Gateway& gateway) {
  std::vector<EndpointReport> endpoints;
  bool done = false;
  gateway.collect([&](Report report) {
    endpoints = std::move(report.endpoints);
    done = true;
  });
  run_until(control, [&] { return done; });
  return endpoints;
}

size_t ejected(const std::vector<EndpointReport>& endpoints, uint32_t workers) {
  size_t count = 0;
  for (const EndpointReport& endpoint : endpoints) count += endpoint.ejected_workers == workers;
  return count;
}

TEST(Gateway, WorkersShareEjections) {
  Upstream bad([](const std::string&) { return Upstream::response("", "500 No"); });
  Upstream good("good");
  event::Loop control;
  Options options;
  options.workers = 2;
  options.listeners.push_back({free_port(), false, false});
  Gateway gateway(control, options, nullptr);
  auto cluster = make_cluster("be", 0, {bad.address, good.address});
  cluster->load_balancing = config::LoadBalancing::kRoundRobin;
  cluster->outlier.consecutive_5xx = 3;
  cluster->outlier.base_ejection_time = std::chrono::milliseconds(700);
  cluster->outlier.max_ejection_percent = 50;
  gateway.publish(make_snapshot(1, {cluster}));
  ASSERT_TRUE(gateway.start().ok());
  // One connection, so one worker; the other has not seen a single request.
  const int fd = connect_to(options.listeners[0].address);
  for (int i = 0; i < 20 && bad.requests < 3; ++i) ask(fd, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  EXPECT_EQ(bad.requests.load(), 3);
  run_until(control, [&] { return ejected(endpoints_of(control, gateway), 2) == 1; });
  run_until(control, [&] { return ejected(endpoints_of(control, gateway), 0) == 2; });
  ::close(fd);
  finish(control, gateway);
}

// Workers that find different endpoints bad at the same time still eject no more than the share together.
TEST(Gateway, WorkersShareTheEjectionLimit) {
  std::vector<std::unique_ptr<Upstream>> upstreams;
  std::vector<net::Address> addresses;
  for (int i = 0; i < 4; ++i) {
    upstreams.push_back(
        std::make_unique<Upstream>([](const std::string&) { return Upstream::response("", "500 No"); }));
    addresses.push_back(upstreams.back()->address);
  }
  event::Loop control;
  Options options;
  options.workers = 2;
  options.listeners.push_back({free_port(), false, false});
  Gateway gateway(control, options, nullptr);
  auto cluster = make_cluster("be", 0, addresses);
  cluster->outlier.consecutive_5xx = 1;
  cluster->outlier.max_ejection_percent = 25;
  gateway.publish(make_snapshot(1, {cluster}));
  ASSERT_TRUE(gateway.start().ok());
  // Both workers decide before the control thread, which does not run meanwhile, can say anything.
  for (int i = 0; i < 40; ++i) {
    const int fd = connect_to(options.listeners[0].address);
    ask(fd, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    ::close(fd);
  }
  run_until(control, [&] {
    const auto endpoints = endpoints_of(control, gateway);
    return ejected(endpoints, 2) == 1 && ejected(endpoints, 0) == 3;
  });
  finish(control, gateway);
}

TEST(Gateway, BindErrorsNameTheAddress) {
  event::Loop control;
  Options options;
  options.listeners.push_back({net::Address::ipv4(192, 0, 2, 1, 80), false, false});
  Gateway gateway(control, options, nullptr);
  gateway.publish(std::make_shared<config::Snapshot>());
  const Status started = gateway.start();
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().message.find("192.0.2.1:80"), std::string::npos) << started.error().message;
}

}  // namespace
}  // namespace sluice::proxy
