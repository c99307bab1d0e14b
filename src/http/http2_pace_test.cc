// Peers that send or read too slowly, and those that only look like it.

#include "http/http2_test_peer.h"

namespace sluice::http::test {
namespace {

const Fields kPost{{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}};

Fields post(const Fields& more) {
  Fields fields = kPost;
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

// 100 bytes in 100 ms are enough.
struct SlowBody : RawClient {
  SlowBody() {
    server.settings.min_body_rate = 1000;
    server.settings.body_rate_window_ms = 100;
    server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
    start();
  }
  // One byte every 20 ms.
  void trickle(int32_t stream, int bytes) {
    for (int i = 0; i < bytes && server.connection; ++i) {
      peer->data(stream, "x");
      pump_ms(loop, 20);
    }
    peer->read();
  }
  ServerExchange& exchange(size_t i = 0) { return *server.exchanges.at(i); }
};

TEST(Http2Pace, SlowBodyIs408) {
  SlowBody r;
  r.peer->headers(1, kPost, false);
  r.trickle(1, 2);
  EXPECT_EQ(r.exchange().resets, 0);
  r.trickle(1, 5);
  EXPECT_EQ(r.exchange().resets, 1);
  EXPECT_EQ(r.exchange().error, StreamError::kTimeout);
  EXPECT_EQ(r.server.refused, std::vector<int>{408});
  ASSERT_TRUE(r.peer->find(NGHTTP2_HEADERS, 1));
  EXPECT_EQ(RawPeer::status(*r.peer->find(NGHTTP2_HEADERS, 1)), "408");
  EXPECT_EQ(r.peer->reset(1), NGHTTP2_NO_ERROR);
  // The connection goes on.
  r.peer->headers(3, RawPeer::get());
  r.peer->read();
  EXPECT_EQ(r.server.exchanges.size(), 2u);
  EXPECT_EQ(r.peer->goaway(), -1);
}

TEST(Http2Pace, EnoughOfABodyIsEnough) {
  SlowBody r;
  r.peer->headers(1, kPost, false);
  for (int i = 0; i < 25; ++i) {
    r.peer->data(1, std::string(60, 'x'));
    pump_ms(r.loop, 20);
  }
  r.peer->data(1, "", true);
  r.peer->read();
  EXPECT_EQ(r.exchange().events.back(), '!');
  EXPECT_EQ(r.exchange().resets, 0);
}

TEST(Http2Pace, WhoMayBeSlow) {
  SlowBody r;
  r.peer->headers(1, post({{"content-type", "application/grpc+proto"}, {"te", "trailers"}}), false);
  r.peer->headers(
      3, {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}},
      false);
  r.peer->headers(5, post({{"expect", "100-continue"}}), false);
  r.peer->headers(7, kPost, false);
  r.peer->headers(9, kPost, false);
  r.peer->read();
  r.exchange(3).stream->pause();  // we do not take it
  ResponseHead head;
  head.status = 200;
  r.exchange(4).stream->send_head(head, false);  // both sides talk
  pump_ms(r.loop, 250);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(r.exchange(i).resets, 0) << i;
  // Once they are asked for it, they owe it.
  r.exchange(2).head->expect_continue = false;
  r.exchange(3).stream->resume();
  pump_ms(r.loop, 250);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(r.exchange(i).resets, i == 2 || i == 3) << i;
}

TEST(Http2Pace, RateOffMeansOff) {
  RawClient r;
  r.server.settings.min_body_rate = 0;
  r.server.settings.body_rate_window_ms = 20;
  r.server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
  r.start();
  r.peer->headers(1, kPost, false);
  pump_ms(r.loop, 100);
  EXPECT_EQ(r.server.exchanges[0]->resets, 0);
}

// A client that offers `window` per stream, and 100 bytes in 100 ms are enough.
struct SlowReader : RawClient {
  explicit SlowReader(uint32_t window) {
    server.settings.min_body_rate = 1000;
    server.settings.write_timeout_ms = 100;
    server.request_hook = [](ServerExchange&, RequestHead&, bool) {};
    start();
    peer->send(RawPeer::frame(NGHTTP2_SETTINGS, 0, 0, std::string("\0\x04", 2) + RawPeer::u32(window)));
    peer->read();
  }
  ServerExchange& respond(int32_t stream, std::string_view body, bool end = true) {
    peer->headers(stream, RawPeer::get());
    peer->read();
    ServerExchange& exchange = *server.exchanges.back();
    ResponseHead head;
    head.status = 200;
    exchange.stream->send_head(head, false);
    exchange.stream->send_data(Slice::copy(body), end);
    return exchange;
  }
  void credit(int32_t stream, uint32_t bytes) {
    peer->send(RawPeer::frame(NGHTTP2_WINDOW_UPDATE, 0, stream, RawPeer::u32(bytes)));
  }
};

TEST(Http2Pace, ZeroWindowEndsTheStream) {
  SlowReader r(0);
  ServerExchange& stuck = r.respond(1, "hello");
  pump_ms(r.loop, 60);
  EXPECT_EQ(stuck.resets, 0);
  pump_ms(r.loop, 80);
  r.peer->read();
  EXPECT_EQ(stuck.error, StreamError::kTimeout);
  EXPECT_EQ(r.peer->reset(1), NGHTTP2_CANCEL);
  EXPECT_EQ(r.peer->goaway(), -1);
}

TEST(Http2Pace, DrippingWindowEndsTheStream) {
  SlowReader r(0);
  ServerExchange& stuck = r.respond(1, std::string(5000, 'x'));
  for (int i = 0; i < 12; ++i) {
    r.credit(1, 1);
    pump_ms(r.loop, 15);
  }
  r.peer->read();
  EXPECT_GE(r.peer->count(NGHTTP2_DATA, 1), 3u);
  EXPECT_EQ(stuck.error, StreamError::kTimeout);
  EXPECT_EQ(r.peer->reset(1), NGHTTP2_CANCEL);
}

TEST(Http2Pace, SlowButEnough) {
  SlowReader r(0);
  ServerExchange& slow = r.respond(1, std::string(1200, 'x'));
  slow.drained_hook = [](ServerExchange& e) { e.finish(); };
  for (int i = 0; i < 20; ++i) {
    r.credit(1, 60);
    pump_ms(r.loop, 20);
  }
  r.peer->read();
  EXPECT_EQ(slow.resets, 0);
  EXPECT_EQ(slow.stream, nullptr) << "the response has left";
}

TEST(Http2Pace, QuietStreamsAreNotSlow) {
  SlowReader r(65'535);
  ServerExchange& events = r.respond(1, "event", false);
  for (int i = 0; i < 3; ++i) {
    pump_ms(r.loop, 150);
    events.stream->send_data(Slice::copy("event"), false);
    r.peer->read();
  }
  EXPECT_EQ(events.resets, 0);
  EXPECT_EQ(r.peer->count(NGHTTP2_DATA, 1), 4u);
}

// The connection's window is all streams' business: it ends the connection, and no stream that shares it fairly.
TEST(Http2Pace, ClosedConnectionWindowEndsTheConnection) {
  SlowReader r(1 << 20);
  ServerExchange& first = r.respond(1, std::string(60'000, 'x'));
  ServerExchange& second = r.respond(3, std::string(60'000, 'x'));
  pump_ms(r.loop, 50);
  r.credit(0, 40'000);
  pump_ms(r.loop, 60);
  r.peer->read();
  EXPECT_EQ(first.resets + second.resets, 0);
  pump_ms(r.loop, 250);
  r.peer->read();
  EXPECT_EQ(r.peer->goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
  EXPECT_EQ(second.error, StreamError::kTimeout);
  EXPECT_TRUE(r.peer->eof);
}

TEST(Http2Pace, SocketThatNobodyReads) {
  SlowReader r(16 << 20);
  r.credit(0, 16 << 20);
  ServerExchange& stuck = r.respond(1, std::string(8 << 20, 'x'));
  pump_ms(r.loop, 60);
  EXPECT_EQ(stuck.resets, 0);
  pump_ms(r.loop, 100);
  EXPECT_EQ(stuck.error, StreamError::kTimeout);
  EXPECT_TRUE(r.server.closed);
}

// Both sides have ended a tunnel; its handler still passes on what it got when the client goes.
TEST(Http2Pace, CompleteTunnelIsNotReset) {
  RawClient r;
  r.server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    ResponseHead head;
    head.status = 200;
    head.upgrade = true;
    e.stream->send_head(head, false);
  };
  r.start();
  r.peer->headers(
      1, {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}},
      false);
  r.peer->data(1, "last words", true);
  r.peer->read();
  ServerExchange& tunnel = *r.server.exchanges.at(0);
  EXPECT_EQ(tunnel.body, "last words");
  tunnel.stream->send_data(Slice::copy("bye"), true);
  r.peer->read();
  EXPECT_TRUE(r.peer->find(NGHTTP2_DATA, 1));
  shutdown(r.peer->fd, SHUT_RDWR);
  r.peer->read();
  EXPECT_EQ(tunnel.resets, 0);
  EXPECT_FALSE(r.server.closed);
  tunnel.finish();
  r.peer->read();
  EXPECT_TRUE(r.server.closed);
}

}  // namespace
}  // namespace sluice::http::test
