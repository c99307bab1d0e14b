#pragma once
// For tests of the data plane: a real gateway on loopback ports, blocking clients, upstreams that do as they are told.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "config/router.h"
#include "proxy/gateway.h"

namespace sluice::proxy::test {

inline net::Address free_port() {
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

inline int connect_to(const net::Address& address) {
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
inline std::string ask(int fd, const std::string& request) {
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

// An HTTP/1 server on loopback, a thread for each connection. `handler` gets each request (head and body, if its length
// is stated) and gives the whole response; "" for none, which leaves the connection open.
class Upstream {
 public:
  using Handler = std::function<std::string(const std::string& request)>;

  explicit Upstream(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(any);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&any), length) != 0 || ::listen(listener_, 100) != 0) {
      std::abort();
    }
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&any), &length);
    address = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&any), length);
    accepting_ = std::thread([this] {
      int fd;
      while ((fd = ::accept(listener_, nullptr, nullptr)) >= 0) {
        serving_.emplace_back([this, fd] { serve(fd); });
      }
    });
  }
  // Answers every request with that name.
  explicit Upstream(const std::string& name) : Upstream([name](const std::string&) { return response(name); }) {}
  ~Upstream() {
    ::shutdown(listener_, SHUT_RDWR);
    accepting_.join();
    for (std::thread& thread : serving_) thread.join();
    ::close(listener_);
  }

  static std::string response(std::string_view body, std::string_view status = "200 OK") {
    return "HTTP/1.1 " + std::string(status) + "\r\nx-upstream: yes\r\ncontent-length: " + std::to_string(body.size()) +
           "\r\n\r\n" + std::string(body);
  }

  net::Address address;
  std::atomic<int> requests{0};
  std::atomic<int> closed{0};  // connections that have ended

 private:
  void serve(int fd) {
    std::string in;
    char buffer[4096];
    ssize_t n;
    while ((n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0) {
      in.append(buffer, static_cast<size_t>(n));
      for (size_t end; (end = in.find("\r\n\r\n")) != std::string::npos;) {
        const size_t at = in.find("content-length: ");
        const size_t size = end + 4 + (at < end ? std::stoul(in.substr(at + 16)) : 0);
        if (in.size() < size) break;
        ++requests;
        const std::string answer = handler_(in.substr(0, size));
        in.erase(0, size);
        if (::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
      }
    }
    ++closed;
    ::close(fd);
  }
  Handler handler_;
  int listener_;
  std::thread accepting_;
  std::vector<std::thread> serving_;
};

inline std::shared_ptr<config::Cluster> make_cluster(const std::string& name, uint32_t slot,
                                                     const std::vector<net::Address>& endpoints) {
  auto cluster = std::make_shared<config::Cluster>();
  cluster->name = "outbound|80||" + name;
  cluster->service = name;
  cluster->slot = slot;
  auto set = std::make_shared<config::EndpointSet>();
  for (const net::Address& address : endpoints) {
    config::Endpoint endpoint;
    endpoint.address = address;
    set->endpoints.push_back(endpoint);
  }
  cluster->endpoints = set;
  return cluster;
}

// Everything goes to the first of the clusters, through `filters`.
inline std::shared_ptr<config::Snapshot> make_snapshot(uint64_t version,
                                                       const std::vector<std::shared_ptr<config::Cluster>>& clusters,
                                                       config::FilterChain filters = {}) {
  auto out = std::make_shared<config::Snapshot>();
  out->version = version;
  for (const auto& cluster : clusters) {
    out->clusters.set(cluster->slot, cluster);
    out->cluster_slots.set(cluster->name, std::make_shared<const uint32_t>(cluster->slot));
  }
  auto route = std::make_shared<config::Route>();
  route->name = "default/" + clusters[0]->service;
  route->filters = std::move(filters);
  config::Destination destination;
  destination.cluster = clusters[0]->slot;
  destination.cluster_name = clusters[0]->name;
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

inline void finish(event::Loop& control, Gateway& gateway) {
  bool drained = false;
  gateway.drain([&] { drained = true; });
  run_until(control, [&] { return drained; });
  gateway.join();
  control.run_once(0);  // snapshots that came back
}

}  // namespace sluice::proxy::test
