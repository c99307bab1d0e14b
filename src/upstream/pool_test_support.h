#pragma once
// For tests of Pool: listeners that the test plays by hand, requests that record how they end, and a cluster's state.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "upstream/cluster.h"
#include "upstream/pool.h"

namespace sluice::upstream::test {

// A listener whose accepted sockets the test plays by hand.
struct Backend {
  int listener;
  net::Address address;
  std::vector<int> accepted;

  Backend() {
    listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(any);
    if (::bind(listener, reinterpret_cast<sockaddr*>(&any), length) != 0 || ::listen(listener, 64) != 0) std::abort();
    ::getsockname(listener, reinterpret_cast<sockaddr*>(&any), &length);
    address = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&any), length);
  }
  ~Backend() {
    stop();
    for (int fd : accepted) ::close(fd);
  }
  void stop() {
    if (listener >= 0) ::close(listener);
    listener = -1;
  }
  // Accepts what is there; returns how many have come in all.
  size_t accept() {
    int fd;
    while ((fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0) accepted.push_back(fd);
    return accepted.size();
  }
  std::string read(size_t which) {
    char text[4096];
    const ssize_t n = ::recv(accepted[which], text, sizeof(text), 0);
    return n < 0 ? "nothing" : n == 0 ? "end" : std::string(text, static_cast<size_t>(n));
  }
  void answer(size_t which) {
    const std::string text = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    EXPECT_EQ(::send(accepted[which], text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
};

struct Request final : StreamWaiter, http::ClientHandler {
  Arena memory;
  http::ClientStream* stream = nullptr;
  std::string path = "/", body, failure;
  int status = 0;
  http::StreamError error = http::StreamError::kNone;
  bool done = false;
  Pool* pool = nullptr;

  ~Request() {
    if (pool) pool->cancel(*this);
    if (stream) stream->reset(http::StreamError::kCancelled);
  }
  void start(Pool& where, const StreamNeeds& needs = {}) {
    pool = &where;
    if (http::ClientStream* opened = where.acquire(*this, needs)) on_stream_ready(*opened);
  }
  http::ClientHandler& stream_handler() override { return *this; }
  void on_stream_ready(http::ClientStream& opened) override {
    stream = &opened;
    http::RequestHead head;
    head.headers = http::HeaderMap(&memory);
    head.method_text = "GET";
    head.path = path;
    head.authority = "a";
    opened.send_head(head, true);
  }
  void on_stream_failed(http::StreamError reason, std::string_view detail) override {
    error = reason;
    failure = detail;
  }
  Arena& arena() override { return memory; }
  void on_informational(http::ResponseHead&) override {}
  void on_response(http::ResponseHead& head, bool end) override {
    status = head.status;
    if (end) finish();
  }
  void on_data(Slice data, bool end) override {
    body += data.view();
    if (end) finish();
  }
  void on_trailers(const http::HeaderMap&) override { finish(); }
  void on_drained() override {}
  void on_reset(http::StreamError reason, std::string_view detail) override {
    stream = nullptr;
    error = reason;
    failure = detail;
  }
  void finish() {
    done = true;
    std::exchange(stream, nullptr)->detach();
  }
};

struct World {
  event::Loop loop;
  Random random{1};
  Backend backend;
  std::shared_ptr<config::Cluster> config = std::make_shared<config::Cluster>();
  std::unique_ptr<ClusterState> state;

  void start() { start({backend.address}); }
  void start(const std::vector<net::Address>& addresses) {
    config->name = "outbound|80||a";
    config->endpoints = set_of(addresses);
    state = std::make_unique<ClusterState>(loop, random, config);
  }
  static std::shared_ptr<config::EndpointSet> set_of(const std::vector<net::Address>& addresses) {
    auto set = std::make_shared<config::EndpointSet>();
    for (const net::Address& address : addresses) {
      config::Endpoint endpoint;
      endpoint.address = address;
      set->endpoints.push_back(endpoint);
    }
    return set;
  }
  EndpointState& endpoint(size_t i = 0) { return *state->endpoints()[i]; }
  Pool& pool(size_t i = 0) { return *endpoint(i).pool; }
  void turns(int count = 10) {
    for (int i = 0; i < count; ++i) {
      loop.post([] {});  // a callback, behind which what the test itself has written is flushed
      loop.run_once(1);
      backend.accept();
    }
  }
  void wait(uint64_t ms) {
    loop.update_clock();
    const uint64_t until = loop.now_ms() + ms;
    while (loop.now_ms() < until) loop.run_once(2);
  }
  ~World() {
    if (state) state->drain();
    loop.post([] {});
    loop.run_once(0);
  }
};

}  // namespace sluice::upstream::test
