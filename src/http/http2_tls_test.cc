// The HTTP/2 codec over TLS: what is decrypted but not yet read brings no edge, and what is
// encrypted but not yet sent must leave.

#include "http/http2_test_peer.h"
#include "net/tls_context.h"
#include "net/tls_session.h"
#include "net/tls_test_certs.h"

namespace sluice::http::test {
namespace {

struct OneContext final : net::TlsServerSelector {
  std::shared_ptr<const net::TlsContext> context;
  std::shared_ptr<const net::TlsContext> select(std::string_view) override { return context; }
};

TEST(Http2Tls, BodiesBothWays) {
  const net::TestCertificate ca = net::make_test_ca();
  const net::TestCertificate leaf = net::make_test_certificate({.sans = "DNS:a.example"}, &ca);
  net::TlsServerConfig server_config;
  server_config.certificate_pem = leaf.certificate_pem();
  server_config.private_key_pem = leaf.key_pem();
  server_config.alpn = {"h2"};
  net::TlsClientConfig client_config;
  client_config.sni = "a.example";
  client_config.ca_pem = ca.certificate_pem();
  client_config.alpn = {"h2"};
  OneContext selector;
  selector.context = *net::TlsContext::server(server_config);

  SocketPair pair;
  auto server_tls = net::TlsSession::accept(pair.fd[0], selector);
  auto client_tls = net::TlsSession::connect(pair.fd[1], *net::TlsContext::client(client_config));
  for (int i = 0; i < 100 && !(server_tls->handshake_done() && client_tls->handshake_done()); ++i) {
    client_tls->handshake();
    server_tls->handshake();
  }
  ASSERT_EQ(client_tls->alpn(), "h2");

  const size_t blocks = block_pool_stats().in_use_bytes;
  event::Loop loop;
  TestServer server(loop);
  TestClient client(loop);
  net::Stream server_stream(pair.fd[0]), client_stream(pair.fd[1]);
  server_stream.set_tls(std::move(server_tls));
  client_stream.set_tls(std::move(client_tls));
  server.connection =
      new Http2ServerConnection(loop, std::move(server_stream), ConnectionInfo(), server.settings, server, server);
  ASSERT_TRUE(server.connection->start(Slice()));
  client.connection = new Http2ClientConnection(loop, std::move(client_stream), client.settings, client);
  ASSERT_TRUE(client.connection->start(false));

  const std::string text(2'000'000, 'x');
  server.request_hook = [](ServerExchange& e, RequestHead&, bool) {
    ResponseHead head;
    head.status = 200;
    head.headers = HeaderMap(e.head->headers.arena());
    e.stream->send_head(head, false);
    e.data_hook = [](ServerExchange& e) {
      e.stream->send_data(Slice::copy(e.body), e.ended);
      e.body.clear();
      if (e.stream->buffered() > 100'000) e.stream->pause();
      if (e.ended) e.finish();
    };
    e.drained_hook = [](ServerExchange& e) { e.stream->resume(); };
  };
  auto x = client.request("POST", "/", false);
  x->end_hook = [](ClientExchange& x) { x.detach(); };
  x->stream->send_data(Slice::copy(text), true);
  for (int i = 0; i < 100 && !x->ended; ++i) pump(loop);
  EXPECT_TRUE(x->body == text);
  pump(loop);
  EXPECT_EQ(block_pool_stats().in_use_bytes, blocks + x->memory.capacity() + Block::kHeaderSize);

  client.connection->drain();
  pump(loop);
  EXPECT_TRUE(client.closed);
  EXPECT_TRUE(server.closed);
}

}  // namespace
}  // namespace sluice::http::test
