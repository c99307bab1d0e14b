// Bytes of a client, in pieces, into an HTTP/1 server connection whose handler does what the first byte tells it:
// echoes, answers early, pauses, resets, sends trailers, half-closes. The second byte seeds the pieces; the rest is
// sent.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>

#include "base/random.h"
#include "event/loop.h"
#include "http/http1_server.h"

using namespace sluice;

namespace {

class Exchange final : public http::StreamHandler {
 public:
  Exchange(http::ServerStream& stream, http::RequestHead& head, uint8_t habits, int* alive)
      : stream_(&stream), head_(head), habits_(habits), alive_(alive) {
    ++*alive_;
    if (habits & 1) stream.pause();
    if (habits & 2) respond();
  }
  ~Exchange() { --*alive_; }

  // False: it has ended by itself.
  bool begin(bool end) {
    if (habits_ & 128) {
      http::ResponseHead hints;
      hints.status = 103;
      stream_->send_informational(hints);
    }
    if (!end && !(habits_ & 4)) return true;
    return !finish();
  }
  void on_data(Slice data, bool end) override {
    if (!stream_ || ended_) std::abort();
    ended_ = end;
    respond();
    stream_->send_data(std::move(data), false);
    if (habits_ & 8)
      stream_->reset(http::StreamError::kCancelled), stream_ = nullptr, delete this;
    else if (end)
      finish();
  }
  void on_trailers(const http::HeaderMap&) override {
    if (!stream_ || ended_) std::abort();
    ended_ = true;
    finish();
  }
  void on_drained() override {
    if (!stream_) std::abort();
    stream_->resume();
  }
  void on_reset(http::StreamError, std::string_view) override {
    if (!stream_) std::abort();
    delete this;
  }

 private:
  void respond() {
    if (std::exchange(responded_, true)) return;
    http::ResponseHead response;
    response.status = 200;
    response.headers = http::HeaderMap(head_.headers.arena());
    for (const http::HeaderField& field : head_.headers) response.headers.append(field.id, field.name(), field.value());
    if (habits_ & 16) response.content_length = head_.content_length;
    if (!head_.upgrade.empty()) {
      response.status = 101;
      response.upgrade = true;
    }
    stream_->send_head(response, false);
  }
  bool finish() {
    respond();
    if (habits_ & 32) {
      http::HeaderMap trailers(head_.headers.arena());
      trailers.add("t", std::string_view("u"));
      stream_->send_trailers(trailers);
    } else {
      stream_->send_data((habits_ & 64) ? Slice::copy(std::string(70'000, 'x')) : Slice(), true);
    }
    std::exchange(stream_, nullptr)->detach();
    delete this;
    return true;
  }

  http::ServerStream* stream_;
  http::RequestHead& head_;
  uint8_t habits_;
  int* alive_;
  bool responded_ = false;
  bool ended_ = false;
};

class Server final : public http::ServerCallbacks, public http::ServerConnection::Owner {
 public:
  explicit Server(uint8_t habits) : habits_(habits) {}
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head, bool end) override {
    if (head.method_text.empty() || (head.method != http::Method::kConnect && head.path.empty())) std::abort();
    if (++requests_ % 5 == 4) {
      stream.reset(http::StreamError::kRefused);
      return nullptr;
    }
    auto* exchange = new Exchange(stream, head, habits_, &alive);
    return exchange->begin(end) ? exchange : nullptr;
  }
  void on_refused(const http::ConnectionInfo&, int, std::string_view why) override {
    if (why.empty()) std::abort();
  }
  void on_closed(http::ServerConnection&) override {
    if (closed) std::abort();
    closed = true;
  }
  bool draining() const override { return false; }
  bool closed = false;
  int alive = 0;

 private:
  uint8_t habits_;
  uint32_t requests_ = 0;
};

void turn(event::Loop& loop, int fd) {
  loop.post([] {});
  loop.run_once(0);
  char drain[65536];
  while (recv(fd, drain, sizeof(drain), 0) > 0) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) std::abort();
  {
    event::Loop loop;
    Server server(data[0]);
    http::Http1Settings settings;
    settings.max_head_bytes = 2048;
    settings.max_fields = 20;
    settings.max_discard_bytes = 200;
    settings.linger_timeout_ms = 1;
    settings.half_close_grace_ms = 1;
    auto* connection = new http::Http1ServerConnection(loop, net::Stream(fds[0]), http::ConnectionInfo(), settings,
                                                       server, server, nullptr);
    if (!connection->start(Slice())) std::abort();
    Random random(data[1]);
    for (size_t at = 2; at < size && !server.closed;) {
      const size_t n = std::min<size_t>(size - at, 1 + random.below(data[1] & 1 ? 8 : 400));
      if (send(fds[1], data + at, n, MSG_NOSIGNAL) <= 0) break;
      at += n;
      turn(loop, fds[1]);
    }
    for (int i = 0; i < 3 && !server.closed; ++i) turn(loop, fds[1]);
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 6 && !server.closed; ++i) turn(loop, fds[1]);
    if (!server.closed && (data[1] & 2)) connection->drain();
    turn(loop, fds[1]);
    if (!server.closed) connection->close_now();
    turn(loop, fds[1]);
    if (!server.closed || server.alive != 0) std::abort();
    close(fds[1]);
  }
  if (block_pool_stats().in_use_bytes != 0) std::abort();
  return 0;
}
