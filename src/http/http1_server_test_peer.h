#pragma once
// For tests of Http1ServerConnection: a connection over a socketpair, a recording handler, and a client that writes
// bytes as the test tells it.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "http/http1_server.h"

namespace sluice::http::http1_test {

inline void turns(event::Loop& loop, int count = 6) {
  for (int i = 0; i < count; ++i) {
    loop.post([] {});
    loop.run_once(0);
  }
}

// One request. Echoes the body when it is complete, unless a hook does something else.
struct Exchange final : StreamHandler {
  ServerStream* stream = nullptr;
  RequestHead* head = nullptr;
  Arena* arena = nullptr;
  std::string method, path, upgrade, body, trailers, events;
  int resets = 0;
  StreamError error = StreamError::kNone;
  std::vector<int>* refused = nullptr;  // of the peer: statuses that the codec answered with
  std::function<void(Exchange&)> on_data_hook, on_end, on_drained_hook, on_reset_hook;
  bool in_callback = false;

  void on_data(Slice data, bool end) override {
    events += end ? "D!" : "D";
    body += data.view();
    if (on_data_hook) on_data_hook(*this);
    if (end && stream && on_end) on_end(*this);
  }
  void on_trailers(const HeaderMap& map) override {
    events += "T!";
    for (const HeaderField& field : map) trailers += std::string(field.name()) + "=" + std::string(field.value()) + ";";
    if (on_end) on_end(*this);
  }
  void on_drained() override {
    events += "d";
    if (on_drained_hook) on_drained_hook(*this);
  }
  void on_reset(StreamError reason, std::string_view) override {
    if (stream && stream->refused_status()) refused->push_back(stream->refused_status());
    ++resets;
    events += "R";
    error = reason;
    stream = nullptr;
    if (on_reset_hook) on_reset_hook(*this);
  }

  void send_head(int status, int64_t length, bool end) {
    ResponseHead response;
    response.status = status;
    response.content_length = length;
    response.headers = HeaderMap(arena);
    stream->send_head(response, end);
  }
  // A whole response, and good-bye.
  void answer(int status, std::string_view text) {
    send_head(status, static_cast<int64_t>(text.size()), text.empty());
    if (!text.empty()) stream->send_data(Slice::copy(text), true);
    detach();
  }
  void detach() {
    ServerStream* gone = stream;
    stream = nullptr;
    gone->detach();
  }
  void reset() {
    ServerStream* gone = stream;
    stream = nullptr;
    gone->reset(StreamError::kCancelled);
  }
};

struct Harness : ServerCallbacks, ServerConnection::Owner, Http1ServerConnection::Upgrader {
  event::Loop loop;
  Http1Settings settings;
  Http1ServerConnection* connection = nullptr;
  std::vector<std::unique_ptr<Exchange>> exchanges;
  std::function<void(Exchange&, bool end)> on_request_hook;
  std::vector<int> refused;
  std::string http2_bytes;
  bool closed = false, is_draining = false, use_upgrader = false;
  int fd = -1;
  std::string in;
  bool eof = false, was_reset = false;

  void start() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
    serve(net::Stream(fds[0]), fds[1]);
  }
  // `client_fd` is ours from now on.
  void serve(net::Stream stream, int client_fd) {
    fd = client_fd;
    closed = eof = was_reset = false;
    in.clear();
    exchanges.clear();
    refused.clear();
    connection = new Http1ServerConnection(loop, std::move(stream), ConnectionInfo(), settings, *this, *this,
                                           use_upgrader ? this : nullptr);
    ASSERT_TRUE(connection->start(Slice()));
    turns(loop);
  }
  ~Harness() { stop(); }
  void stop() {
    if (connection && !closed) connection->close_now();
    turns(loop);
    if (fd >= 0) close(fd);
    fd = -1;
    EXPECT_TRUE(closed || !connection);
  }

  StreamHandler* on_request(ServerStream& stream, RequestHead& head, bool end) override {
    exchanges.push_back(std::make_unique<Exchange>());
    Exchange& e = *exchanges.back();
    e.stream = &stream;
    e.refused = &refused;
    e.head = &head;
    e.arena = head.headers.arena();
    e.method = head.method_text;
    e.path = head.path;
    e.upgrade = head.upgrade;
    e.events = end ? "H!" : "H";
    e.on_end = [](Exchange& x) { x.answer(200, x.body + "|" + x.trailers); };
    if (on_request_hook) {
      on_request_hook(e, end);
    } else if (end) {
      e.answer(200, e.path);
    }
    return e.stream ? &e : nullptr;
  }
  void on_refused(const ConnectionInfo&, int status, std::string_view why) override {
    EXPECT_FALSE(why.empty());
    refused.push_back(status);
  }
  void on_closed(ServerConnection&) override {
    EXPECT_FALSE(closed);
    closed = true;
  }
  bool draining() const override { return is_draining; }
  void on_http2_preface(Http1ServerConnection&, net::Stream stream, ConnectionInfo, Slice received) override {
    http2_bytes = received.view();
    EXPECT_TRUE(stream.is_open());
  }

  void send(std::string_view bytes) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n != static_cast<ssize_t>(bytes.size())) was_reset = true;
    turns(loop);
  }
  void receive() {
    char buffer[65536];
    while (true) {
      const ssize_t n = ::recv(fd, buffer, sizeof(buffer), 0);
      if (n > 0) {
        in.append(buffer, static_cast<size_t>(n));
        continue;
      }
      if (n == 0) eof = true;
      if (n < 0 && errno != EAGAIN) was_reset = true;
      return;
    }
  }
  std::string take() {
    turns(loop);
    receive();
    turns(loop);
    receive();
    return std::exchange(in, {});
  }
  void wait(uint64_t ms) {
    loop.update_clock();
    const uint64_t until = loop.now_ms() + ms;
    while (loop.now_ms() < until) loop.run_once(2);
    turns(loop);
  }
  Exchange& last() { return *exchanges.back(); }
};

inline const std::string kGet = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
inline std::string post(size_t n) {
  return "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: " + std::to_string(n) + "\r\n\r\n";
}
inline const std::string kChunked = "POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
inline std::string ok(std::string_view body, std::string_view more = {}) {
  return "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n" + std::string(more) + "\r\n" +
         std::string(body);
}

}  // namespace sluice::http::http1_test
