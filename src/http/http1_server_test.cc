// Http1ServerConnection: requests and responses.

#include "http/http1_server_test_peer.h"

namespace sluice::http {
namespace {

using namespace http1_test;

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

// Both sides have ended it, but what the client sent is still on its way to the other end when the client goes.
TEST(Http1Server, TunnelThatBothHaveEndedIsNotReset) {
  Harness h;
  h.on_request_hook = [](Exchange& e, bool) {
    ResponseHead head;
    head.status = 101;
    head.upgrade = true;
    head.headers = HeaderMap(e.arena);
    e.stream->send_head(head, false);
    e.on_end = [](Exchange&) {};
  };
  h.start();
  h.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nlast words");
  shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  h.last().stream->send_data(Slice::copy("bye"), true);
  h.take();
  EXPECT_TRUE(h.eof);
  close(std::exchange(h.fd, -1));
  turns(h.loop);
  EXPECT_EQ(h.last().resets, 0);
  EXPECT_FALSE(h.closed);
  h.last().detach();
  turns(h.loop);
  EXPECT_TRUE(h.closed);
}

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
