// Http1ServerConnection over a socketpair, against a client that writes bytes as the test tells it.

#include "http/http1_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

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

// One request. Echoes the body when it is complete, unless a hook does something else.
struct Exchange final : StreamHandler {
  ServerStream* stream = nullptr;
  RequestHead* head = nullptr;
  Arena* arena = nullptr;
  std::string method, path, upgrade, body, trailers, events;
  int resets = 0;
  StreamError error = StreamError::kNone;
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
    fd = fds[1];
    closed = eof = was_reset = false;
    in.clear();
    exchanges.clear();
    refused.clear();
    connection = new Http1ServerConnection(loop, net::Stream(fds[0]), ConnectionInfo(), settings, *this, *this,
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

const std::string kGet = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
std::string post(size_t n) {
  return "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: " + std::to_string(n) + "\r\n\r\n";
}
const std::string kChunked = "POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
std::string ok(std::string_view body, std::string_view more = {}) {
  return "HTTP/1.1 200 OK\r\ncontent-length: " + std::to_string(body.size()) + "\r\n" + std::string(more) + "\r\n" +
         std::string(body);
}

TEST(Http1Server, AnswersAndKeepsTheConnection) {
  Harness h;
  h.start();
  for (int i = 0; i < 3; ++i) {
    h.send(kGet);
    EXPECT_EQ(h.take(), ok("/x"));
  }
  EXPECT_EQ(h.exchanges.size(), 3u);
  EXPECT_FALSE(h.closed);
  h.send("GET /y HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(h.take(), ok("/y", "connection: close\r\n"));
  EXPECT_TRUE(h.eof);
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, IdleConnectionHoldsNoBlock) {
  const size_t before = block_pool_stats().in_use_bytes;
  Harness h;
  h.start();
  h.send(kGet + post(5) + "hello");
  EXPECT_NE(h.take(), "");
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
  h.send("GET /");  // the beginning of a head: a small block only
  EXPECT_LE(block_pool_stats().in_use_bytes, before + kSmallBlock + Block::kHeaderSize);
  EXPECT_GT(block_pool_stats().in_use_bytes, before);
}

// A pipeline of every kind of body, cut at every position: what is answered must not depend on the cut.
TEST(Http1Server, PipelineAnswersTheSameHoweverItArrives) {
  const std::string text = "\r\n" + kGet + post(5) + "hello" + kChunked +
                           "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n" +
                           "POST /e HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n" + kChunked + "0\r\n\r\n" + kGet;
  const std::string expected = ok("/x") + ok("hello|") + ok("abcde|t=u;") + ok("/e") + ok("|") + ok("/x");
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    Harness h;
    h.start();
    if (cut) h.send(std::string_view(text).substr(0, cut));
    if (cut < text.size()) h.send(std::string_view(text).substr(cut));
    ASSERT_EQ(h.take(), expected) << "cut at " << cut;
    ASSERT_EQ(h.exchanges.size(), 6u);
    ASSERT_FALSE(h.closed);
  }
  Harness h;
  h.start();
  for (char c : text) h.send({&c, 1});
  EXPECT_EQ(h.take(), expected);
}

TEST(Http1Server, RefusesAndCloses) {
  const struct {
    std::string text;
    int status;
  } cases[] = {
      {"GET / HTTP/1.1\n", 400},
      {" GET / HTTP/1.1\r\n", 400},
      {"\r\n\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/3.0\r\nhost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: " + std::string(5000, 'x'), 431},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: " + std::string(5000, 'x') + "\r\n\r\n", 431},
      {"GET / HTTP/1.1\r\nhost: a\r\nx:1\r\nx:2\r\nx:3\r\nx:4\r\nx:5\r\n\r\n", 431},
      {"POST / HTTP/1.1\r\nhost: a\r\nexpect: x\r\ncontent-length: 1\r\n\r\n", 417},
      {kChunked + "zz\r\n", 400},
      {kChunked + "0\r\nx\n", 400},
      {kChunked + "0\r\nhost: b\r\n\r\n", 400},
      {kChunked + "0\r\nx: " + std::string(5000, 'x'), 431},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text.substr(0, 80));
    Harness h;
    h.settings.max_head_bytes = 4096;
    h.settings.max_fields = 5;
    h.start();
    h.send(c.text);
    const std::string got = h.take();
    EXPECT_EQ(got.substr(0, 13), "HTTP/1.1 " + std::to_string(c.status) + " ");
    EXPECT_NE(got.find("connection: close\r\n"), std::string::npos);
    EXPECT_TRUE(h.eof) << "our end is told";
    EXPECT_FALSE(h.was_reset);
    EXPECT_EQ(h.refused, std::vector<int>{c.status});
    for (const auto& e : h.exchanges) EXPECT_EQ(e->resets, 1);
    // What the client still sends is swallowed, so that it can read the answer.
    h.send(std::string(10'000, 'x'));
    EXPECT_FALSE(h.was_reset);
    shutdown(h.fd, SHUT_WR);
    turns(h.loop);
    EXPECT_TRUE(h.closed);
  }
}

TEST(Http1Server, ClosesOnBytesThatAreNoHttp) {
  Harness h;
  h.start();
  h.send("USER a b\r\n\r\n");
  EXPECT_EQ(h.take(), "");
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, PausedBodyWaits) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) { e.stream->pause(); };
  h.start();
  h.send(post(10) + "01234");
  h.send("56789");
  EXPECT_EQ(h.last().events, "H");
  h.last().stream->resume();
  turns(h.loop);
  EXPECT_EQ(h.last().body, "0123456789");
  EXPECT_EQ(h.take(), ok("0123456789|"));
  // Pausing inside on_data: nothing more than that callback's data comes.
  h.on_request_hook = [](Exchange& e, bool) {
    e.on_data_hook = [](Exchange& x) {
      if (x.stream) x.stream->pause();
    };
  };
  h.send(kChunked + "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
  EXPECT_EQ(h.last().body, "a");
  h.last().stream->resume();
  turns(h.loop);
  EXPECT_EQ(h.last().body, "ab");
  h.last().stream->resume();
  turns(h.loop);
  EXPECT_EQ(h.take(), ok("ab|"));
}

TEST(Http1Server, EarlyAnswerReadsAShortRestAndGoesOn) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) { e.answer(413, ""); };
  h.settings.max_discard_bytes = 1000;
  h.start();
  h.send(post(1000) + std::string(100, 'x'));
  EXPECT_EQ(h.take(), "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n");
  h.send(std::string(900, 'x') + kGet);
  EXPECT_EQ(h.exchanges.size(), 2u);
  EXPECT_EQ(h.last().path, "/x");
  EXPECT_FALSE(h.closed);
}

TEST(Http1Server, EarlyAnswerClosesWhenTheRestIsLong) {
  for (const std::string& request : {post(1001), kChunked}) {
    Harness h;
    h.on_request_hook = [](Exchange& e, bool) { e.answer(413, ""); };
    h.settings.max_discard_bytes = 1000;
    h.start();
    h.send(request + std::string(100, 'x'));
    EXPECT_EQ(h.take(), "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    EXPECT_TRUE(h.eof);
    h.send(std::string(5000, 'x'));
    EXPECT_FALSE(h.was_reset) << "it reads on, so that the answer is not lost to a RST";
    EXPECT_EQ(h.exchanges.size(), 1u);
  }
}

// The head is sent before it is known that the response ends early: then the rest may turn out to be too long.
TEST(Http1Server, RestThatTurnsOutTooLongIsStillReadForAWhile) {
  Harness h;
  h.settings.max_discard_bytes = 1000;
  h.on_request_hook = [](Exchange& e, bool) {
    e.send_head(200, 2, false);
    e.stream->send_data(Slice::copy("no"), true);
    e.detach();
  };
  h.start();
  h.send(post(100'000) + std::string(100, 'x'));
  h.send(std::string(5000, 'x'));
  h.send(std::string(5000, 'x'));
  EXPECT_EQ(h.take(), ok("no"));
  EXPECT_TRUE(h.eof);
  EXPECT_FALSE(h.was_reset) << "a RST can destroy the answer on its way";
  EXPECT_EQ(h.exchanges.size(), 1u);
}

TEST(Http1Server, MalformedRestOfAnAnsweredRequestIsNotAnsweredAgain) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    e.send_head(200, 2, false);
    e.stream->send_data(Slice::copy("ok"), true);
    e.detach();
  };
  h.start();
  h.send(kChunked);
  EXPECT_EQ(h.take(), ok("ok"));
  h.send("zz\r\n");
  EXPECT_EQ(h.take(), "");
  EXPECT_TRUE(h.eof);
}

TEST(Http1Server, HalfClosedClientGetsItsAnswer) {
  Harness h;
  h.on_request_hook = [](Exchange&, bool) {};
  h.start();
  h.send(kGet);
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  ASSERT_EQ(h.last().resets, 0);
  h.last().answer(200, std::string(100'000, 'x'));
  const std::string got = h.take() + h.take();
  EXPECT_EQ(got.size(), ok(std::string(100'000, 'x')).size());
  EXPECT_TRUE(h.eof);
  EXPECT_FALSE(h.was_reset);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, HalfCloseWhileTheResponseIsQueuedLosesNothing) {
  Harness h;
  const std::string large(2'000'000, 'x');
  h.on_request_hook = [&](Exchange& e, bool) { e.answer(200, large); };  // detached at once, most of it still queued
  h.start();
  h.send(kGet);
  shutdown(h.fd, SHUT_WR);
  std::string got;
  for (int i = 0; i < 100 && !h.eof && !h.was_reset; ++i) got += h.take();
  EXPECT_EQ(got.size(), ok(large).size());
  EXPECT_TRUE(h.eof);
  EXPECT_FALSE(h.was_reset);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, PipelineBeforeAHalfCloseIsAnswered) {
  Harness h;
  h.start();
  // All of it is there before the connection looks.
  ASSERT_GT(::send(h.fd, (kGet + kGet + kGet).data(), 3 * kGet.size(), 0), 0);
  shutdown(h.fd, SHUT_WR);
  const std::string got = h.take();
  EXPECT_EQ(h.exchanges.size(), 3u);
  EXPECT_TRUE(h.eof);
  EXPECT_FALSE(h.was_reset);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, EndInsideTheRequestResets) {
  for (const std::string& text : {post(10) + "123", kChunked, kChunked + "5\r\nab", kChunked + "0\r\nx"}) {
    Harness h;
    h.start();
    h.send(text);
    shutdown(h.fd, SHUT_WR);
    turns(h.loop);
    EXPECT_EQ(h.last().resets, 1) << text;
    EXPECT_EQ(h.last().error, StreamError::kConnectionClosed);
    EXPECT_TRUE(h.closed);
  }
  Harness h;
  h.start();
  h.send("GET / HT");
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  EXPECT_TRUE(h.closed);
  EXPECT_TRUE(h.exchanges.empty());
}

TEST(Http1Server, ClientThatVanishesIsNoticedWhileTheResponseIsAwaited) {
  Harness h;
  h.on_request_hook = [](Exchange&, bool) {};
  h.start();
  h.send(kGet);
  close(h.fd);
  h.fd = -1;
  turns(h.loop);
  EXPECT_EQ(h.last().resets, 1);
  EXPECT_TRUE(h.closed);
}

// --- Timeouts ---

TEST(Http1Server, HeadTimeout) {
  Harness h;
  h.settings.head_timeout_ms = 30;
  h.start();
  h.send("GET / HTTP/1.1\r\n");
  h.wait(60);
  EXPECT_EQ(h.take().substr(0, 12), "HTTP/1.1 408");
  EXPECT_TRUE(h.eof);
  EXPECT_EQ(h.refused, std::vector<int>{408});

  // Nothing at all: no answer, just the end. A later head gets its own time.
  Harness silent;
  silent.settings.head_timeout_ms = 30;
  silent.start();
  silent.wait(60);
  EXPECT_EQ(silent.take(), "");
  EXPECT_TRUE(silent.closed);

  Harness trickle;
  trickle.settings.head_timeout_ms = 40;
  trickle.settings.idle_timeout_ms = 10'000;
  trickle.start();
  trickle.send(kGet);
  EXPECT_EQ(trickle.take(), ok("/x"));
  for (char c : std::string("GET /aaaaaaaaaaaaaaa")) {
    trickle.send({&c, 1});
    trickle.wait(5);
  }
  EXPECT_EQ(trickle.take().substr(0, 12), "HTTP/1.1 408") << "bytes do not extend the time";
}

TEST(Http1Server, IdleTimeout) {
  Harness h;
  h.settings.idle_timeout_ms = 40;
  h.start();
  h.send(kGet);
  EXPECT_EQ(h.take(), ok("/x"));
  h.wait(20);
  EXPECT_FALSE(h.closed);
  h.send(kGet);
  EXPECT_EQ(h.take(), ok("/x"));
  h.wait(25);
  EXPECT_FALSE(h.closed) << "a request starts the time anew";
  h.wait(40);
  EXPECT_TRUE(h.closed);
  EXPECT_EQ(h.take(), "");
  EXPECT_TRUE(h.eof);
}

TEST(Http1Server, IdleTimeoutAlsoAfterAResponseThatWasReadSlowly) {
  Harness h;
  h.settings.idle_timeout_ms = 40;
  h.on_request_hook = [](Exchange& e, bool) { e.answer(200, std::string(2'000'000, 'x')); };
  h.start();
  h.send(kGet);
  size_t got = 0;
  for (int i = 0; i < 100 && got < 2'000'000; ++i) got += h.take().size();
  EXPECT_GT(got, 2'000'000u);
  h.wait(100);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, WriteTimeout) {
  Harness h;
  h.settings.write_timeout_ms = 40;
  h.on_request_hook = [](Exchange& e, bool) {
    e.send_head(200, 5'000'000, false);
    e.stream->send_data(Slice::copy(std::string(5'000'000, 'x')), true);
  };
  h.start();
  h.send(kGet);
  h.wait(20);
  EXPECT_EQ(h.last().resets, 0);
  h.receive();  // progress
  turns(h.loop);
  h.wait(30);
  EXPECT_EQ(h.last().resets, 0) << "progress starts the time anew";
  h.wait(60);
  EXPECT_EQ(h.last().resets, 1);
  EXPECT_EQ(h.last().error, StreamError::kTimeout);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, SlowBody) {
  Harness h;
  h.settings.min_body_rate = 1000;
  h.settings.body_rate_window_ms = 40;
  h.start();
  h.send(post(10'000) + "x");
  h.wait(80);
  EXPECT_EQ(h.last().resets, 1);
  EXPECT_EQ(h.last().error, StreamError::kTimeout);
  EXPECT_EQ(h.take().substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(h.refused, std::vector<int>{408});

  Harness paused;
  paused.settings = h.settings;
  paused.on_request_hook = [](Exchange& e, bool) { e.stream->pause(); };
  paused.start();
  paused.send(post(10'000) + "x");
  paused.wait(100);
  EXPECT_EQ(paused.last().resets, 0) << "who is held back is not slow";

  Harness fast;
  fast.settings = h.settings;
  fast.start();
  fast.send(post(5 * 500));
  for (int i = 0; i < 5; ++i) {
    fast.send(std::string(500, 'x'));
    fast.wait(20);
  }
  EXPECT_EQ(fast.take().substr(0, 12), "HTTP/1.1 200");
}

TEST(Http1Server, HalfCloseGrace) {
  Harness h;
  h.settings.half_close_grace_ms = 30;
  h.on_request_hook = [](Exchange&, bool) {};
  h.start();
  h.send(kGet);
  shutdown(h.fd, SHUT_WR);
  h.wait(15);
  EXPECT_EQ(h.last().resets, 0);
  h.wait(50);
  EXPECT_EQ(h.last().resets, 1);
  EXPECT_TRUE(h.closed);
}

TEST(Http1Server, LingerEnds) {
  Harness h;
  h.settings.linger_timeout_ms = 30;
  h.start();
  h.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(h.take().substr(0, 12), "HTTP/1.1 400");
  EXPECT_FALSE(h.closed);
  h.wait(60);
  EXPECT_TRUE(h.closed);
}

// --- Framing of responses ---

TEST(Http1Server, FramesResponses) {
  const struct {
    const char* request;
    int status;
    int64_t length;
    const char* body;  // null: end with the head
    std::string expected;
    bool closes;
  } cases[] = {
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200, -1, "abc",
       "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200, -1, "",
       "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 200, -1, nullptr, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false},
      {"GET / HTTP/1.0\r\n\r\n", 200, -1, "abc", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", true},
      {"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", 200, 3, "abc",
       "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc", false},
      {"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", 200, -1, "abc",
       "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", true},
      {"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", 200, 3, "abc", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", false},
      {"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", 200, -1, "abc", "HTTP/1.1 200 OK\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 204, -1, nullptr, "HTTP/1.1 204 No Content\r\n\r\n", false},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 304, 7, nullptr, "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
       false},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", 304, -1, "zzz", "HTTP/1.1 304 Not Modified\r\n\r\n", false},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(std::string(c.request) + std::to_string(c.status));
    Harness h;
    h.on_request_hook = [&](Exchange& e, bool) {
      e.send_head(c.status, c.length, c.body == nullptr);
      if (c.body) e.stream->send_data(Slice::copy(c.body), true);
      e.detach();
    };
    h.start();
    h.send(c.request);
    EXPECT_EQ(h.take(), c.expected);
    EXPECT_EQ(h.eof, c.closes);
  }
}

TEST(Http1Server, InformationalHeadsAndTrailers) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    ResponseHead hints;
    hints.status = 103;
    hints.headers = HeaderMap(e.arena);
    hints.headers.add("link", std::string_view("x"));
    e.stream->send_informational(hints);
    e.send_head(200, -1, false);
    e.stream->send_data(Slice::copy("ab"), false);
    e.stream->send_data(Slice::copy("cd"), false);
    HeaderMap trailers(e.arena);
    trailers.add("t", std::string_view("u"));
    e.stream->send_trailers(trailers);
    e.detach();
  };
  h.start();
  h.send(kGet);
  EXPECT_EQ(h.take(),
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            "2\r\nab\r\n2\r\ncd\r\n0\r\nt: u\r\n\r\n");
  h.send("GET / HTTP/1.0\r\n\r\n");
  EXPECT_EQ(h.take(), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcd");
  EXPECT_TRUE(h.eof);
}

TEST(Http1Server, ExpectContinue) {
  const std::string head = "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    EXPECT_TRUE(e.head->expect_continue);
    ResponseHead go;
    go.status = 100;
    e.stream->send_informational(go);
  };
  h.start();
  h.send(head);
  EXPECT_EQ(h.take(), "HTTP/1.1 100 Continue\r\n\r\n");
  h.send("abc");
  EXPECT_EQ(h.take(), ok("abc|"));
  // Refused without "continue": the client may or may not send the body, so the connection can't go on.
  Harness refusing;
  refusing.on_request_hook = [](Exchange& e, bool) { e.answer(403, ""); };
  refusing.start();
  refusing.send(head);
  EXPECT_NE(refusing.take().find("connection: close"), std::string::npos);
  EXPECT_TRUE(refusing.eof);
}

TEST(Http1Server, LargeChunkedResponseArrivesWhole) {
  Harness h;
  std::string sent;
  h.on_request_hook = [&](Exchange& e, bool) {
    e.send_head(200, -1, false);
    for (int i = 0; i < 400; ++i) {
      const std::string piece(static_cast<size_t>(i * 17 % 5000 + 1), static_cast<char>('a' + i % 26));
      sent += piece;
      e.stream->send_data(Slice::copy(piece), false);
    }
    EXPECT_GT(e.stream->buffered(), sent.size());
    e.on_drained_hook = [](Exchange& x) {
      x.on_drained_hook = nullptr;
      EXPECT_LE(x.stream->buffered(), kBufferLow);
      x.stream->send_data(Slice(), true);
      x.detach();
    };
  };
  h.start();
  h.send(kGet);
  std::string got;
  for (int i = 0; i < 200 && got.find("\r\n0\r\n\r\n") == std::string::npos; ++i) got += h.take();
  const size_t at = got.find("\r\n\r\n") + 4;
  ChunkedDecoder decoder;
  std::string body;
  for (size_t pos = at; pos < got.size();) {
    size_t consumed = 0;
    const auto event = decoder.decode(got.data() + pos, got.size() - pos, consumed);
    if (event == ChunkedDecoder::Event::kData) body.append(got, pos + decoder.offset(), decoder.length());
    ASSERT_NE(event, ChunkedDecoder::Event::kError);
    pos += consumed;
    if (event == ChunkedDecoder::Event::kTrailers) break;
  }
  EXPECT_EQ(body, sent);
  h.on_request_hook = nullptr;
  h.send(kGet);
  EXPECT_EQ(h.take(), ok("/x")) << "the connection goes on";
}

// --- Tunnel ---

TEST(Http1Server, Tunnel) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    EXPECT_EQ(e.upgrade, "websocket");
    ResponseHead head;
    head.status = 101;
    head.upgrade = true;
    head.headers = HeaderMap(e.arena);
    head.headers.add("upgrade", std::string_view("websocket"));
    e.stream->send_head(head, false);
    e.stream->compact();
    e.on_end = [](Exchange& x) { x.events += "E"; };
    e.on_data_hook = [](Exchange& x) {
      if (!x.body.empty()) x.stream->send_data(Slice::copy("<" + std::exchange(x.body, "") + ">"), false);
    };
  };
  h.start();
  h.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly");
  EXPECT_EQ(h.take(), "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n<early>");
  h.send("GET / HTTP/1.1\r\n\r\n");
  EXPECT_EQ(h.take(), "<GET / HTTP/1.1\r\n\r\n>") << "bytes, not a request";
  EXPECT_EQ(h.exchanges.size(), 1u);
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  EXPECT_EQ(h.last().events.back(), 'E') << "the client's end is passed on";
  EXPECT_FALSE(h.closed);
  h.last().on_drained_hook = [](Exchange& x) { x.detach(); };
  h.last().stream->send_data(Slice::copy("bye"), true);
  EXPECT_EQ(h.take(), "bye");
  EXPECT_TRUE(h.eof);
  EXPECT_EQ(h.last().resets, 0);
  EXPECT_TRUE(h.closed);
}

// --- Handlers that end the exchange in every callback ---

TEST(Http1Server, ResetOrAnswerInEveryCallback) {
  const std::string request = kChunked + "3\r\nabc\r\n3\r\ndef\r\n0\r\nt: u\r\n\r\n" + kGet;
  for (const char* where : {"request", "data", "end", "drained", "reset"}) {
    for (const char* what : {"reset", "answer", "head+reset", "answer+reset", "close", "drain"}) {
      SCOPED_TRACE(std::string(what) + " in " + where);
      Harness h;
      h.start();
      const auto act = [&h, what](Exchange& e) {
        if (!e.stream) return;
        const std::string action = what;
        if (action == "close") return h.connection->close_now();
        if (action == "drain") h.connection->drain();
        if (action == "head+reset") e.send_head(200, 5, false);
        if (action == "answer+reset") e.send_head(200, 0, true);
        if (action == "answer" || action == "drain") {
          e.answer(200, "early");
        } else {
          e.reset();
        }
      };
      h.on_request_hook = [&](Exchange& e, bool end) {
        if (h.exchanges.size() > 1) return e.answer(200, "second");
        const std::string place = where;
        e.on_end = [](Exchange&) {};
        if (place == "request") act(e);
        if (place == "data") e.on_data_hook = act;
        if (place == "end") e.on_end = act;
        if (place == "drained") {
          ResponseHead go;
          go.status = 103;
          e.on_end = [](Exchange& x) {
            if (!x.stream) return;
            x.send_head(200, -1, false);
            x.stream->send_data(Slice::copy("x"), false);
          };
          e.on_drained_hook = [&](Exchange& x) {
            x.on_drained_hook = nullptr;
            if (std::string(what) == "answer" || std::string(what) == "drain") {
              x.stream->send_data(Slice(), true);
              x.detach();
            } else if (std::string(what) == "close") {
              h.connection->close_now();
            } else {
              x.reset();
            }
          };
        }
        if (place == "reset") e.on_reset_hook = [](Exchange&) {};
      };
      h.send(request);
      if (std::string(where) == "reset") {
        h.connection->close_now();
        turns(h.loop);
      }
      const std::string got = h.take();
      if (std::string(what) == "answer" && std::string(where) != "reset") {
        if (std::string(where) == "end" || std::string(where) == "drained") {
          EXPECT_NE(got.find("second"), std::string::npos) << got;
        }
        EXPECT_EQ(got.substr(0, 12), "HTTP/1.1 200");
      } else if (std::string(what) != "drain") {
        EXPECT_TRUE(h.closed);
      }
      EXPECT_LE(h.exchanges[0]->resets, 1);
      if (std::string(what) != "close" && std::string(where) != "reset") {
        EXPECT_EQ(h.exchanges[0]->resets, 0) << "who resets is not told";
      }
    }
  }
}

TEST(Http1Server, ResetAfterTheHeadCutsTheConnectionHard) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    e.send_head(200, 10, false);
    e.stream->send_data(Slice::copy("12345"), false);
  };
  h.start();
  h.send(kGet);
  EXPECT_EQ(h.take(), "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345");
  h.last().reset();
  turns(h.loop);
  EXPECT_TRUE(h.closed);
  EXPECT_EQ(h.last().resets, 0);
}

// --- Draining ---

TEST(Http1Server, Drains) {
  Harness idle;
  idle.settings.drain_grace_ms = 30;
  idle.start();
  idle.send(kGet);
  EXPECT_EQ(idle.take(), ok("/x"));
  idle.connection->drain();
  idle.wait(15);
  ASSERT_FALSE(idle.closed);  // the client's next request may be on its way
  idle.wait(50);
  EXPECT_TRUE(idle.closed);

  Harness last;
  last.start();
  last.send(kGet);
  EXPECT_EQ(last.take(), ok("/x"));
  last.connection->drain();
  last.send(kGet);
  EXPECT_EQ(last.take(), ok("/x", "connection: close\r\n"));
  EXPECT_TRUE(last.eof);

  Harness busy;
  busy.on_request_hook = [](Exchange&, bool) {};
  busy.start();
  busy.send(kGet);
  busy.connection->drain();
  turns(busy.loop);
  ASSERT_FALSE(busy.closed);
  busy.last().answer(200, "done");
  EXPECT_EQ(busy.take().substr(0, 12), "HTTP/1.1 200");
  EXPECT_TRUE(busy.eof);

  Harness process;
  process.is_draining = true;
  process.start();
  process.send(kGet);
  EXPECT_EQ(process.take(), ok("/x", "connection: close\r\n"));
  EXPECT_TRUE(process.eof);
}

TEST(Http1Server, CloseAfterResponse) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    e.stream->close_after_response();
    e.answer(200, "x");
  };
  h.start();
  h.send(kGet + kGet);
  EXPECT_EQ(h.take(), ok("x", "connection: close\r\n"));
  EXPECT_TRUE(h.eof);
  EXPECT_EQ(h.exchanges.size(), 1u);
}

// --- HTTP/2 by prior knowledge ---

TEST(Http1Server, GivesAnHttp2ConnectionAway) {
  const std::string preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  for (size_t cut = 0; cut < preface.size(); ++cut) {
    Harness h;
    h.use_upgrader = true;
    h.start();
    if (cut) h.send(preface.substr(0, cut));
    EXPECT_EQ(h.http2_bytes, "");
    h.send(preface.substr(cut) + "frame");
    EXPECT_EQ(h.http2_bytes, preface + "frame") << cut;
    EXPECT_TRUE(h.closed);
    EXPECT_TRUE(h.refused.empty());
  }
  // Only as the very first bytes, and only if somebody takes it.
  Harness later;
  later.use_upgrader = true;
  later.start();
  later.send(kGet + preface);
  EXPECT_EQ(later.http2_bytes, "");
  EXPECT_EQ(later.refused, std::vector<int>{400});
  Harness none;
  none.start();
  none.send(preface);
  EXPECT_EQ(none.refused.size(), 1u);
  // A beginning that turns into something else.
  Harness other;
  other.use_upgrader = true;
  other.start();
  other.send("PR");
  other.send("OPFIND / HTTP/1.1\r\nhost: a\r\n\r\n");
  EXPECT_EQ(other.exchanges.size(), 1u);
}

TEST(Http1Server, GarbageNeverCrashes) {
  uint64_t state = 1;
  for (int round = 0; round < 200; ++round) {
    Harness h;
    h.start();
    std::string text = round % 2 ? kChunked : "";
    for (int i = 0; i < 60; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      static constexpr char kBytes[] = "GET / HTTP/1.1\r\n: 0123456789abcdef;,\t\x01\x80\xff";
      text += kBytes[(state >> 33) % (sizeof(kBytes) - 1)];
    }
    h.send(text);
    shutdown(h.fd, SHUT_WR);
    h.take();
  }
  EXPECT_EQ(block_pool_stats().in_use_bytes, 0u);
}

}  // namespace
}  // namespace sluice::http
