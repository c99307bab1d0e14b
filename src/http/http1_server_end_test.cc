// Http1ServerConnection: how exchanges and connections end, in order, too early, too late and too slowly.

#include "http/http1_server_test_peer.h"

namespace sluice::http {
namespace {

using namespace http1_test;

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

  Harness waiting;
  waiting.settings = h.settings;
  waiting.on_request_hook = [](Exchange&, bool) {};
  waiting.start();
  waiting.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999\r\nexpect: 100-continue\r\n\r\n");
  waiting.wait(100);
  EXPECT_EQ(waiting.last().resets, 0) << "nor is who waits to be asked";

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

}  // namespace
}  // namespace sluice::http
