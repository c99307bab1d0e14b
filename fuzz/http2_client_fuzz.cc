// Frames of a hostile server into an HTTP/2 client connection with a few requests under way. The first byte chooses
// what the requests do, the second the size of the pieces; the rest is sent.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "http/http2_client.h"

using namespace sluice;

namespace {

class Request final : public http::ClientHandler {
 public:
  explicit Request(uint8_t habits) : habits_(habits) {}
  ~Request() {
    if (stream) stream->reset(http::StreamError::kCancelled);
  }
  Arena& arena() override { return arena_; }
  void on_informational(http::ResponseHead& head) override {
    check_live();
    if (head.status >= 200 || head_seen_) std::abort();
  }
  void on_response(http::ResponseHead& head, bool end) override {
    check_live();
    if (std::exchange(head_seen_, true)) std::abort();
    if (head.status < 200 || head.status > 999) std::abort();
    for (const http::HeaderField& field : head.headers) {
      if (!http::is_token(field.name()) || !http::is_field_value(field.value())) std::abort();
    }
    if (habits_ & 1) stream->pause();
    if (end) return finish();
    if (habits_ & 2) return std::exchange(stream, nullptr)->reset(http::StreamError::kCancelled);
  }
  void on_data(Slice, bool end) override {
    check_live();
    if (!head_seen_ || std::exchange(ended_, end)) std::abort();
    if (end) return finish();
    if (habits_ & 4) return std::exchange(stream, nullptr)->detach();
  }
  void on_trailers(const http::HeaderMap&) override {
    check_live();
    if (!head_seen_ || std::exchange(ended_, true)) std::abort();
    finish();
  }
  void on_drained() override { check_live(); }
  void on_reset(http::StreamError, std::string_view) override {
    check_live();
    (void)stream->certainly_unprocessed();
    stream = nullptr;
  }
  http::ClientStream* stream = nullptr;

 private:
  void check_live() {
    if (!stream) std::abort();
  }
  void finish() { std::exchange(stream, nullptr)->detach(); }

  Arena arena_;
  uint8_t habits_;
  bool head_seen_ = false;
  bool ended_ = false;
};

struct Observer final : http::ClientConnection::Observer {
  void on_available(http::ClientConnection&) override {}
  void on_draining(http::ClientConnection&) override {}
  void on_closed(http::ClientConnection&) override {
    if (std::exchange(closed, true)) std::abort();
  }
  bool closed = false;
};

void turn(event::Loop& loop, int fd) {
  loop.post([] {});
  loop.run_once(0);
  char drain[65536];
  while (recv(fd, drain, sizeof(drain), 0) > 0) {
  }
}

void open(http::Http2ClientConnection& connection, std::vector<std::unique_ptr<Request>>& requests, uint8_t habits) {
  auto request = std::make_unique<Request>(habits);
  request->stream = connection.open(*request);
  if (!request->stream) return;
  http::RequestHead head;
  head.headers = http::HeaderMap(&request->arena());
  const bool post = habits & 8;
  head.method_text = post ? "POST" : "GET";
  head.method = post ? http::Method::kPost : http::Method::kGet;
  head.scheme = "http";
  head.authority = "a";
  head.path = "/";
  if ((habits & 16) && connection.allows_extended_connect()) head.upgrade = "websocket";
  const bool end = !post && head.upgrade.empty();
  request->stream->send_head(head, end);
  if (post) {
    request->stream->send_data(Slice::copy(std::string(habits & 32 ? 100'000 : 10, 'x')), !(habits & 64));
  }
  requests.push_back(std::move(request));
}

void run(const uint8_t* data, size_t size) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) std::abort();
  {
    event::Loop loop;
    Observer observer;
    static const http::Http2Settings settings = http::Http2Settings::for_client();
    auto* connection = new http::Http2ClientConnection(loop, net::Stream(fds[0]), settings, observer);
    if (!connection->start(false)) std::abort();
    std::vector<std::unique_ptr<Request>> requests;
    for (int i = 0; i < 3; ++i) open(*connection, requests, static_cast<uint8_t>(data[0] + i * 37));
    turn(loop, fds[1]);
    const size_t piece = data[1] ? size_t{data[1]} * 16 : 1;
    for (size_t at = 2; at < size && !observer.closed; at += piece) {
      if (send(fds[1], data + at, std::min(piece, size - at), MSG_NOSIGNAL) <= 0) break;
      turn(loop, fds[1]);
      if (!observer.closed && connection->can_open() && requests.size() < 12) {
        open(*connection, requests, static_cast<uint8_t>(data[0] ^ at));
      }
    }
    for (int i = 0; i < 3; ++i) turn(loop, fds[1]);
    if (!observer.closed && (data[0] & 128)) connection->drain();
    turn(loop, fds[1]);
    close(fds[1]);
    for (int i = 0; i < 20 && !observer.closed; ++i) {
      loop.post([] {});
      loop.run_once(1);
    }
    if (!observer.closed) connection->close_now();
    requests.clear();
    loop.post([] {});
    loop.run_once(0);
    if (!observer.closed) std::abort();
  }
  if (block_pool_stats().in_use_bytes != 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 2) run(data, size);
  return 0;
}
