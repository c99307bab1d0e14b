#pragma once
// For tests of the HTTP/2 codec: a recording server and client, and a peer that speaks raw frames.

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "event/loop.h"
#include "http/http2_client.h"
#include "http/http2_server.h"

namespace sluice::http::test {

struct SocketPair {
  SocketPair() {
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) != 0) std::abort();
  }
  int fd[2];
};

// Runs turns until nothing happens any more. The posted function makes the loop run what the test
// itself has deferred.
inline void pump(event::Loop& loop, int turns = 60) {
  for (int i = 0; i < turns; ++i) {
    loop.post([] {});
    loop.run_once(0);
  }
}
// Runs for `ms` milliseconds of the loop's clock.
inline void pump_ms(event::Loop& loop, uint64_t ms) {
  const uint64_t until = loop.now_ms() + ms;
  while (loop.now_ms() < until) loop.run_once(5);
  pump(loop);
}

// One request on the server side. What happened is appended to `events`.
struct ServerExchange final : StreamHandler {
  ServerStream* stream = nullptr;
  RequestHead* head = nullptr;
  std::string method, path, authority, scheme, upgrade;
  std::string body;
  std::string events;
  std::string trailers;
  size_t received = 0;
  bool keep_body = true;
  bool keep_slices = false;
  SliceQueue slices;
  bool ended = false;
  int resets = 0;
  StreamError error = StreamError::kNone;
  std::vector<int>* refused = nullptr;  // of the peer: statuses that the codec answered with
  std::function<void(ServerExchange&)> data_hook, end_hook, drained_hook, reset_hook;

  void on_data(Slice data, bool end) override {
    received += data.size();
    if (keep_body) body.append(data.view());
    if (keep_slices) slices.push_back(std::move(data));
    events += end ? "D!" : "D";
    if (end) ended = true;
    if (data_hook) data_hook(*this);
    if (end && end_hook) end_hook(*this);
  }
  void on_trailers(const HeaderMap& map) override {
    for (const HeaderField& field : map) trailers += std::string(field.name()) + "=" + std::string(field.value()) + ";";
    events += "T!";
    ended = true;
    if (end_hook) end_hook(*this);
  }
  void on_drained() override {
    if (drained_hook) drained_hook(*this);
  }
  void on_reset(StreamError reason, std::string_view) override {
    if (stream && stream->refused_status()) refused->push_back(stream->refused_status());
    ++resets;
    error = reason;
    events += "R";
    stream = nullptr;
    if (reset_hook) reset_hook(*this);
  }

  void answer(int status, std::string_view text) {
    HeaderMap headers(head->headers.arena());
    headers.add(HeaderId::kContentType, "text/plain");
    ResponseHead response;
    response.status = status;
    response.content_length = static_cast<int64_t>(text.size());
    response.headers = headers;
    stream->send_head(response, text.empty());
    if (!text.empty()) stream->send_data(Slice::copy(text), true);
  }
  void finish() { std::exchange(stream, nullptr)->detach(); }
};

struct TestServer final : ServerCallbacks, ServerConnection::Owner {
  event::Loop& loop;
  Http2Settings settings;
  Http2ServerConnection* connection = nullptr;
  std::vector<std::unique_ptr<ServerExchange>> exchanges;
  std::function<void(ServerExchange&, RequestHead&, bool end)> request_hook;
  std::vector<int> refused;
  bool closed = false;

  explicit TestServer(event::Loop& loop) : loop(loop) {}

  void start(int fd) {
    connection = new Http2ServerConnection(loop, net::Stream(fd), ConnectionInfo(), settings, *this, *this);
    connection->start(Slice());
  }

  StreamHandler* on_request(ServerStream& stream, RequestHead& head, bool end) override {
    exchanges.push_back(std::make_unique<ServerExchange>());
    ServerExchange& exchange = *exchanges.back();
    exchange.stream = &stream;
    exchange.refused = &refused;
    exchange.head = &head;
    exchange.method = head.method_text;
    exchange.path = head.path;
    exchange.authority = head.authority;
    exchange.scheme = head.scheme;
    exchange.upgrade = head.upgrade;
    exchange.ended = end;
    exchange.events = end ? "H!" : "H";
    if (request_hook) {
      request_hook(exchange, head, end);
    } else if (end) {
      exchange.answer(200, "hello");
    } else {
      exchange.end_hook = [](ServerExchange& e) { e.answer(200, "got it"); };
    }
    return exchange.stream ? &exchange : nullptr;
  }
  void on_refused(const ConnectionInfo&, int status, std::string_view) override { refused.push_back(status); }
  void on_closed(ServerConnection&) override {
    closed = true;
    connection = nullptr;
  }
  bool draining() const override { return false; }
  // Exchanges that are complete are not told of the connection's end: it waits for them.
  void let_go() {
    for (const auto& exchange : exchanges) {
      if (exchange->stream) exchange->finish();
    }
  }
};

struct ClientExchange final : ClientHandler {
  Arena memory;
  ClientStream* stream = nullptr;
  int status = 0;
  std::vector<int> informational;
  ResponseHead* head = nullptr;
  std::string body;
  std::string trailers;
  std::string events;
  size_t received = 0;
  bool keep_body = true;
  bool ended = false;
  int resets = 0;
  StreamError error = StreamError::kNone;
  bool unprocessed = false;
  std::function<void(ClientExchange&)> response_hook, data_hook, end_hook, drained_hook, reset_hook;

  ~ClientExchange() {
    if (stream) stream->reset(StreamError::kCancelled);
  }

  Arena& arena() override { return memory; }
  void on_informational(ResponseHead& head) override { informational.push_back(head.status); }
  void on_response(ResponseHead& response, bool end) override {
    status = response.status;
    head = &response;
    events += end ? "H!" : "H";
    if (response_hook) response_hook(*this);
    if (end) finish();
  }
  void on_data(Slice data, bool end) override {
    received += data.size();
    if (keep_body) body.append(data.view());
    events += end ? "D!" : "D";
    if (data_hook) data_hook(*this);
    if (end) finish();
  }
  void on_trailers(const HeaderMap& map) override {
    for (const HeaderField& field : map) trailers += std::string(field.name()) + "=" + std::string(field.value()) + ";";
    events += "T!";
    finish();
  }
  void on_drained() override {
    if (drained_hook) drained_hook(*this);
  }
  void on_reset(StreamError reason, std::string_view) override {
    ++resets;
    error = reason;
    unprocessed = stream && stream->certainly_unprocessed();
    stream = nullptr;
    events += "R";
    if (reset_hook) reset_hook(*this);
  }
  void finish() {
    ended = true;
    if (end_hook) end_hook(*this);
  }
  void detach() {
    if (stream) std::exchange(stream, nullptr)->detach();
  }
};

struct TestClient final : ClientConnection::Observer {
  event::Loop& loop;
  Http2Settings settings = Http2Settings::for_client();
  Http2ClientConnection* connection = nullptr;
  int available = 0;
  int draining = 0;
  bool closed = false;

  explicit TestClient(event::Loop& loop) : loop(loop) {}
  void start(int fd) {
    connection = new Http2ClientConnection(loop, net::Stream(fd), settings, *this);
    connection->start(false);
  }
  void on_available(ClientConnection&) override { ++available; }
  void on_draining(ClientConnection&) override { ++draining; }
  void on_closed(ClientConnection&) override {
    closed = true;
    connection = nullptr;
  }

  // Opens a stream and sends a head; null if none can be opened.
  std::unique_ptr<ClientExchange> request(std::string_view method, std::string_view path, bool end = true,
                                          std::function<void(RequestHead&)> change = {}) {
    auto exchange = std::make_unique<ClientExchange>();
    exchange->stream = connection->open(*exchange);
    if (!exchange->stream) return nullptr;
    RequestHead head;
    head.headers = HeaderMap(&exchange->memory);
    head.method = parse_method(method);
    head.method_text = method;
    head.path = path;
    head.scheme = "http";
    head.authority = "example.com";
    if (change) change(head);
    exchange->stream->send_head(head, end);
    return exchange;
  }
};

// A client and a server on one loop.
struct Connected {
  event::Loop loop;
  TestServer server{loop};
  TestClient client{loop};

  void start() {
    SocketPair pair;
    server.start(pair.fd[0]);
    client.start(pair.fd[1]);
    pump(loop);
  }
  ~Connected() {
    if (client.connection) client.connection->close_now();
    pump(loop);
    if (server.connection) server.connection->close_now();
    server.let_go();
    pump(loop);
  }
};

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Frame {
  uint8_t type;
  uint8_t flags;
  int32_t stream;
  std::string payload;
  uint32_t code() const {
    const size_t at = type == NGHTTP2_GOAWAY ? 4 : 0;
    uint32_t value = 0;
    for (size_t i = at; i < at + 4 && i < payload.size(); ++i) value = value << 8 | static_cast<uint8_t>(payload[i]);
    return value;
  }
};

// Writes frames byte by byte as told, and reads what comes back.
struct RawPeer {
  event::Loop& loop;
  int fd;
  std::string in;
  bool eof = false;
  std::vector<Frame> frames;

  RawPeer(event::Loop& loop, int fd) : loop(loop), fd(fd) {}
  ~RawPeer() { close(fd); }

  static std::string frame(uint8_t type, uint8_t flags, int32_t stream, std::string_view payload) {
    std::string out;
    out += static_cast<char>(payload.size() >> 16);
    out += static_cast<char>(payload.size() >> 8);
    out += static_cast<char>(payload.size());
    out += static_cast<char>(type);
    out += static_cast<char>(flags);
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(stream >> shift);
    out += payload;
    return out;
  }
  static std::string u32(uint32_t value) {
    std::string out;
    for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
    return out;
  }
  static std::string hpack_string(std::string_view text) {
    std::string out;
    if (text.size() < 127) {
      out += static_cast<char>(text.size());
    } else {
      out += '\x7f';
      size_t rest = text.size() - 127;
      while (rest >= 128) {
        out += static_cast<char>(rest % 128 + 128);
        rest /= 128;
      }
      out += static_cast<char>(rest);
    }
    return out += text;
  }
  // Literal fields without indexing.
  static std::string block(const Fields& fields) {
    std::string out;
    for (const auto& [name, value] : fields) out += '\0' + hpack_string(name) + hpack_string(value);
    return out;
  }
  static Fields get(const Fields& more = {}) {
    Fields fields{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "example.com"}};
    fields.insert(fields.end(), more.begin(), more.end());
    return fields;
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) {
        bytes.remove_prefix(static_cast<size_t>(n));
      } else if (errno != EAGAIN) {
        return;
      }
      if (!bytes.empty()) loop.run_once(0);
    }
  }
  void preface() { send(std::string(NGHTTP2_CLIENT_MAGIC) + frame(NGHTTP2_SETTINGS, 0, 0, "")); }
  void headers(int32_t stream, const Fields& fields, bool end = true) {
    send(frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS | (end ? NGHTTP2_FLAG_END_STREAM : 0), stream, block(fields)));
  }
  void data(int32_t stream, std::string_view bytes, bool end = false) {
    send(frame(NGHTTP2_DATA, end ? NGHTTP2_FLAG_END_STREAM : 0, stream, bytes));
  }

  // Runs the loop and takes in what was sent to us.
  void read(int turns = 30) {
    for (int i = 0; i < turns; ++i) {
      loop.post([] {});
      loop.run_once(0);
      char buffer[65536];
      ssize_t n;
      while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0) in.append(buffer, static_cast<size_t>(n));
      if (n == 0) eof = true;
    }
    while (in.size() >= 9) {
      const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(in[i])); };
      const size_t length = byte(0) << 16 | byte(1) << 8 | byte(2);
      if (in.size() < 9 + length) break;
      frames.push_back({static_cast<uint8_t>(in[3]), static_cast<uint8_t>(in[4]),
                        static_cast<int32_t>((byte(5) & 0x7f) << 24 | byte(6) << 16 | byte(7) << 8 | byte(8)),
                        in.substr(9, length)});
      in.erase(0, 9 + length);
    }
  }
  const Frame* find(uint8_t type, int32_t stream = -1) const {
    for (const Frame& frame : frames) {
      if (frame.type == type && (stream < 0 || frame.stream == stream)) return &frame;
    }
    return nullptr;
  }
  size_t count(uint8_t type, int32_t stream = -1) const {
    size_t n = 0;
    for (const Frame& frame : frames) n += frame.type == type && (stream < 0 || frame.stream == stream);
    return n;
  }
  // The error code of the (first) GOAWAY, or -1.
  int64_t goaway() const {
    const Frame* frame = find(NGHTTP2_GOAWAY);
    return frame ? int64_t{frame->code()} : -1;
  }
  int64_t reset(int32_t stream) const {
    const Frame* frame = find(NGHTTP2_RST_STREAM, stream);
    return frame ? int64_t{frame->code()} : -1;
  }
  // The status of a response whose first field is a literal or indexed :status, decoded from
  // scratch.
  static std::string status(const Frame& frame) {
    nghttp2_hd_inflater* inflater = nullptr;
    nghttp2_hd_inflate_new(&inflater);
    std::string value;
    auto* p = reinterpret_cast<uint8_t*>(const_cast<char*>(frame.payload.data()));
    nghttp2_nv nv;
    int flags = 0;
    const ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, p, frame.payload.size(), 1);
    if (n > 0 && (flags & NGHTTP2_HD_INFLATE_EMIT)) value.assign(reinterpret_cast<char*>(nv.value), nv.valuelen);
    nghttp2_hd_inflate_del(inflater);
    return value;
  }
};

// A server and a raw client.
struct RawClient {
  event::Loop loop;
  TestServer server{loop};
  std::unique_ptr<RawPeer> peer;

  void start(bool preface = true) {
    SocketPair pair;
    server.start(pair.fd[0]);
    peer = std::make_unique<RawPeer>(loop, pair.fd[1]);
    if (preface) {
      peer->preface();
      peer->read();
    }
  }
  ~RawClient() {
    peer.reset();
    pump(loop);
    if (server.connection) server.connection->close_now();
    server.let_go();
    pump(loop);
  }
};

// A client and a raw server.
struct RawServer {
  event::Loop loop;
  TestClient client{loop};
  std::unique_ptr<RawPeer> peer;

  void start() {
    SocketPair pair;
    client.start(pair.fd[1]);
    peer = std::make_unique<RawPeer>(loop, pair.fd[0]);
    peer->send(RawPeer::frame(NGHTTP2_SETTINGS, 0, 0, ""));
    peer->in.clear();
    pump(loop);
    char preface[24];
    if (recv(peer->fd, preface, sizeof(preface), 0) != sizeof(preface)) std::abort();
    peer->read();
  }
  ~RawServer() {
    if (client.connection) client.connection->close_now();
    pump(loop);
    peer.reset();
  }
};

}  // namespace sluice::http::test
