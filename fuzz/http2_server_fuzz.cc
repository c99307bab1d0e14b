// Bytes of a client, in pieces, into an HTTP/2 server connection whose handler does what the bytes
// tell it: answers, echoes, pauses, resets, drains, closes.
//
// The first byte of the input chooses the handler's habits, the second the size of the pieces; the
// rest is sent. A run of the program with the one argument `--seeds DIR` writes a small corpus.

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "event/loop.h"
#include "http/http2_server.h"

using namespace sluice;

namespace {

class Exchange final : public http::StreamHandler {
 public:
  Exchange(http::ServerStream& stream, http::RequestHead& head, uint8_t habits) : stream_(&stream), habits_(habits) {
    response_.status = (habits & 1) ? 200 : 204;
    response_.headers = http::HeaderMap(head.headers.arena());
    for (const http::HeaderField& field : head.headers) response_.headers.append(field.id, field.name(), field.value());
    response_.upgrade = !head.upgrade.empty();
    response_.content_length = head.content_length;
    if (habits & 2) stream.send_informational(informational());
    if (habits & 4) stream.pause();
    if (habits & 8) respond();
  }

  void on_data(Slice data, bool end) override {
    if (!stream_) std::abort();
    if (ended_) std::abort();
    ended_ = end;
    if (habits_ & 16) {
      respond();
      stream_->send_data(std::move(data), end);
    }
    if (end) finish();
  }
  void on_trailers(const http::HeaderMap& trailers) override {
    if (!stream_ || ended_) std::abort();
    ended_ = true;
    respond();
    if (habits_ & 32) stream_->send_trailers(trailers);
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
  http::ResponseHead informational() const {
    http::ResponseHead head;
    head.status = 103;
    head.headers = response_.headers;
    return head;
  }
  void respond() {
    if (std::exchange(responded_, true)) return;
    stream_->send_head(response_, false);
    if (habits_ & 64) stream_->send_data(Slice::copy(std::string(40'000, 'x')), false);
  }
  void finish() {
    respond();
    stream_->send_data(Slice(), true);
    if (habits_ & 128) {
      stream_->reset(http::StreamError::kCancelled);
    } else {
      stream_->detach();
    }
    stream_ = nullptr;
    delete this;
  }

  http::ServerStream* stream_;
  http::ResponseHead response_;
  uint8_t habits_;
  bool responded_ = false;
  bool ended_ = false;
};

class Server final : public http::ServerCallbacks, public http::ServerConnection::Owner {
 public:
  explicit Server(uint8_t habits) : habits_(habits) {}
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head, bool end) override {
    ++requests_;
    if (head.method_text.empty()) std::abort();
    if (head.method != http::Method::kConnect && head.path.empty()) std::abort();
    for (const http::HeaderField& field : head.headers) {
      if (field.name_size == 0 || field.name_data[0] == ':') std::abort();
    }
    if (requests_ % 7 == 3) {
      stream.reset(http::StreamError::kRefused);
      return nullptr;
    }
    if (requests_ % 11 == 5) stream.close_after_response();
    if (requests_ % 5 == 4 || end) {
      http::ResponseHead response;
      response.status = 200;
      response.headers = http::HeaderMap(head.headers.arena());
      stream.send_head(response, false);
      stream.send_data(Slice::copy("x"), true);
      return nullptr;
    }
    return new Exchange(stream, head, habits_);
  }
  void on_refused(const http::ConnectionInfo&, int, std::string_view) override {}
  void on_closed(http::ServerConnection&) override { closed_ = true; }
  bool draining() const override { return false; }
  bool closed() const { return closed_; }

 private:
  uint8_t habits_;
  uint32_t requests_ = 0;
  bool closed_ = false;
};

void turn(event::Loop& loop, int fd) {
  loop.post([] {});
  loop.run_once(0);
  char drain[65536];
  while (recv(fd, drain, sizeof(drain), 0) > 0) {
  }
}

void run(const uint8_t* data, size_t size) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0) std::abort();
  event::Loop loop;
  Server server(data[0]);
  http::Http2Settings settings;
  settings.max_header_list_bytes = 4096;
  settings.linger_ms = 0;
  auto* connection =
      new http::Http2ServerConnection(loop, net::Stream(fds[0]), http::ConnectionInfo(), settings, server, server);
  connection->start(Slice());
  const size_t piece = data[1] ? size_t{data[1]} * 16 : 1;
  for (size_t at = 2; at < size && !server.closed(); at += piece) {
    if (send(fds[1], data + at, std::min(piece, size - at), MSG_NOSIGNAL) <= 0) break;
    turn(loop, fds[1]);
  }
  for (int i = 0; i < 3 && !server.closed(); ++i) turn(loop, fds[1]);
  if (!server.closed() && (data[0] & 3) == 3) connection->drain();
  turn(loop, fds[1]);
  close(fds[1]);
  for (int i = 0; i < 20 && !server.closed(); ++i) {
    loop.post([] {});
    loop.run_once(1);
  }
  if (!server.closed()) std::abort();
  loop.run_once(0);
  if (block_pool_stats().in_use_bytes != 0) std::abort();
}

void write_seed(const std::string& directory, const char* name, std::string_view bytes) {
  if (FILE* file = std::fopen((directory + "/" + name).c_str(), "wb")) {
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
  }
}

std::string frame(uint8_t type, uint8_t flags, uint8_t stream, std::string_view payload) {
  std::string out{'\0',
                  static_cast<char>(payload.size() >> 8),
                  static_cast<char>(payload.size()),
                  static_cast<char>(type),
                  static_cast<char>(flags),
                  '\0',
                  '\0',
                  '\0',
                  static_cast<char>(stream)};
  return out.append(payload);
}

void write_seeds(const std::string& directory) {
  const std::string preface = std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + frame(4, 0, 0, "") + frame(4, 1, 0, "");
  const std::string get(
      "\x82\x86\x84\x41\x01"
      "a",
      6);
  const std::string post(
      "\x83\x86\x84\x41\x01"
      "a",
      6);
  const std::string connect(
      "\x02\x07"
      "CONNECT\x86\x84\x41\x01"
      "a\x00\x09:protocol\x09websocket",
      34);
  for (int habits = 0; habits < 256; habits += 15) {
    const std::string start{static_cast<char>(habits), static_cast<char>(habits * 5)};
    const std::string id = std::to_string(habits);
    write_seed(directory, ("get" + id).c_str(), start + preface + frame(1, 5, 1, get) + frame(1, 5, 3, get));
    write_seed(directory, ("post" + id).c_str(),
               start + preface + frame(1, 4, 1, post) + frame(0, 0, 1, std::string(3000, 'x')) + frame(0, 1, 1, "end"));
    write_seed(directory, ("trailers" + id).c_str(),
               start + preface + frame(1, 4, 1, post) + frame(0, 0, 1, "x") +
                   frame(1, 5, 1, std::string("\x00\x01x\x01y", 5)));
    write_seed(directory, ("split" + id).c_str(),
               start + preface + frame(1, 1, 1, get.substr(0, 3)) + frame(9, 4, 1, get.substr(3)));
    write_seed(directory, ("connect" + id).c_str(),
               start + preface + frame(1, 4, 1, connect) + frame(0, 0, 1, "ping") + frame(8, 0, 1, {"\0\0\1\0", 4}));
    write_seed(directory, ("control" + id).c_str(),
               start + preface + frame(6, 0, 0, "12345678") + frame(2, 0, 3, {"\0\0\0\0\x10", 5}) +
                   frame(1, 4, 1, post) + frame(3, 0, 1, {"\0\0\0\x8", 4}) + frame(7, 0, 0, {"\0\0\0\0\0\0\0\0", 8}));
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc == 3 && std::strcmp((*argv)[1], "--seeds") == 0) {
    write_seeds((*argv)[2]);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 2) run(data, size);
  return 0;
}
