// Http1ClientConnection over a socketpair, against a server that is a script of bytes.

#include "http/http1_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace sluice::http {
namespace {

void turns(event::Loop& loop, int count = 6) {
  for (int i = 0; i < count; ++i) {
    loop.post([] {});
    loop.run_once(0);
  }
}

struct Request final : ClientHandler {
  Arena memory;
  ClientStream* stream = nullptr;
  int status = 0;
  std::string body, events, headers, detail;
  int resets = 0;
  StreamError error = StreamError::kNone;
  bool unprocessed = false, reused = false;
  bool detach_at_end = true;
  std::function<void(Request&)> on_head, on_body, on_end, on_drained_hook;

  ~Request() {
    if (stream) stream->reset(StreamError::kCancelled);
  }
  Arena& arena() override { return memory; }
  void on_informational(ResponseHead& head) override { events += "I" + std::to_string(head.status); }
  void on_response(ResponseHead& head, bool end) override {
    status = head.status;
    events += end ? "H!" : "H";
    for (const HeaderField& field : head.headers) {
      headers += std::string(field.name()) + "=" + std::string(field.value()) + ";";
    }
    if (on_head) on_head(*this);
    if (end) finish();
  }
  void on_data(Slice data, bool end) override {
    body += data.view();
    events += end ? "D!" : "D";
    if (on_body) on_body(*this);
    if (end) finish();
  }
  void on_trailers(const HeaderMap& map) override {
    events += "T!";
    for (const HeaderField& field : map) headers += std::string(field.name()) + "~" + std::string(field.value()) + ";";
    finish();
  }
  void on_drained() override {
    events += "d";
    if (on_drained_hook) on_drained_hook(*this);
  }
  void on_reset(StreamError reason, std::string_view text) override {
    ++resets;
    events += "R";
    error = reason;
    detail = text;
    unprocessed = stream && stream->certainly_unprocessed();
    reused = stream && stream->on_reused_connection();
    stream = nullptr;
  }
  void finish() {
    if (on_end) on_end(*this);
    if (detach_at_end) detach();
  }
  void detach() {
    if (stream) std::exchange(stream, nullptr)->detach();
  }
  void reset() {
    if (stream) std::exchange(stream, nullptr)->reset(StreamError::kCancelled);
  }
  // Without the drain marks, whose moment depends on the socket.
  std::string seen() const {
    std::string out;
    for (char c : events) {
      if (c != 'd') out += c;
    }
    return out;
  }
};

struct Harness : ClientConnection::Observer {
  event::Loop loop;
  Http1ClientSettings settings;
  Http1ClientConnection* connection = nullptr;
  int available = 0;
  bool closed = false;
  std::function<void()> on_available_hook;
  int fd = -1;
  std::string in;
  bool eof = false;
  struct Placeholder : event::IoHandler {
    void on_io(uint32_t) override {}
  } placeholder;

  void start() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
    start(fds[0], fds[1]);
  }
  void start(int ours, int theirs) {
    fd = theirs;
    ASSERT_TRUE(loop.add(ours, &placeholder).ok());
    connection = new Http1ClientConnection(loop, net::Stream(ours), settings, *this);
    ASSERT_TRUE(connection->start());
    turns(loop);
  }
  ~Harness() {
    if (connection && !closed) connection->close_idle();
    turns(loop);
    if (fd >= 0) close(fd);
  }
  void on_available(ClientConnection& which) override {
    EXPECT_EQ(&which, connection);
    ++available;
    if (on_available_hook) on_available_hook();
  }
  void on_draining(ClientConnection&) override {}
  void on_closed(ClientConnection&) override {
    EXPECT_FALSE(closed);
    closed = true;
  }

  std::unique_ptr<Request> request(std::string_view method = "GET", std::string_view path = "/", bool end = true,
                                   const std::function<void(RequestHead&)>& change = {}) {
    auto r = std::make_unique<Request>();
    r->stream = connection->open(*r);
    if (!r->stream) return nullptr;
    RequestHead head;
    head.headers = HeaderMap(&r->memory);
    head.method_text = method;
    head.method = parse_method(method);
    head.path = path;
    head.authority = "a";
    if (change) change(head);
    r->stream->send_head(head, end);
    turns(loop);
    return r;
  }
  void send(std::string_view bytes) {
    EXPECT_EQ(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    turns(loop);
  }
  std::string take() {
    turns(loop);
    char buffer[65536];
    ssize_t n;
    while ((n = ::recv(fd, buffer, sizeof(buffer), 0)) > 0) in.append(buffer, static_cast<size_t>(n));
    if (n == 0) eof = true;
    turns(loop);
    return std::exchange(in, {});
  }
};

const std::string kGet = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const std::string kOk = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

TEST(Http1Client, SendsAndReuses) {
  const size_t before = block_pool_stats().in_use_bytes;
  Harness h;
  h.start();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(h.connection->can_open());
    auto r = h.request();
    EXPECT_FALSE(h.connection->can_open());
    EXPECT_EQ(h.connection->open(*r), nullptr);
    EXPECT_EQ(h.connection->active_streams(), 1u);
    EXPECT_EQ(r->stream->on_reused_connection(), i > 0);
    EXPECT_EQ(h.take(), kGet);
    h.send(kOk);
    EXPECT_EQ(r->status, 200);
    EXPECT_EQ(r->body, "ok");
    EXPECT_EQ(h.available, i + 1);
  }
  EXPECT_EQ(h.connection->total_streams(), 3u);
  EXPECT_EQ(block_pool_stats().in_use_bytes, before) << "an idle connection holds no block";
}

// Responses of every kind, cut at every position.
TEST(Http1Client, ReadsTheSameHoweverTheBytesArrive) {
  const struct {
    std::string text;
    const char* method;
    int status;
    std::string body, headers;
    bool reusable;
  } cases[] = {
      {kOk, "GET", 200, "ok", "", true},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx: y\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "GET", 200,
       "abcde", "x=y;", true},
      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\ngrpc-status: 0\r\n\r\n", "POST", 200, "a",
       "grpc-status~0;", true},
      {"HTTP/1.1 103 Early\r\nlink: l\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + kOk, "GET", 200, "ok", "", true},
      {"HTTP/1.1 204 No\r\n\r\n", "GET", 204, "", "", true},
      {"HTTP/1.1 304 No\r\ncontent-length: 10\r\n\r\n", "GET", 304, "", "", true},
      {"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "HEAD", 200, "", "", true},
      {"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "GET", 200, "", "", true},
      {"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "GET", 200, "ok", "", false},
      {"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "GET", 200, "ok", "", false},
  };
  for (const auto& c : cases) {
    for (size_t cut = 0; cut < c.text.size(); ++cut) {
      SCOPED_TRACE(c.text + " cut at " + std::to_string(cut));
      Harness h;
      h.start();
      auto r = h.request(c.method);
      if (cut) h.send(std::string_view(c.text).substr(0, cut));
      ASSERT_NE(r->stream, nullptr);
      h.send(std::string_view(c.text).substr(cut));
      ASSERT_EQ(r->stream, nullptr) << "has ended";
      ASSERT_EQ(r->resets, 0);
      ASSERT_EQ(r->status, c.status);
      ASSERT_EQ(r->body, c.body);
      ASSERT_EQ(r->headers, c.headers);
      ASSERT_EQ(h.closed, !c.reusable);
    }
  }
}

TEST(Http1Client, BodyUntilTheEndOfTheConnection) {
  Harness h;
  h.start();
  auto r = h.request();
  h.send("HTTP/1.1 200 OK\r\n\r\nabc");
  h.send("def");
  EXPECT_EQ(r->body, "abcdef");
  EXPECT_NE(r->stream, nullptr);
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  EXPECT_EQ(r->seen(), "HDDD!");
  EXPECT_TRUE(h.closed);
}

TEST(Http1Client, BrokenResponses) {
  const struct {
    std::string text;
    bool end;  // the server closes after it
    StreamError error;
  } cases[] = {
      {"", true, StreamError::kConnectionClosed},
      {"HTTP/1.1 200 OK\r\n", true, StreamError::kConnectionClosed},
      {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", true, StreamError::kConnectionClosed},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", true, StreamError::kConnectionClosed},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", true, StreamError::kConnectionClosed},
      {"garbage\r\n\r\n", false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\n\n", false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\nx : y\r\n\r\n", false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", false, StreamError::kProtocol},
      {"HTTP/1.1 101 Switching\r\n\r\n", false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx\n", false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\ncontent-length: 1\r\n\r\n", false,
       StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\nx: " + std::string(6000, 'x'), false, StreamError::kProtocol},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: " + std::string(6000, 'x'), false,
       StreamError::kProtocol},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text.substr(0, 100));
    Harness h;
    h.settings.max_head_bytes = 4096;
    h.start();
    auto r = h.request();
    h.take();
    if (!c.text.empty()) h.send(c.text);
    if (c.end) shutdown(h.fd, SHUT_WR);
    turns(h.loop);
    EXPECT_EQ(r->resets, 1);
    EXPECT_EQ(r->error, c.error);
    EXPECT_FALSE(r->detail.empty());
    EXPECT_FALSE(r->unprocessed);
    EXPECT_TRUE(h.closed);
  }
}

TEST(Http1Client, EndlessInformationalHeadsAreBounded) {
  Harness h;
  h.start();
  auto r = h.request();
  for (int i = 0; i < 2000 && !h.closed; ++i) {
    h.send("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
  }
  EXPECT_TRUE(h.closed);
  EXPECT_EQ(r->error, StreamError::kProtocol);
}

TEST(Http1Client, RequestBodies) {
  Harness h;
  h.start();
  auto r = h.request("POST", "/p", false, [](RequestHead& head) { head.content_length = 4; });
  r->stream->send_data(Slice::copy("ab"), false);
  r->stream->send_data(Slice::copy("cd"), true);
  EXPECT_EQ(h.take(), "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nabcd");
  h.send(kOk);
  EXPECT_EQ(h.available, 1);

  r = h.request("POST", "/p", false);
  r->stream->send_data(Slice::copy("ab"), false);
  r->stream->send_data(Slice(), false);
  EXPECT_EQ(h.take(), "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
  r->stream->send_data(Slice(), true);
  EXPECT_EQ(h.take(), "0\r\n\r\n");
  h.send(kOk);
  EXPECT_EQ(h.available, 2);

  r = h.request("POST", "/p", false);
  HeaderMap trailers(&r->memory);
  trailers.add("t", std::string_view("u"));
  r->stream->send_data(Slice::copy("x"), false);
  r->stream->send_trailers(trailers);
  EXPECT_EQ(h.take(), "POST /p HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nt: u\r\n\r\n");
  h.send(kOk);
  EXPECT_EQ(h.available, 3);
}

TEST(Http1Client, AnswerBeforeTheBodyIsSent) {
  Harness h;
  h.start();
  auto r = h.request("POST", "/p", false);
  r->stream->send_data(Slice::copy("x"), false);
  h.send("HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(r->status, 413);
  EXPECT_EQ(r->resets, 0);
  EXPECT_TRUE(h.closed) << "the rest of the request can't be taken back";
}

TEST(Http1Client, ServerThatStopsReadingAndAnswers) {
  Harness h;
  h.start();
  auto r = h.request("POST", "/p", false);
  r->stream->send_data(Slice::copy(std::string(3'000'000, 'x')), false);
  turns(h.loop);
  EXPECT_GT(r->stream->buffered(), kBufferLow);
  const std::string answer = "HTTP/1.1 413 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
  ASSERT_EQ(::send(h.fd, answer.data(), answer.size(), 0), static_cast<ssize_t>(answer.size()));
  close(h.fd);
  h.fd = -1;
  turns(h.loop);
  EXPECT_TRUE(h.closed);
  // Either the answer came through, or the break was told; never silence.
  EXPECT_TRUE(r->status == 413 || r->resets == 1);
}

TEST(Http1Client, PauseAndResume) {
  Harness h;
  h.start();
  auto r = h.request();
  r->on_head = [](Request& x) { x.stream->pause(); };
  h.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc");
  h.send("def");
  EXPECT_EQ(r->seen(), "H") << "heads come, data waits";
  r->on_body = [](Request& x) {
    if (x.stream) x.stream->pause();
  };
  r->stream->resume();
  turns(h.loop);
  EXPECT_EQ(r->body, "abc");
  r->stream->resume();
  turns(h.loop);
  EXPECT_EQ(r->body, "abcdef");
  EXPECT_EQ(h.available, 1);
  EXPECT_FALSE(h.closed);
}

TEST(Http1Client, DrainedIsToldBelowTheLowMark) {
  Harness h;
  h.start();
  auto r = h.request("PUT", "/", false, [](RequestHead& head) { head.content_length = 2'000'000; });
  const size_t before = std::count(r->events.begin(), r->events.end(), 'd');
  r->stream->send_data(Slice::copy(std::string(2'000'000, 'x')), true);
  turns(h.loop);
  EXPECT_EQ(std::count(r->events.begin(), r->events.end(), 'd'), static_cast<ptrdiff_t>(before));
  size_t got = 0;
  for (int i = 0; i < 100 && got < 2'000'000; ++i) got += h.take().size();
  EXPECT_EQ(got, 2'000'000 + std::string("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000000\r\n\r\n").size());
  EXPECT_EQ(std::count(r->events.begin(), r->events.end(), 'd'), static_cast<ptrdiff_t>(before) + 1);
}

TEST(Http1Client, Tunnel) {
  Harness h;
  h.start();
  auto r = h.request("GET", "/ws", true, [](RequestHead& head) { head.upgrade = "echo"; });
  EXPECT_EQ(h.take(), "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
  h.send("HTTP/1.1 101 Switching\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nhello");
  EXPECT_EQ(r->status, 101);
  EXPECT_EQ(r->body, "hello");
  r->stream->send_data(Slice::copy("raw"), false);
  EXPECT_EQ(h.take(), "raw");
  r->stream->send_data(Slice::copy("end"), true);
  EXPECT_EQ(h.take(), "end");
  EXPECT_TRUE(h.eof) << "the end of our direction is a half-close";
  h.send("more");
  EXPECT_EQ(r->body, "hellomore");
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  EXPECT_EQ(r->events.substr(r->events.size() - 2), "D!");
  EXPECT_TRUE(h.closed);

  Harness refused;
  refused.start();
  auto q = refused.request("GET", "/ws", true, [](RequestHead& head) { head.upgrade = "echo"; });
  refused.send(kOk);
  EXPECT_EQ(q->body, "ok");
}

// --- Idle connections ---

TEST(Http1Client, IdleConnectionClosesWhenTheServerDoes) {
  for (const char* what : {"end", "bytes", "late answer"}) {
    SCOPED_TRACE(what);
    Harness h;
    h.start();
    auto r = h.request();
    h.send(kOk);
    ASSERT_FALSE(h.closed);
    EXPECT_FALSE(h.connection->is_stale());
    if (std::string(what) == "end") {
      shutdown(h.fd, SHUT_WR);
    } else {
      ASSERT_GT(::send(h.fd, "HTTP/1.1 408 x\r\n", 16, 0), 0);
    }
    EXPECT_TRUE(h.connection->is_stale()) << "before the loop has seen it";
    turns(h.loop);
    EXPECT_TRUE(h.closed);
  }
}

TEST(Http1Client, BytesBehindTheResponseMakeItUseless) {
  Harness h;
  h.start();
  auto r = h.request();
  h.send(kOk + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  EXPECT_EQ(r->body, "ok");
  EXPECT_TRUE(h.closed) << "a response nobody asked for must not answer the next request";
}

TEST(Http1Client, DrainEndsAfterTheStream) {
  Harness h;
  h.start();
  auto r = h.request();
  h.connection->drain();
  EXPECT_FALSE(h.closed);
  EXPECT_FALSE(h.connection->can_open());
  h.send(kOk);
  EXPECT_EQ(r->body, "ok");
  EXPECT_EQ(h.available, 0);
  EXPECT_TRUE(h.closed);
  Harness idle;
  idle.start();
  idle.connection->drain();
  EXPECT_TRUE(idle.closed);
}

// The next request is opened from inside on_available, as the pool does.
TEST(Http1Client, OpensFromInsideAvailable) {
  Harness h;
  h.start();
  std::unique_ptr<Request> second;
  h.on_available_hook = [&] {
    h.on_available_hook = nullptr;
    second = h.request("GET", "/second");
  };
  auto r = h.request();
  EXPECT_EQ(h.take(), kGet);
  h.send(kOk);
  ASSERT_TRUE(second);
  EXPECT_EQ(h.take(), "GET /second HTTP/1.1\r\nhost: a\r\n\r\n");
  h.send(kOk);
  EXPECT_EQ(second->body, "ok");
}

// --- Handlers that end the stream in every callback ---

TEST(Http1Client, ResetOrDetachInEveryCallback) {
  for (const char* where : {"head", "body", "end", "drained", "now"}) {
    for (const bool reset : {true, false}) {
      SCOPED_TRACE(std::string(where) + (reset ? " reset" : " detach"));
      Harness h;
      h.start();
      auto r = h.request("POST", "/", false);
      const auto act = [reset](Request& x) { reset ? x.reset() : x.detach(); };
      const std::string place = where;
      if (place == "head") r->on_head = act;
      if (place == "body") r->on_body = act;
      if (place == "end") r->on_end = act;
      if (place == "drained") r->on_drained_hook = act;
      if (place == "now") act(*r);
      if (r->stream) r->stream->send_data(Slice::copy("x"), true);
      turns(h.loop);
      if (!h.closed) {
        h.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\nt: u\r\n\r\n");
      }
      turns(h.loop);
      EXPECT_EQ(r->stream, nullptr);
      EXPECT_EQ(r->resets, 0);
      EXPECT_EQ(h.closed, place != "end" || reset);
      EXPECT_EQ(h.available, place == "end" && !reset ? 1 : 0);
    }
  }
}

// --- Whether the server can have seen the request ---

struct TcpPair {
  TcpPair() {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 1) != 0) std::abort();
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    ours = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(ours, reinterpret_cast<sockaddr*>(&address), length) != 0) std::abort();
    theirs = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    set_nonblocking(ours);
    close(listener);
  }
  static void set_nonblocking(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  }
  int ours, theirs;
};

TEST(Http1Client, CertainlyUnprocessedOnlyWhenNothingWasAcknowledged) {
  // The server's kernel takes the bytes: it may have seen the request.
  {
    TcpPair pair;
    Harness h;
    h.start(pair.ours, pair.theirs);
    EXPECT_EQ(h.connection->local_address().is_ipv4(), true);
    auto r = h.request();
    usleep(2000);
    shutdown(h.fd, SHUT_WR);
    turns(h.loop);
    EXPECT_EQ(r->resets, 1);
    EXPECT_FALSE(r->unprocessed);
  }
  // The connection was closed with a RST before the request left: nothing can have been seen.
  {
    TcpPair pair;
    Harness h;
    h.start(pair.ours, pair.theirs);
    auto first = h.request();
    EXPECT_EQ(h.take(), kGet);
    h.send(kOk);
    ASSERT_EQ(first->body, "ok");
    const linger hard{1, 0};
    setsockopt(h.fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(h.fd);
    h.fd = -1;
    usleep(2000);
    EXPECT_TRUE(h.connection->is_stale());
    auto r = std::make_unique<Request>();
    r->stream = h.connection->open(*r);
    ASSERT_NE(r->stream, nullptr);
    RequestHead head;
    head.headers = HeaderMap(&r->memory);
    head.method_text = "POST";
    head.method = Method::kPost;
    head.path = "/";
    head.authority = "a";
    r->stream->send_head(head, true);
    turns(h.loop);
    EXPECT_EQ(r->resets, 1);
    EXPECT_TRUE(r->reused);
    EXPECT_TRUE(r->unprocessed);
  }
}

}  // namespace
}  // namespace sluice::http
