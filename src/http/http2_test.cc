// Client and server of the HTTP/2 codec talking to each other.

#include "http/http2_test_peer.h"

namespace sluice::http::test {
namespace {

std::string pattern(size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

// Sends `text` in pieces, holding back above 64 KiB.
struct Sender {
  std::string text;
  size_t sent = 0;
  size_t piece = 20'000;
  template <typename Stream>
  void run(Stream& stream) {
    while (sent < text.size() && stream.buffered() < 65'536) {
      const size_t n = std::min(piece, text.size() - sent);
      stream.send_data(Slice::copy(std::string_view(text).substr(sent, n)), sent + n == text.size());
      sent += n;
    }
  }
};

TEST(Http2, GetMapsHeadsBothWays) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead& head, bool end) {
    EXPECT_TRUE(end);
    EXPECT_EQ(head.version, Protocol::kHttp2);
    EXPECT_EQ(head.headers.get(HeaderId::kUserAgent), "test");
    EXPECT_EQ(head.headers.get("x-custom"), "one");
    EXPECT_FALSE(head.headers.has(HeaderId::kHost));
    EXPECT_FALSE(head.headers.has(HeaderId::kConnection));
    EXPECT_EQ(head.headers.get(HeaderId::kTe), "trailers");
    e.answer(200, "hello");
  };
  c.start();
  auto x = c.client.request("GET", "/a?b=c", true, [](RequestHead& head) {
    head.headers.add(HeaderId::kUserAgent, "test");
    head.headers.add("x-custom", "one");
    head.headers.add(HeaderId::kConnection, "x-custom");
    head.headers.add(HeaderId::kTransferEncoding, "chunked");
    head.headers.add(HeaderId::kTe, "gzip, trailers");
    head.headers.add(HeaderId::kHost, "other");
  });
  pump(c.loop);
  ASSERT_EQ(c.server.exchanges.size(), 1u);
  const ServerExchange& s = *c.server.exchanges[0];
  EXPECT_EQ(s.method, "GET");
  EXPECT_EQ(s.path, "/a?b=c");
  EXPECT_EQ(s.authority, "example.com");
  EXPECT_EQ(s.scheme, "http");
  EXPECT_EQ(x->status, 200);
  EXPECT_EQ(x->head->content_length, 5);
  EXPECT_EQ(x->head->headers.get(HeaderId::kContentType), "text/plain");
  EXPECT_EQ(x->body, "hello");
  EXPECT_TRUE(x->ended);
  x->detach();
  c.server.exchanges[0]->finish();
  pump(c.loop);
  EXPECT_EQ(c.client.connection->active_streams(), 0u);
  EXPECT_EQ(c.server.connection->active_streams(), 0u);
  EXPECT_EQ(c.client.connection->total_streams(), 1u);
  EXPECT_EQ(x->resets + c.server.exchanges[0]->resets, 0);
}

TEST(Http2, IdleConnectionHoldsNoBlock) {
  const size_t before = block_pool_stats().in_use_bytes;
  Connected c;
  c.start();
  for (int i = 0; i < 3; ++i) {
    auto x = c.client.request("GET", "/");
    pump(c.loop);
    x->detach();
    c.server.exchanges.back()->finish();
    pump(c.loop);
  }
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

TEST(Http2, TrailersBothWays) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    e.end_hook = [](ServerExchange& e) {
      ResponseHead head;
      head.status = 200;
      head.headers = HeaderMap(e.head->headers.arena());
      e.stream->send_head(head, false);
      e.stream->send_data(Slice::copy("reply"), false);
      HeaderMap trailers(e.head->headers.arena());
      trailers.add(HeaderId::kGrpcStatus, "0");
      trailers.add("x-check", "abc");
      e.stream->send_trailers(trailers);
    };
  };
  c.start();
  auto x = c.client.request("POST", "/", false);
  x->stream->send_data(Slice::copy("data"), false);
  HeaderMap trailers(&x->memory);
  trailers.add("x-sum", "1");
  x->stream->send_trailers(trailers);
  pump(c.loop);
  EXPECT_EQ(c.server.exchanges[0]->events, "HDT!");
  EXPECT_EQ(c.server.exchanges[0]->trailers, "x-sum=1;");
  EXPECT_EQ(x->events, "HDT!");
  EXPECT_EQ(x->body, "reply");
  EXPECT_EQ(x->trailers, "grpc-status=0;x-check=abc;");
}

TEST(Http2, TrailersWithoutBodyAndAfterAPause) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    ResponseHead head;
    head.status = 200;
    head.headers = HeaderMap(e.head->headers.arena());
    e.stream->send_head(head, false);
  };
  c.start();
  auto x = c.client.request("GET", "/");
  pump(c.loop);
  ServerExchange& s = *c.server.exchanges[0];
  HeaderMap trailers(s.head->headers.arena());
  trailers.add(HeaderId::kGrpcStatus, "7");
  x->stream->pause();
  s.stream->send_trailers(trailers);
  pump(c.loop);
  EXPECT_EQ(x->events, "H");  // the end is part of the body that pause() holds back
  x->stream->resume();
  pump(c.loop);
  EXPECT_EQ(x->events, "HT!");
  EXPECT_EQ(x->trailers, "grpc-status=7;");
}

TEST(Http2, InformationalResponses) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead& head, bool) {
    EXPECT_TRUE(head.expect_continue);
    EXPECT_FALSE(head.headers.has(HeaderId::kExpect));
    ResponseHead early;
    early.headers = HeaderMap(head.headers.arena());
    early.status = 100;
    e.stream->send_informational(early);
    early.status = 103;
    early.headers.add(HeaderId::kLink, "</a.css>");
    e.stream->send_informational(early);
    e.answer(200, "x");
  };
  c.start();
  auto x = c.client.request("POST", "/", false, [](RequestHead& head) { head.expect_continue = true; });
  pump(c.loop);
  EXPECT_EQ(x->informational, (std::vector<int>{100, 103}));
  EXPECT_EQ(x->status, 200);
  EXPECT_EQ(x->body, "x");
}

TEST(Http2, BodilessResponses) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead& head, bool) {
    ResponseHead response;
    response.headers = HeaderMap(head.headers.arena());
    response.status = e.path == "/204" ? 204 : e.path == "/304" ? 304 : 200;
    response.content_length = 100;
    e.stream->send_head(response, false);
    e.stream->send_data(Slice::copy("must not be sent"), true);
  };
  c.start();
  auto head = c.client.request("HEAD", "/");
  auto none = c.client.request("GET", "/204");
  auto same = c.client.request("GET", "/304");
  pump(c.loop);
  EXPECT_EQ(head->events, "H!");
  EXPECT_EQ(head->head->content_length, 100);
  EXPECT_EQ(none->events, "H!");
  EXPECT_EQ(none->head->content_length, -1);
  EXPECT_EQ(same->events, "H!");
  EXPECT_EQ(c.client.connection->active_streams(), 3u);
}

TEST(Http2, LargeBodiesBothWays) {
  for (const uint32_t window : {65'535u, 1000u, 1u << 20}) {
    Connected c;
    c.server.settings.stream_window = window;
    c.client.settings.stream_window = window;
    const std::string text = pattern(window == 1000 ? 300'000 : 3'000'000);
    Sender up{text}, down{text};
    c.server.request_hook = [&](ServerExchange& e, RequestHead&, bool) {
      ResponseHead head;
      head.status = 200;
      head.headers = HeaderMap(e.head->headers.arena());
      e.stream->send_head(head, false);
      down.run(*e.stream);
      e.drained_hook = [&](ServerExchange& e) { down.run(*e.stream); };
    };
    c.start();
    auto x = c.client.request("POST", "/", false);
    x->drained_hook = [&](ClientExchange& x) { up.run(*x.stream); };
    up.run(*x->stream);
    for (int i = 0; i < 200 && !(x->ended && c.server.exchanges[0]->ended); ++i) pump(c.loop);
    EXPECT_TRUE(x->body == text);
    EXPECT_TRUE(c.server.exchanges[0]->body == text);
    EXPECT_EQ(x->resets, 0);
  }
}

TEST(Http2, PauseHoldsBackWithinTheWindowAndOthersGoOn) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    if (e.path == "/slow") e.stream->pause();
    e.end_hook = [](ServerExchange& e) { e.answer(200, "done"); };
  };
  const std::string text = pattern(1'000'000);
  Sender slow{text}, fast{text};
  auto a = c.client.request("POST", "/slow", false);
  auto b = c.client.request("POST", "/fast", false);
  a->drained_hook = [&](ClientExchange& x) { slow.run(*x.stream); };
  b->drained_hook = [&](ClientExchange& x) { fast.run(*x.stream); };
  slow.run(*a->stream);
  fast.run(*b->stream);
  for (int i = 0; i < 100; ++i) pump(c.loop);
  EXPECT_EQ(c.server.exchanges[0]->received, 0u);
  EXPECT_LE(slow.sent - a->stream->buffered(), 65'535u);
  EXPECT_GE(slow.sent - a->stream->buffered(), 65'000u);
  EXPECT_TRUE(c.server.exchanges[1]->body == text);
  EXPECT_EQ(b->body, "done");

  // Paused again from inside a callback: nothing more is delivered.
  c.server.exchanges[0]->data_hook = [](ServerExchange& e) {
    e.stream->pause();
    e.data_hook = nullptr;
  };
  c.server.exchanges[0]->stream->resume();
  pump(c.loop);
  EXPECT_GT(c.server.exchanges[0]->received, 0u);
  EXPECT_LT(c.server.exchanges[0]->received, 65'535u);
  c.server.exchanges[0]->stream->resume();
  for (int i = 0; i < 100; ++i) pump(c.loop);
  EXPECT_TRUE(c.server.exchanges[0]->body == text);
  EXPECT_EQ(a->body, "done");
}

TEST(Http2, PausedResponseSurvivesTheConnection) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) { e.answer(200, std::string(50'000, 'x')); };
  auto x = c.client.request("GET", "/");
  x->stream->pause();
  pump(c.loop);
  c.server.connection->close_now();
  pump(c.loop);
  EXPECT_EQ(x->resets, 0);
  EXPECT_FALSE(c.client.closed);
  EXPECT_FALSE(c.client.connection->can_open());
  x->stream->resume();
  pump(c.loop);
  EXPECT_EQ(x->body.size(), 50'000u);
  EXPECT_TRUE(x->ended);
  x->detach();
  pump(c.loop);
  EXPECT_TRUE(c.client.closed);
}

TEST(Http2, ResetsAreToldApart) {
  Connected c;
  c.start();
  const std::pair<StreamError, StreamError> cases[] = {{StreamError::kRefused, StreamError::kRefused},
                                                       {StreamError::kCancelled, StreamError::kReset},
                                                       {StreamError::kTimeout, StreamError::kReset}};
  for (const auto& [sent, seen] : cases) {
    c.server.request_hook = [sent = sent](ServerExchange& e, RequestHead&, bool) {
      std::exchange(e.stream, nullptr)->reset(sent);
    };
    auto x = c.client.request("GET", "/");
    pump(c.loop);
    EXPECT_EQ(x->events, "R");
    EXPECT_EQ(x->error, seen);
    EXPECT_EQ(x->unprocessed, seen == StreamError::kRefused);
  }
  c.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  auto x = c.client.request("GET", "/");
  pump(c.loop);
  std::exchange(x->stream, nullptr)->reset(StreamError::kCancelled);
  pump(c.loop);
  EXPECT_EQ(c.server.exchanges.back()->error, StreamError::kReset);
  EXPECT_EQ(c.server.exchanges.back()->resets, 1);
  EXPECT_EQ(c.client.connection->active_streams(), 0u);
  EXPECT_EQ(c.server.connection->active_streams(), 0u);
}

TEST(Http2, EarlyResponseEndsTheUpload) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    e.answer(413, "too much");
    e.finish();
  };
  Sender up{pattern(2'000'000)};
  auto x = c.client.request("POST", "/", false);
  x->drained_hook = [&](ClientExchange& x) { up.run(*x.stream); };
  up.run(*x->stream);
  pump(c.loop);
  EXPECT_EQ(x->status, 413);
  EXPECT_EQ(x->body, "too much");
  EXPECT_EQ(x->error, StreamError::kNoError);
  EXPECT_EQ(x->events.back(), 'R');
  EXPECT_LT(up.sent - 0, up.text.size());
  // The connection goes on, with its window.
  c.server.request_hook = nullptr;
  for (int i = 0; i < 40; ++i) {
    Sender again{pattern(60'000)};
    auto y = c.client.request("POST", "/", false);
    again.run(*y->stream);
    pump(c.loop, 20);
    EXPECT_EQ(y->body, "got it");
    y->detach();
    c.server.exchanges.back()->finish();
  }
}

TEST(Http2, ExtendedConnect) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead& head, bool end) {
    EXPECT_FALSE(end);
    EXPECT_EQ(head.upgrade, "websocket");
    EXPECT_EQ(head.method, Method::kGet);
    EXPECT_EQ(e.path, "/chat");
    EXPECT_EQ(head.headers.get(HeaderId::kSecWebsocketVersion), "13");
    EXPECT_FALSE(head.headers.has(HeaderId::kSecWebsocketKey));
    ResponseHead response;
    response.status = 101;
    response.upgrade = true;
    response.headers = HeaderMap(head.headers.arena());
    response.headers.add(HeaderId::kSecWebsocketAccept, "zzz");
    e.stream->send_head(response, false);
    e.stream->compact();
    e.data_hook = [](ServerExchange& e) {
      e.stream->send_data(Slice::copy(e.body), e.ended);
      e.body.clear();
    };
  };
  c.start();
  ASSERT_TRUE(c.client.connection->allows_extended_connect());
  auto x = c.client.request("GET", "/chat", false, [](RequestHead& head) {
    head.upgrade = "websocket";
    head.headers.add(HeaderId::kSecWebsocketVersion, "13");
    head.headers.add(HeaderId::kSecWebsocketKey, "abc");
  });
  pump(c.loop);
  EXPECT_EQ(x->status, 200);
  EXPECT_TRUE(x->head->upgrade);
  EXPECT_FALSE(x->head->headers.has(HeaderId::kSecWebsocketAccept));
  x->stream->send_data(Slice::copy("ping"), false);
  pump(c.loop);
  EXPECT_EQ(x->body, "ping");
  x->stream->send_data(Slice::copy("bye"), true);
  pump(c.loop);
  EXPECT_EQ(x->body, "pingbye");
  EXPECT_TRUE(x->ended);
}

TEST(Http2, ExtendedConnectCanBeSwitchedOff) {
  Connected c;
  c.server.settings.extended_connect = false;
  c.start();
  EXPECT_FALSE(c.client.connection->allows_extended_connect());
}

TEST(Http2, PlainConnectIsPassedUp) {
  Connected c;
  c.server.request_hook = [](ServerExchange& e, RequestHead& head, bool) {
    EXPECT_EQ(head.method, Method::kConnect);
    EXPECT_EQ(e.authority, "example.com");
    EXPECT_EQ(e.path, "");
    e.answer(405, "no");
  };
  c.start();
  auto x = c.client.request("CONNECT", "", false);
  pump(c.loop);
  EXPECT_EQ(x->status, 405);
}

TEST(Http2, ServerDrainFinishesStreams) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  auto x = c.client.request("GET", "/");
  pump(c.loop);
  c.server.connection->drain();
  pump(c.loop);
  EXPECT_EQ(c.client.draining, 1);
  EXPECT_FALSE(c.client.connection->can_open());
  EXPECT_FALSE(c.server.closed);
  c.server.exchanges[0]->answer(200, "late");
  c.server.exchanges[0]->finish();
  pump(c.loop);
  EXPECT_EQ(x->body, "late");
  x->detach();
  pump(c.loop);
  EXPECT_TRUE(c.client.closed);
  EXPECT_TRUE(c.server.closed);
}

TEST(Http2, DrainWithoutStreamsCloses) {
  {
    Connected c;
    c.start();
    c.server.connection->drain();
    pump(c.loop);
    EXPECT_TRUE(c.client.closed);
    EXPECT_TRUE(c.server.closed);
  }
  Connected c;
  c.start();
  c.client.connection->drain();
  EXPECT_FALSE(c.client.connection->can_open());
  pump(c.loop);
  EXPECT_TRUE(c.client.closed);
  EXPECT_TRUE(c.server.closed);
}

TEST(Http2, CloseAfterResponseDrains) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    e.stream->close_after_response();
    e.answer(200, "last");
    e.finish();
  };
  auto x = c.client.request("GET", "/");
  pump(c.loop);
  EXPECT_EQ(x->body, "last");
  x->detach();
  pump(c.loop);
  EXPECT_TRUE(c.server.closed);
}

TEST(Http2, ConnectionLossIsToldOnce) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  auto a = c.client.request("GET", "/");
  auto b = c.client.request("POST", "/", false);
  pump(c.loop);
  c.client.connection->close_now();
  pump(c.loop);
  for (ClientExchange* x : {a.get(), b.get()}) {
    EXPECT_EQ(x->resets, 1);
    EXPECT_EQ(x->error, StreamError::kConnectionClosed);
  }
  for (auto& s : c.server.exchanges) {
    EXPECT_EQ(s->resets, 1);
    EXPECT_EQ(s->error, StreamError::kConnectionClosed);
  }
  EXPECT_TRUE(c.server.closed);
  EXPECT_TRUE(c.client.closed);
}

TEST(Http2, TeardownInsideCallbacks) {
  // 0: reset in on_data; 1: detach in on_data; 2: close the connection in on_data; 3: the same in
  // on_request; 4: null after an answer; 5: null without one; 6: drain in on_request.
  for (int kind = 0; kind < 7; ++kind) {
    Connected c;
    c.start();
    c.server.request_hook = [&](ServerExchange& e, RequestHead&, bool) {
      e.reset_hook = [&](ServerExchange&) { pump(c.loop, 0); };
      e.data_hook = [&](ServerExchange& e) {
        if (!e.stream) return;
        if (kind == 0) std::exchange(e.stream, nullptr)->reset(StreamError::kCancelled);
        if (kind == 1) e.finish();
        if (kind == 2) c.server.connection->close_now();
      };
      if (kind == 3) c.server.connection->close_now();
      if (kind == 4) {
        e.answer(200, "x");
        e.stream = nullptr;
      }
      if (kind == 5) e.stream = nullptr;
      if (kind == 6) c.server.connection->drain();
    };
    auto x = c.client.request("POST", "/", false);
    x->stream->send_data(Slice::copy(std::string(40'000, 'x')), true);
    pump(c.loop);
    if (kind == 4) {
      EXPECT_EQ(x->body, "x");
    } else if (kind != 6) {
      EXPECT_EQ(x->resets, 1) << kind;
    }
    for (auto& s : c.server.exchanges) EXPECT_LE(s->resets, 1);
  }
}

TEST(Http2, ClientActsInsideCallbacks) {
  Connected c;
  c.start();
  std::unique_ptr<ClientExchange> second;
  auto x = c.client.request("GET", "/");
  x->end_hook = [&](ClientExchange& x) {
    x.detach();
    second = c.client.request("GET", "/second");
  };
  pump(c.loop);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->body, "hello");
  second->detach();

  auto y = c.client.request("GET", "/");
  y->response_hook = [](ClientExchange& y) { std::exchange(y.stream, nullptr)->reset(StreamError::kCancelled); };
  pump(c.loop);
  EXPECT_EQ(y->events, "H");

  auto z = c.client.request("GET", "/");
  z->response_hook = [&](ClientExchange&) { c.client.connection->close_now(); };
  z->end_hook = [](ClientExchange& z) { z.detach(); };
  pump(c.loop);
  EXPECT_EQ(z->resets + z->ended, 1);
  EXPECT_TRUE(c.client.closed);
}

TEST(Http2, ResetBeforeTheHeadHasLeft) {
  Connected c;
  c.start();
  auto a = std::make_unique<ClientExchange>();
  a->stream = c.client.connection->open(*a);
  std::exchange(a->stream, nullptr)->reset(StreamError::kCancelled);
  auto b = c.client.request("GET", "/");
  std::exchange(b->stream, nullptr)->reset(StreamError::kCancelled);
  pump(c.loop);
  EXPECT_EQ(c.client.connection->active_streams(), 0u);
  EXPECT_EQ(c.server.exchanges.size(), 0u);
  EXPECT_EQ(a->resets + b->resets, 0);
}

TEST(Http2, ConcurrencyFollowsTheServer) {
  Connected c;
  c.server.settings.max_concurrent_streams = 3;
  c.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  c.start();
  std::vector<std::unique_ptr<ClientExchange>> open;
  for (int i = 0; i < 3; ++i) open.push_back(c.client.request("GET", "/"));
  EXPECT_FALSE(c.client.connection->can_open());
  EXPECT_EQ(c.client.request("GET", "/"), nullptr);
  pump(c.loop);
  const int before = c.client.available;
  c.server.exchanges[0]->answer(200, "x");
  pump(c.loop);
  open[0]->detach();
  pump(c.loop);
  EXPECT_EQ(c.client.available, before + 1);
  EXPECT_TRUE(c.client.connection->can_open());
}

TEST(Http2, OutputIsBoundedWhenThePeerDoesNotTake) {
  Connected c;
  c.start();
  c.server.request_hook = [](ServerExchange& e, RequestHead&, bool) { e.answer(200, std::string(10'000'000, 'x')); };
  auto x = c.client.request("GET", "/");
  x->keep_body = false;
  x->stream->pause();
  pump(c.loop);
  const size_t waiting = c.server.exchanges[0]->stream->buffered();
  EXPECT_GT(waiting, 9'000'000u);
  x->stream->resume();
  for (int i = 0; i < 100 && !x->ended; ++i) pump(c.loop);
  EXPECT_EQ(x->received, 10'000'000u);
  EXPECT_EQ(c.server.exchanges[0]->stream->buffered(), 0u);
}

TEST(Http2, IdleClientIsClosedWithoutNotice) {
  Connected c;
  c.start();
  c.client.connection->close_idle();
  c.client.connection = nullptr;
  pump(c.loop);
  EXPECT_FALSE(c.client.closed);
  EXPECT_TRUE(c.server.closed);
}

TEST(Http2, KeepaliveFindsADeadServer) {
  RawServer r;
  r.client.settings.keepalive_interval_ms = 30;
  r.client.settings.keepalive_timeout_ms = 40;
  r.start();
  auto x = r.client.request("GET", "/");
  pump_ms(r.loop, 60);
  r.peer->read();
  EXPECT_EQ(r.peer->count(NGHTTP2_PING), 1u);
  pump_ms(r.loop, 100);
  EXPECT_EQ(x->error, StreamError::kTimeout);
  EXPECT_EQ(x->resets, 1);
}

TEST(Http2, ClientRefusesPush) {
  RawServer r;
  r.start();
  auto x = r.client.request("GET", "/");
  r.peer->read();
  r.peer->send(RawPeer::frame(NGHTTP2_PUSH_PROMISE, NGHTTP2_FLAG_END_HEADERS, 1,
                              RawPeer::u32(2) + RawPeer::block(RawPeer::get())));
  r.peer->read();
  EXPECT_EQ(x->error, StreamError::kProtocol);
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_PROTOCOL_ERROR);
}

TEST(Http2, StreamsAboveGoawayAreRefused) {
  RawServer r;
  r.start();
  auto a = r.client.request("GET", "/");
  auto b = r.client.request("GET", "/");
  pump(r.loop);
  r.peer->send(RawPeer::frame(NGHTTP2_GOAWAY, 0, 0, RawPeer::u32(1) + RawPeer::u32(0)));
  pump(r.loop);
  EXPECT_EQ(b->error, StreamError::kRefused);
  EXPECT_TRUE(b->unprocessed);
  EXPECT_EQ(a->resets, 0);
  EXPECT_EQ(r.client.draining, 1);
  EXPECT_FALSE(r.client.connection->can_open());
  r.peer->headers(1, {{":status", "200"}});
  pump(r.loop);
  EXPECT_EQ(a->status, 200);
  EXPECT_TRUE(a->ended);
  a->detach();
  pump(r.loop);
  r.peer->read();
  close(std::exchange(r.peer->fd, -1));
  pump(r.loop);
  EXPECT_TRUE(r.client.closed);
}

TEST(Http2, CompleteExchangesAreNotReset) {
  RawServer r;
  r.start();
  for (int i = 0; i < 4; ++i) {
    auto x = r.client.request("POST", "/", i < 2);
    x->end_hook = [](ClientExchange& x) { x.detach(); };
    if (i >= 2) x->stream->send_data(Slice::copy("body"), true);
    pump(r.loop);
    r.peer->headers(2 * i + 1, {{":status", "200"}}, i % 2);
    if (i % 2 == 0) r.peer->data(2 * i + 1, "body", true);
    pump(r.loop);
    EXPECT_TRUE(x->ended);
  }
  r.peer->read();
  EXPECT_EQ(r.peer->count(NGHTTP2_HEADERS), 4u);
  EXPECT_EQ(r.peer->count(NGHTTP2_RST_STREAM), 0u);
  EXPECT_EQ(r.client.connection->active_streams(), 0u);
}

TEST(Http2, HeadThatIsTooLargeToSendResetsItsStream) {
  Connected c;
  c.start();
  const std::string value(60'000, 'x');
  c.server.request_hook = [&](ServerExchange& e, RequestHead& head, bool) {
    ResponseHead response;
    response.status = 200;
    response.headers = HeaderMap(head.headers.arena());
    for (int i = 0; i < 20; ++i) response.headers.add("x-big", value);
    e.stream->send_head(response, true);
  };
  auto x = c.client.request("GET", "/");
  pump(c.loop);
  EXPECT_EQ(x->events, "R");
  EXPECT_EQ(c.server.exchanges[0]->resets, 1);
}

TEST(Http2, LargeHeadsGoThrough) {
  Connected c;
  c.client.settings.max_header_list_bytes = 200'000;
  c.start();
  const std::string value(50'000, '~');
  c.server.request_hook = [&](ServerExchange& e, RequestHead& head, bool) {
    ResponseHead response;
    response.status = 200;
    response.headers = HeaderMap(head.headers.arena());
    for (int i = 0; i < 2; ++i) response.headers.add("x-big", value);
    e.stream->send_head(response, true);
  };
  auto a = c.client.request("GET", "/");
  auto b = c.client.request("GET", "/");
  pump(c.loop);
  EXPECT_EQ(a->events, "H!");
  EXPECT_EQ(b->events, "H!");
  EXPECT_EQ(b->head->headers.get("x-big"), value);
}

TEST(Http2, ServerResetAfterACompleteResponse) {
  RawServer r;
  r.start();
  auto x = r.client.request("POST", "/", false);
  x->stream->pause();
  pump(r.loop);
  r.peer->headers(1, {{":status", "200"}}, false);
  r.peer->data(1, "body", true);
  r.peer->send(RawPeer::frame(NGHTTP2_RST_STREAM, 0, 1, RawPeer::u32(0)));
  pump(r.loop);
  EXPECT_EQ(x->events, "H");
  x->stream->resume();
  pump(r.loop);
  EXPECT_EQ(x->events, "HD!R");
  EXPECT_EQ(x->error, StreamError::kNoError);
}

TEST(Http2, BadResponsesResetTheStream) {
  const Fields bad[] = {{{":status", "101"}},
                        {{":status", "200"}, {"connection", "close"}},
                        {{":status", "200"}, {"Upper", "x"}},
                        {{"x", "y"}},
                        {{":status", "200"}, {":path", "/"}},
                        {{":status", "200"}, {"content-length", "x"}},
                        {{":status", "200"}, {"a", std::string(35'000, 'x')}, {"b", std::string(35'000, 'x')}}};
  for (const Fields& fields : bad) {
    RawServer r;
    r.start();
    auto x = r.client.request("GET", "/");
    pump(r.loop);
    const std::string block = RawPeer::block(fields);
    const size_t first = std::min<size_t>(block.size(), 16'000);
    r.peer->send(RawPeer::frame(NGHTTP2_HEADERS, first == block.size() ? 5 : 1, 1, block.substr(0, first)));
    for (size_t at = first; at < block.size(); at += 16'000) {
      r.peer->send(
          RawPeer::frame(NGHTTP2_CONTINUATION, at + 16'000 >= block.size() ? 4 : 0, 1, block.substr(at, 16'000)));
    }
    pump(r.loop);
    EXPECT_EQ(x->events, "R") << fields.back().first;
    EXPECT_EQ(x->error, StreamError::kProtocol);
    EXPECT_TRUE(r.client.connection && r.client.connection->can_open()) << fields.back().first;
  }
}

TEST(Http2, ClientStreamIdsRunOut) {
  RawServer r;
  r.client.settings.last_stream_id = 6;
  r.start();
  for (int i = 0; i < 3; ++i) {
    auto x = r.client.request("GET", "/");
    ASSERT_TRUE(x);
    pump(r.loop);
    r.peer->headers(2 * i + 1, {{":status", "200"}});
    pump(r.loop);
    x->detach();
    pump(r.loop);
  }
  EXPECT_EQ(r.client.draining, 1);
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_NO_ERROR);
}

}  // namespace
}  // namespace sluice::http::test
