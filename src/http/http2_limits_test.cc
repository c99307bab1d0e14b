// What the HTTP/2 server refuses: malformed requests, floods and other attacks, with frames written
// by hand.

#include <tuple>

#include "http/http2_test_peer.h"

namespace sluice::http::test {
namespace {

constexpr uint8_t kEnd = NGHTTP2_FLAG_END_HEADERS | NGHTTP2_FLAG_END_STREAM;

TEST(Http2Limits, MalformedRequestsAreReset) {
  const std::string method = ":method", scheme = ":scheme", path = ":path", authority = ":authority";
  const Fields cases[] = {
      RawPeer::get({{"Upper", "x"}}),
      RawPeer::get({{"connection", "close"}}),
      RawPeer::get({{"keep-alive", "5"}}),
      RawPeer::get({{"proxy-connection", "close"}}),
      RawPeer::get({{"transfer-encoding", "chunked"}}),
      RawPeer::get({{"upgrade", "h2c"}}),
      RawPeer::get({{"te", "gzip"}}),
      RawPeer::get({{":path", "/twice"}}),
      RawPeer::get({{":unknown", "x"}}),
      RawPeer::get({{"x", "y"}, {":authority", "late"}}),
      RawPeer::get({{"host", "other.example"}}),
      RawPeer::get({{"bad name", "x"}}),
      RawPeer::get({{"", "x"}}),
      RawPeer::get({{"x", "a\r\nb: c"}}),
      RawPeer::get({{"x", std::string("a\0b", 3)}}),
      RawPeer::get({{"x", " leading"}}),
      RawPeer::get({{"content-length", "-1"}}),
      RawPeer::get({{"content-length", "5"}}),  // and no body
      RawPeer::get({{"content-length", "0"}, {"content-length", "0"}}),
      RawPeer::get({{"content-length", "99999999999999999999"}}),
      {{method, "GET"}, {scheme, "http"}, {authority, "a"}},
      {{method, "GET"}, {scheme, "http"}, {path, ""}, {authority, "a"}},
      {{method, "GET"}, {scheme, "http"}, {path, "no-slash"}, {authority, "a"}},
      {{method, "GET"}, {scheme, "ftp"}, {path, "no-slash"}, {authority, "a"}},
      {{method, "GET"}, {scheme, "http"}, {path, "*"}, {authority, "a"}},
      {{method, "GET"}, {scheme, "http"}, {path, "/a b"}, {authority, "a"}},
      {{method, "GET"}, {scheme, "http"}, {path, "/"}},
      {{method, "GET"}, {scheme, "http"}, {path, "/"}, {authority, "user@a"}},
      {{method, "GET"}, {path, "/"}, {authority, "a"}},
      {{method, "G ET"}, {scheme, "http"}, {path, "/"}, {authority, "a"}},
      {{scheme, "http"}, {path, "/"}, {authority, "a"}},
      {{method, "CONNECT"}, {scheme, "http"}, {path, "/"}, {authority, "a"}},
      {{method, "CONNECT"}, {":protocol", "websocket"}, {authority, "a"}},
      {{method, "GET"}, {":protocol", "websocket"}, {scheme, "http"}, {path, "/"}, {authority, "a"}},
      {{method, "CONNECT"}, {":protocol", "web socket"}, {scheme, "http"}, {path, "/"}, {authority, "a"}},
  };
  for (const Fields& fields : cases) {
    RawClient r;
    r.start();
    r.peer->headers(1, fields);
    r.peer->headers(3, RawPeer::get());
    r.peer->read();
    EXPECT_EQ(r.peer->reset(1), NGHTTP2_PROTOCOL_ERROR) << fields.back().first << ": " << fields.back().second;
    ASSERT_EQ(r.server.exchanges.size(), 1u);
    EXPECT_TRUE(r.peer->find(NGHTTP2_HEADERS, 3));
    EXPECT_EQ(r.peer->goaway(), -1);
  }
}

TEST(Http2Limits, WhatIsWellFormedPasses) {
  RawClient r;
  r.start();
  r.server.request_hook = [](ServerExchange& e, RequestHead& head, bool) {
    if (e.path == "/cookies") {
      EXPECT_EQ(head.headers.get(HeaderId::kCookie), "a=1; b=2; c=3");
    }
    if (e.path == "/host") {
      EXPECT_EQ(e.authority, "h.example:81");
    }
    e.answer(200, "x");
    e.finish();
  };
  r.peer->headers(1, {{":method", "GET"},
                      {":scheme", "http"},
                      {":path", "/cookies"},
                      {":authority", "a"},
                      {"cookie", "a=1"},
                      {"x", "y"},
                      {"cookie", "b=2"},
                      {"cookie", "c=3"}});
  r.peer->headers(3, {{":method", "GET"}, {":scheme", "http"}, {":path", "/host"}, {"host", "h.example:81"}});
  r.peer->headers(5, {{":method", "OPTIONS"}, {":scheme", "http"}, {":path", "*"}, {":authority", "a"}, {"host", "A"}});
  r.peer->headers(7, RawPeer::get({{"x", "obs-text \xe4"}, {"empty", ""}, {"te", "trailers"}}));
  r.peer->read();
  EXPECT_EQ(r.server.exchanges.size(), 4u);
  EXPECT_EQ(r.peer->count(NGHTTP2_RST_STREAM), 0u);
}

TEST(Http2Limits, BodyThatContradictsItsLength) {
  for (const auto& [body, end] : {std::pair<std::string, bool>{"123456", false}, {"1234", true}}) {
    RawClient r;
    r.start();
    r.peer->headers(
        1, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}, {"content-length", "5"}},
        false);
    r.peer->data(1, body, end);
    r.peer->read();
    EXPECT_EQ(r.peer->reset(1), NGHTTP2_PROTOCOL_ERROR);
    ASSERT_EQ(r.server.exchanges.size(), 1u);
    EXPECT_EQ(r.server.exchanges[0]->error, StreamError::kProtocol);
    EXPECT_FALSE(r.server.exchanges[0]->ended);
  }
}

TEST(Http2Limits, BadTrailers) {
  const Fields cases[] = {{{":path", "/"}}, {{"content-length", "3"}}, {{"host", "x"}}, {{"Upper", "x"}}};
  for (const Fields& trailers : cases) {
    RawClient r;
    r.start();
    r.peer->headers(1, RawPeer::get(), false);
    r.peer->headers(1, trailers);
    r.peer->read();
    EXPECT_EQ(r.peer->reset(1), NGHTTP2_PROTOCOL_ERROR) << trailers[0].first;
    EXPECT_EQ(r.server.exchanges[0]->resets, 1);
  }
}

TEST(Http2Limits, HeaderListOverTheLimitIs431) {
  for (const bool by_count : {false, true}) {
    RawClient r;
    r.server.settings.max_header_list_bytes = 2000;
    r.server.settings.max_header_count = 20;
    r.start();
    Fields fields = RawPeer::get();
    if (by_count) {
      for (int i = 0; i < 21; ++i) fields.push_back({"x" + std::to_string(i), "y"});
    } else {
      fields.push_back({"big", std::string(2000, 'x')});
    }
    r.peer->headers(1, fields, false);
    r.peer->headers(3, RawPeer::get());
    r.peer->read();
    ASSERT_TRUE(r.peer->find(NGHTTP2_HEADERS, 1));
    EXPECT_EQ(RawPeer::status(*r.peer->find(NGHTTP2_HEADERS, 1)), "431");
    EXPECT_EQ(r.peer->reset(1), NGHTTP2_NO_ERROR);
    EXPECT_EQ(r.server.refused, std::vector<int>{431});
    EXPECT_TRUE(r.peer->find(NGHTTP2_DATA, 3));
    EXPECT_EQ(r.server.exchanges.size(), 1u);
  }
}

TEST(Http2Limits, HugeHeaderListEndsTheConnection) {
  RawClient r;
  r.server.settings.max_header_list_bytes = 2000;
  r.start();
  r.peer->headers(1, RawPeer::get({{"big", std::string(9000, 'x')}}));
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_TRUE(r.peer->eof);
}

TEST(Http2Limits, StreamsOverTheConcurrencyLimit) {
  for (const bool acknowledged : {false, true}) {
    RawClient r;
    r.server.settings.max_concurrent_streams = 2;
    r.start();
    if (acknowledged) r.peer->send(RawPeer::frame(NGHTTP2_SETTINGS, NGHTTP2_FLAG_ACK, 0, ""));
    for (int i = 0; i < 3; ++i) r.peer->headers(2 * i + 1, RawPeer::get(), false);
    r.peer->read();
    EXPECT_EQ(r.server.exchanges.size(), 2u);
    EXPECT_EQ(r.peer->reset(5), NGHTTP2_REFUSED_STREAM);
    // What was on its way to the refused stream is no offence, and there is room as soon as a stream is over.
    r.peer->data(5, "late", true);
    r.peer->send(RawPeer::frame(NGHTTP2_RST_STREAM, 0, 1, RawPeer::u32(NGHTTP2_CANCEL)));
    r.peer->headers(7, RawPeer::get(), false);
    r.peer->read();
    EXPECT_EQ(r.server.exchanges.size(), 3u);
    EXPECT_EQ(r.peer->reset(7), -1);
    EXPECT_EQ(r.peer->goaway(), -1);
  }
}

TEST(Http2Limits, TheStreamLimitIsAdvertised) {
  RawClient r;
  r.server.settings.max_concurrent_streams = 77;
  r.start();
  const Frame* settings = r.peer->find(NGHTTP2_SETTINGS);
  ASSERT_TRUE(settings);
  bool found = false;
  for (size_t i = 0; i + 6 <= settings->payload.size(); i += 6) {
    found = found || settings->payload.substr(i, 6) == std::string("\0\x03", 2) + RawPeer::u32(77);
  }
  EXPECT_TRUE(found);
}

TEST(Http2Limits, FloodOverTheStreamLimit) {
  RawClient r;
  r.server.settings.max_concurrent_streams = 1;
  r.server.settings.max_resets = 20;
  r.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  r.start();
  for (int i = 0; i < 30 && r.server.connection; ++i) {
    r.peer->headers(2 * i + 1, RawPeer::get(), false);
    r.peer->read(4);
  }
  EXPECT_EQ(r.server.exchanges.size(), 1u);
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
}

TEST(Http2Limits, RapidReset) {
  RawClient r;
  r.server.settings.max_resets = 50;
  r.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  r.start();
  for (int i = 0; i < 51 && r.server.connection; ++i) {
    r.peer->headers(2 * i + 1, RawPeer::get());
    r.peer->send(RawPeer::frame(NGHTTP2_RST_STREAM, 0, 2 * i + 1, RawPeer::u32(NGHTTP2_CANCEL)));
    if (i == 49) {
      r.peer->read();
      EXPECT_EQ(r.peer->goaway(), -1);
    }
  }
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_TRUE(r.peer->eof);
  for (auto& e : r.server.exchanges) EXPECT_EQ(e->resets, 1);
}

TEST(Http2Limits, ResetsMayFollowTheUseOfTheConnection) {
  RawClient r;
  r.server.settings.max_resets = 5;
  r.start();
  int32_t id = 1;
  for (int i = 0; i < 30; ++i, id += 2) {
    r.peer->headers(id, RawPeer::get());
    r.peer->read(4);
    r.server.exchanges.back()->finish();
  }
  r.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  for (int i = 0; i < 30; ++i, id += 2) {
    r.peer->headers(id, RawPeer::get());
    r.peer->send(RawPeer::frame(NGHTTP2_RST_STREAM, 0, id, RawPeer::u32(NGHTTP2_CANCEL)));
    r.peer->read(4);
  }
  EXPECT_EQ(r.peer->goaway(), -1);
}

TEST(Http2Limits, ResetsThatThePeerProvokesCountToo) {
  RawClient r;
  r.server.settings.max_resets = 50;
  r.start();
  for (int i = 0; i < 60 && r.server.connection; ++i) {
    r.peer->headers(2 * i + 1, RawPeer::get({{"te", "gzip"}}));
    r.peer->read(4);
  }
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
}

TEST(Http2Limits, Floods) {
  const std::string ping(8, 'p');
  struct Case {
    const char* name;
    uint8_t type, flags;
    int32_t stream;
    std::string payload;
    uint32_t Http2Settings::* limit;
  };
  const Case cases[] = {
      {"settings", NGHTTP2_SETTINGS, 0, 0, "", &Http2Settings::max_settings_frames},
      {"ping", NGHTTP2_PING, 0, 0, ping, &Http2Settings::max_ping_frames},
      {"ping answers", NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, ping, &Http2Settings::max_ping_frames},
      {"priority", NGHTTP2_PRIORITY, 0, 3, RawPeer::u32(0) + "\x10", &Http2Settings::max_priority_frames},
      {"priority update", NGHTTP2_PRIORITY_UPDATE, 0, 0, RawPeer::u32(1) + "u=1", &Http2Settings::max_priority_frames},
      {"window", NGHTTP2_WINDOW_UPDATE, 0, 0, RawPeer::u32(1), &Http2Settings::max_window_update_frames},
      {"stream window", NGHTTP2_WINDOW_UPDATE, 0, 1, RawPeer::u32(1), &Http2Settings::max_window_update_frames},
      {"empty data", NGHTTP2_DATA, 0, 1, "", &Http2Settings::max_empty_frames},
      {"padding", NGHTTP2_DATA, NGHTTP2_FLAG_PADDED, 1, '\xff' + std::string(255, '\0'),
       &Http2Settings::max_empty_frames},
      {"unknown", 0xee, 0, 0, "abc", &Http2Settings::max_unknown_frames},
  };
  for (const Case& flood : cases) {
    RawClient r;
    r.server.settings.*flood.limit = 40;
    r.start();
    r.peer->headers(1, RawPeer::get(), false);
    const std::string frame = RawPeer::frame(flood.type, flood.flags, flood.stream, flood.payload);
    for (int i = 0; i < 30; ++i) r.peer->send(frame);
    r.peer->read();
    EXPECT_EQ(r.peer->goaway(), -1) << flood.name;
    for (int i = 0; i < 50; ++i) r.peer->send(frame);
    r.peer->read();
    EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM) << flood.name;
    EXPECT_TRUE(r.peer->eof) << flood.name;
    EXPECT_EQ(r.server.exchanges[0]->error, StreamError::kOverload);
  }
}

TEST(Http2Limits, FloodBudgetIsRenewed) {
  RawClient r;
  r.server.settings.max_ping_frames = 10;
  r.server.settings.flood_window_ms = 30;
  r.start();
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 9; ++i) r.peer->send(RawPeer::frame(NGHTTP2_PING, 0, 0, "12345678"));
    r.peer->read();
    pump_ms(r.loop, 40);
  }
  EXPECT_EQ(r.peer->goaway(), -1);
  EXPECT_EQ(r.peer->count(NGHTTP2_PING), 27u);
}

TEST(Http2Limits, ContinuationFlood) {
  RawClient r;
  r.start();
  r.peer->send(RawPeer::frame(NGHTTP2_HEADERS, 0, 1, RawPeer::block(RawPeer::get())));
  for (int i = 0; i < 20; ++i) r.peer->send(RawPeer::frame(NGHTTP2_CONTINUATION, 0, 1, ""));
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_EQ(r.server.exchanges.size(), 0u);
}

TEST(Http2Limits, AnswersThatNobodyReadsAreBounded) {
  RawClient r;
  r.server.settings.max_ping_frames = 1'000'000;
  r.server.settings.output_bytes = 4096;
  r.server.settings.max_queued_frames = 200;
  r.server.settings.linger_ms = 50;
  r.start();
  const std::string ping = RawPeer::frame(NGHTTP2_PING, 0, 0, "12345678");
  for (int i = 0; i < 40'000 && r.server.connection; ++i) {
    r.peer->send(ping);
    if (i % 100 == 0) r.loop.run_once(0);
  }
  pump_ms(r.loop, 80);
  EXPECT_TRUE(r.server.closed);
}

TEST(Http2Limits, FramesOfClosedStreams) {
  // Ended by the client: a connection error.
  {
    RawClient r;
    r.start();
    r.peer->headers(1, RawPeer::get());
    r.peer->read();
    r.server.exchanges[0]->finish();
    r.peer->data(1, "x");
    r.peer->read();
    EXPECT_EQ(r.peer->goaway(), NGHTTP2_STREAM_CLOSED);
  }
  // Reset by us: what crosses the reset is ignored, and its window given back.
  {
    RawClient r;
    r.start();
    r.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
      std::exchange(e.stream, nullptr)->reset(StreamError::kCancelled);
    };
    r.peer->headers(1, RawPeer::get(), false);
    r.peer->read();
    EXPECT_EQ(r.peer->reset(1), NGHTTP2_CANCEL);
    for (int i = 0; i < 60; ++i) r.peer->data(1, std::string(16'000, 'x'));
    r.peer->headers(1, {{"x", "trailer"}});
    r.peer->read();
    EXPECT_EQ(r.peer->goaway(), -1);
    EXPECT_TRUE(r.peer->find(NGHTTP2_WINDOW_UPDATE, 0));
  }
  // A smaller id than the last one.
  RawClient r;
  r.start();
  r.peer->headers(5, RawPeer::get());
  r.peer->headers(3, RawPeer::get());
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_PROTOCOL_ERROR);
}

TEST(Http2Limits, HeldBytesBoundTheConnectionWindow) {
  RawClient r;
  r.server.settings.connection_window = 100'000;
  r.server.settings.max_held_bytes = 50'000;
  r.start();
  r.server.request_hook = [](ServerExchange& e, RequestHead&, bool) { e.stream->pause(); };
  for (int i = 0; i < 4; ++i) r.peer->headers(2 * i + 1, RawPeer::get(), false);
  r.peer->read();
  r.peer->frames.clear();
  // 60,000 bytes on the first stream stay; then the window is no longer returned.
  for (int stream = 1; stream <= 3; stream += 2) {
    for (int i = 0; i < 6; ++i) r.peer->data(stream, std::string(10'000, 'x'));
  }
  r.peer->read();
  EXPECT_EQ(r.peer->count(NGHTTP2_WINDOW_UPDATE, 0), 1u);
  EXPECT_EQ(r.peer->count(NGHTTP2_WINDOW_UPDATE, 1), 0u);
  r.peer->frames.clear();
  r.server.exchanges[0]->stream->resume();
  r.server.exchanges[1]->stream->resume();
  r.peer->read();
  EXPECT_EQ(r.server.exchanges[0]->received, 60'000u);
  EXPECT_EQ(r.server.exchanges[1]->received, 60'000u);
  EXPECT_EQ(r.peer->count(NGHTTP2_WINDOW_UPDATE, 0), 1u);
  EXPECT_EQ(r.peer->count(NGHTTP2_WINDOW_UPDATE, 1), 1u);
}

TEST(Http2Limits, SmallHeldFramesAreGathered) {
  RawClient r;
  r.server.settings.max_empty_frames = 100;
  r.start();
  r.server.request_hook = [](ServerExchange& e, RequestHead&, bool) { e.stream->pause(); };
  r.peer->headers(1, RawPeer::get(), false);
  r.peer->read();
  const size_t before = block_pool_stats().in_use_bytes;
  for (int i = 0; i < 30'000; ++i) {
    r.peer->data(1, "x");
    if (i % 50 == 0) r.loop.run_once(0);
  }
  r.peer->read();
  EXPECT_LT(block_pool_stats().in_use_bytes - before, 100'000u);
  r.server.exchanges[0]->stream->resume();
  r.peer->read();
  EXPECT_EQ(r.server.exchanges[0]->received, 30'000u);
}

TEST(Http2Limits, Timeouts) {
  {
    RawClient r;
    r.server.settings.preface_timeout_ms = 30;
    r.start(false);
    pump_ms(r.loop, 50);
    r.peer->read();
    EXPECT_EQ(r.peer->goaway(), NGHTTP2_SETTINGS_TIMEOUT);
  }
  {
    RawClient r;
    r.server.settings.header_timeout_ms = 30;
    r.start();
    const std::string frame = RawPeer::frame(NGHTTP2_HEADERS, kEnd, 1, RawPeer::block(RawPeer::get()));
    for (const char c : frame.substr(0, 20)) {
      r.peer->send({&c, 1});
      pump_ms(r.loop, 3);
    }
    r.peer->read();
    EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
  }
  RawClient r;
  r.server.settings.idle_timeout_ms = 60;
  r.server.settings.header_timeout_ms = 30;
  r.start();
  r.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  r.peer->headers(1, RawPeer::get());
  pump_ms(r.loop, 100);
  EXPECT_FALSE(r.server.closed);  // a stream is open
  r.server.exchanges[0]->answer(200, "x");
  r.server.exchanges[0]->finish();
  pump_ms(r.loop, 30);
  r.peer->send(RawPeer::frame(NGHTTP2_PING, 0, 0, "12345678"));
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), -1);
  pump_ms(r.loop, 40);
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_NO_ERROR);
  EXPECT_TRUE(r.peer->eof);
}

TEST(Http2Limits, DrainWaitsForTheClientToSeeIt) {
  RawClient r;
  r.server.settings.drain_notice_ms = 40;
  r.start();
  r.server.connection->drain();
  r.peer->read();
  ASSERT_EQ(r.peer->count(NGHTTP2_GOAWAY), 1u);
  EXPECT_EQ(r.peer->frames.back().type, NGHTTP2_PING);
  EXPECT_EQ(r.peer->find(NGHTTP2_GOAWAY)->payload.substr(0, 4), "\x7f\xff\xff\xff");
  r.peer->headers(1, RawPeer::get());  // sent before the GOAWAY was seen
  r.peer->read();
  EXPECT_TRUE(r.peer->find(NGHTTP2_DATA, 1));
  r.server.exchanges[0]->finish();
  pump_ms(r.loop, 60);
  r.peer->read();
  ASSERT_EQ(r.peer->count(NGHTTP2_GOAWAY), 2u);
  EXPECT_EQ(r.peer->frames.back().payload.substr(0, 4), RawPeer::u32(1));
  EXPECT_TRUE(r.peer->eof);
}

TEST(Http2Limits, StreamIdsRunOut) {
  RawClient r;
  r.start();
  r.peer->headers(0x7fff'ff01, RawPeer::get());
  r.peer->read();
  EXPECT_TRUE(r.peer->find(NGHTTP2_DATA, 0x7fff'ff01));
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_NO_ERROR);
}

TEST(Http2Limits, BadPreface) {
  RawClient r;
  r.start(false);
  r.peer->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_PROTOCOL_ERROR);
  EXPECT_TRUE(r.peer->eof);
}

TEST(Http2Limits, EofInTheMiddleOfAFrame) {
  RawClient r;
  r.start();
  r.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  r.peer->headers(1, RawPeer::get(), false);
  r.peer->send(RawPeer::frame(NGHTTP2_DATA, 1, 1, "123456").substr(0, 12));
  r.peer->read();
  EXPECT_EQ(r.server.exchanges[0]->body, "123");
  shutdown(r.peer->fd, SHUT_WR);
  r.peer->read();
  EXPECT_EQ(r.server.exchanges[0]->error, StreamError::kConnectionClosed);
  EXPECT_EQ(r.server.exchanges[0]->resets, 1);
  EXPECT_TRUE(r.server.closed);
}

TEST(Http2Limits, BytesReadBeforeAndSmallPieces) {
  event::Loop loop;
  SocketPair pair;
  TestServer server(loop);
  std::string bytes = std::string(NGHTTP2_CLIENT_MAGIC) + RawPeer::frame(NGHTTP2_SETTINGS, 0, 0, "") +
                      RawPeer::frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, RawPeer::block(RawPeer::get())) +
                      RawPeer::frame(NGHTTP2_DATA, 0, 1, std::string(16'000, 'a')) +
                      RawPeer::frame(NGHTTP2_DATA, 1, 1, std::string(16'000, 'b'));
  server.connection =
      new Http2ServerConnection(loop, net::Stream(pair.fd[0]), ConnectionInfo(), server.settings, server, server);
  server.connection->start(Slice::copy(std::string_view(bytes).substr(0, 100)));
  RawPeer peer(loop, pair.fd[1]);
  for (size_t i = 100; i < 400; ++i) {
    peer.send({&bytes[i], 1});
    loop.run_once(0);
  }
  peer.send(std::string_view(bytes).substr(400));
  peer.read();
  EXPECT_TRUE(server.exchanges[0]->body == std::string(16'000, 'a') + std::string(16'000, 'b'));
  server.connection->close_now();
  pump(loop);
}

// All in one piece, more than one input block: the first bytes of the body must not be overwritten
// by what follows.
TEST(Http2Limits, FirstBytesOfAConnection) {
  RawClient r;
  r.start(false);
  std::string body;
  for (int i = 0; i < 60'000; ++i) body += static_cast<char>(i * 31 + i / 256);
  std::string bytes = std::string(NGHTTP2_CLIENT_MAGIC) + RawPeer::frame(NGHTTP2_SETTINGS, 0, 0, "") +
                      RawPeer::frame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, 1, RawPeer::block(RawPeer::get()));
  for (size_t at = 0; at < body.size(); at += 15'000) {
    bytes += RawPeer::frame(NGHTTP2_DATA, at + 15'000 == body.size(), 1, body.substr(at, 15'000));
  }
  r.server.request_hook = [](ServerExchange& e, RequestHead&, bool) { e.keep_slices = true; };
  r.peer->send(bytes);
  r.peer->read();
  EXPECT_TRUE(r.server.exchanges[0]->slices.to_string<std::string>() == body);
}

}  // namespace
}  // namespace sluice::http::test
