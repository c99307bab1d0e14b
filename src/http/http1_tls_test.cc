// Http1ServerConnection over TLS: what is encrypted but has not left must leave before the connection ends.

#include "http/http1_server_test_peer.h"
#include "net/tls_session.h"
#include "net/tls_test_certs.h"
#include "net/tls_test_pair.h"

namespace sluice::http {
namespace {

using namespace http1_test;

// A server whose socket takes a few KiB at a time, and a client that has done the handshake.
struct TlsHarness : Harness {
  TlsHarness() {
    const net::TestCertificate ca = net::make_test_ca();
    const net::TestCertificate leaf = net::make_test_certificate({.sans = "DNS:a.example"}, &ca);
    net::TlsServerConfig server_config;
    server_config.certificate_pem = leaf.certificate_pem();
    server_config.private_key_pem = leaf.key_pem();
    net::TlsClientConfig client_config;
    client_config.sni = "a.example";
    client_config.ca_pem = ca.certificate_pem();
    net::MapSelector selector(*net::TlsContext::server(server_config));

    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
    const int small = 4096;
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    auto server_tls = net::TlsSession::accept(fds[0], selector);
    client = net::TlsSession::connect(fds[1], *net::TlsContext::client(client_config));
    for (int i = 0; i < 100 && !(server_tls->handshake_done() && client->handshake_done()); ++i) {
      client->handshake();
      server_tls->handshake();
      if (server_tls->has_pending_output()) (void)server_tls->flush();
    }
    net::Stream stream(fds[0]);
    stream.set_tls(std::move(server_tls));
    serve(std::move(stream), fds[1]);
  }

  void ask(std::string_view request) {
    EXPECT_EQ(net::TlsPair::write(*client, request).bytes, request.size());
    turns(loop);
  }
  // All that the server sends until the end; `ending` is how it ended.
  std::string read_to_end() {
    std::string all;
    for (int i = 0; i < 1000 && ending == net::IoStatus::kAgain; ++i) {
      all += net::TlsPair::drain(*client, &ending);
      turns(loop, 2);
    }
    return all;
  }

  std::unique_ptr<net::TlsSession> client;
  net::IoStatus ending = net::IoStatus::kAgain;
};

const std::string kBody(40'000, 'x');
constexpr std::string_view kLastRequest = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

// The codec's queue is empty, and most of the response is ciphertext that the socket does not take, when the handler
// goes.
TEST(Http1Tls, ResponseLeavesBeforeTheConnectionEnds) {
  TlsHarness h;
  h.on_request_hook = [](Exchange& e, bool) {
    e.send_head(200, static_cast<int64_t>(kBody.size()), false);
    e.stream->send_data(Slice::copy(kBody), true);
  };
  h.ask(kLastRequest);
  Exchange& exchange = h.last();
  ASSERT_EQ(exchange.stream->buffered(), 0u);
  EXPECT_EQ(exchange.events, "H!") << "not drained: it has not left the process";
  exchange.detach();
  EXPECT_FALSE(h.closed);
  const std::string all = h.read_to_end();
  EXPECT_TRUE(all.ends_with("\r\n\r\n" + kBody)) << all.size();
  EXPECT_EQ(h.ending, net::IoStatus::kEof);
  EXPECT_FALSE(h.client->truncated());
}

TEST(Http1Tls, DrainedMeansThatItHasLeft) {
  TlsHarness h;
  h.on_request_hook = [](Exchange& e, bool) {
    e.on_drained_hook = [](Exchange& x) { x.detach(); };
    e.send_head(200, static_cast<int64_t>(kBody.size()), false);
    e.stream->send_data(Slice::copy(kBody), true);
  };
  h.ask(kLastRequest);
  EXPECT_NE(h.exchanges[0]->stream, nullptr);
  EXPECT_TRUE(h.read_to_end().ends_with(kBody));
  EXPECT_EQ(h.exchanges[0]->stream, nullptr);
  EXPECT_EQ(h.ending, net::IoStatus::kEof);
  EXPECT_FALSE(h.client->truncated());
}

// The client ends its direction while the response to its last request waits: that is no reason to cut it.
TEST(Http1Tls, HalfCloseDoesNotCutTheResponse) {
  TlsHarness h;
  h.on_request_hook = [](Exchange& e, bool) {
    e.send_head(200, static_cast<int64_t>(kBody.size()), false);
    e.stream->send_data(Slice::copy(kBody), true);
    e.detach();
  };
  h.ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  h.client->shutdown();
  ::shutdown(h.fd, SHUT_WR);
  turns(h.loop);
  EXPECT_TRUE(h.read_to_end().ends_with(kBody));
  EXPECT_EQ(h.ending, net::IoStatus::kEof);
  EXPECT_FALSE(h.client->truncated());
}

}  // namespace
}  // namespace sluice::http
