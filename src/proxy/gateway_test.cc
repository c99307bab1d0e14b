// A real gateway with two workers on loopback ports: snapshots published while clients send requests, statistics
// collected meanwhile, and a drain at the end. Made for the thread sanitizer.

#include "proxy/gateway.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "config/router.h"

namespace sluice::proxy {
namespace {

net::Address free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(any);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&any), length) != 0) std::abort();
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&any), &length);
  ::close(fd);
  return net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&any), length);
}

int connect_to(const net::Address& address) {
  sockaddr_storage storage;
  const socklen_t length = address.to_sockaddr(&storage);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0) {
    ::close(fd);
    return -1;
  }
  timeval limit{20, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  return fd;
}

// One keep-alive request; the whole response with its (stated) body.
std::string ask(int fd, const std::string& request) {
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) return "";
  std::string in;
  char buffer[4096];
  while (true) {
    const size_t end = in.find("\r\n\r\n");
    if (end != std::string::npos) {
      const size_t at = in.find("content-length: ");
      const size_t body = at < end ? std::stoul(in.substr(at + 16)) : 0;
      if (in.size() >= end + 4 + body) return in;
    }
    const ssize_t n = ::recv(fd, buffer, sizeof(buffer), 0);
    if (n <= 0) return in + "<cut>";
    in.append(buffer, static_cast<size_t>(n));
  }
}

// Answers every request with its own name, as long as the connection lasts.
class Upstream {
 public:
  explicit Upstream(std::string name) : name_(std::move(name)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(any);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&any), length) != 0 || ::listen(listener_, 100) != 0)
      std::abort();
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&any), &length);
    address = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&any), length);
    accepting_ = std::thread([this] {
      int fd;
      while ((fd = ::accept(listener_, nullptr, nullptr)) >= 0) {
        serving_.emplace_back([this, fd] { serve(fd); });
      }
    });
  }
  ~Upstream() {
    ::shutdown(listener_, SHUT_RDWR);
    accepting_.join();
    for (std::thread& thread : serving_) thread.join();
    ::close(listener_);
  }
  net::Address address;

 private:
  void serve(int fd) {
    std::string in;
    char buffer[4096];
    ssize_t n;
    const std::string answer =
        "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(name_.size()) + "\r\n\r\n" + name_;
    while ((n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0) {
      in.append(buffer, static_cast<size_t>(n));
      for (size_t end; (end = in.find("\r\n\r\n")) != std::string::npos; in.erase(0, end + 4)) {
        if (::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) <= 0) break;
      }
    }
    ::close(fd);
  }
  std::string name_;
  int listener_;
  std::thread accepting_;
  std::vector<std::thread> serving_;
};

std::shared_ptr<config::Snapshot> make_snapshot(uint64_t version, const Upstream& upstream, const std::string& name) {
  auto out = std::make_shared<config::Snapshot>();
  out->version = version;
  auto cluster = std::make_shared<config::Cluster>();
  cluster->name = "outbound|80||" + name;
  cluster->service = name;
  cluster->slot = 0;
  auto set = std::make_shared<config::EndpointSet>();
  config::Endpoint endpoint;
  endpoint.address = upstream.address;
  set->endpoints.push_back(endpoint);
  cluster->endpoints = set;
  out->clusters.set(0, cluster);
  out->cluster_slots.set(cluster->name, std::make_shared<const uint32_t>(0));
  auto route = std::make_shared<config::Route>();
  route->name = "default/" + name;
  config::Destination destination;
  destination.cluster = 0;
  destination.cluster_name = cluster->name;
  route->destinations.push_back(destination);
  route->total_weight = 1;
  auto host = std::make_shared<config::VirtualHost>();
  host->domain = "*";
  host->routes.push_back(route);
  config::index_paths(*host);
  out->hosts.set("*", host);
  return out;
}

// Runs the control loop on this thread until `done`.
template <typename Done>
void run_until(event::Loop& loop, Done done) {
  for (int i = 0; i < 20'000 && !done(); ++i) loop.run_once(5);
  ASSERT_TRUE(done());
}

void finish(event::Loop& control, Gateway& gateway) {
  bool drained = false;
  gateway.drain([&] { drained = true; });
  run_until(control, [&] { return drained; });
  gateway.join();
  control.run_once(0);  // snapshots that came back
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
    auto initial = make_snapshot(1, first, "first");
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
      auto next = version % 2 ? make_snapshot(version, first, "first") : make_snapshot(version, second, "second");
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
  gateway.publish(make_snapshot(1, upstream, "only"));
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
