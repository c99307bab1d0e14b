#include "net/tls_session.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "base/block.h"
#include "net/tls_test_certs.h"
#include "net/tls_test_pair.h"
#include "net/tls_ticket_keys.h"

namespace sluice::net {
namespace {

using ClientAuth = TlsServerConfig::ClientAuth;

const TestCertificate& ca() {
  static const TestCertificate certificate = make_test_ca();
  return certificate;
}

const TestCertificate& leaf() {
  static const TestCertificate certificate =
      make_test_certificate({.common_name = "leaf", .sans = "DNS:a.example,DNS:*.b.example,IP:10.0.0.1"}, &ca());
  return certificate;
}

const TestCertificate& client_leaf() {
  static const TestCertificate certificate = make_test_certificate(
      {.common_name = "client", .sans = "URI:spiffe://cluster/ns/a/sa/b,DNS:client.example"}, &ca());
  return certificate;
}

TlsServerConfig server_config() {
  TlsServerConfig config;
  config.certificate_pem = leaf().certificate_pem();
  config.private_key_pem = leaf().key_pem();
  return config;
}

TlsClientConfig client_config() {
  TlsClientConfig config;
  config.sni = "a.example";
  config.ca_pem = ca().certificate_pem();
  return config;
}

std::shared_ptr<const TlsContext> server_context(const TlsServerConfig& config) {
  auto context = TlsContext::server(config);
  EXPECT_TRUE(context) << context.error().message;
  return *context;
}

std::shared_ptr<const TlsContext> client_context(const TlsClientConfig& config) {
  auto context = TlsContext::client(config);
  EXPECT_TRUE(context) << context.error().message;
  return *context;
}

// Hand over a byte each way, so that TLS 1.3 tickets reach the client.
void exchange(TlsPair& pair) {
  EXPECT_EQ(TlsPair::write(*pair.client, "ping").bytes, 4u);
  EXPECT_EQ(TlsPair::drain(*pair.server), "ping");
  EXPECT_EQ(TlsPair::write(*pair.server, "pong").bytes, 4u);
  EXPECT_EQ(TlsPair::drain(*pair.client), "pong");
}

TEST(TlsSession, HandshakesWithBothVersions) {
  for (TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    MapSelector selector(server_context(server_config()));
    TlsClientConfig config = client_config();
    config.min_version = config.max_version = version;
    TlsPair pair(selector, client_context(config));
    ASSERT_TRUE(pair.handshake()) << pair.client->error_text() << pair.server->error_text();
    bool is13 = version == TlsVersion::kTls13;
    EXPECT_EQ(pair.server->version(), is13 ? "TLSv1.3" : "TLSv1.2");
    EXPECT_EQ(pair.client->version(), is13 ? "TLSv1.3" : "TLSv1.2");
    EXPECT_EQ(pair.server->cipher(), is13 ? "TLS_AES_128_GCM_SHA256" : "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    EXPECT_EQ(pair.client->group(), "X25519");
    EXPECT_EQ(pair.server->sni(), "a.example");
    EXPECT_EQ(pair.server->alpn(), "");
    EXPECT_FALSE(pair.server->resumed());
    EXPECT_FALSE(pair.server->peer_certificate());
    EXPECT_TRUE(pair.client->peer_certificate());
    exchange(pair);
  }
}

TEST(TlsSession, WorksWithRsaCertificates) {
  TestCertificate rsa = make_test_certificate({.sans = "DNS:a.example", .rsa_bits = 2048}, &ca());
  for (TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    TlsServerConfig config;
    config.certificate_pem = rsa.certificate_pem();
    config.private_key_pem = rsa.key_pem();
    config.max_version = version;
    MapSelector selector(server_context(config));
    TlsPair pair(selector, client_context(client_config()));
    ASSERT_TRUE(pair.handshake()) << pair.client->error_text();
    exchange(pair);
  }
}

TEST(TlsSession, AgreesOnTheConfiguredGroup) {
  for (std::string group : {"X25519MLKEM768", "P-256"}) {
    TlsServerConfig config = server_config();
    config.groups = group;
    MapSelector selector(server_context(config));
    TlsClientConfig client = client_config();
    client.groups = "X25519:P-256:X25519MLKEM768";
    TlsPair pair(selector, client_context(client));
    ASSERT_TRUE(pair.handshake()) << pair.client->error_text();
    EXPECT_EQ(pair.server->group(), group);
    exchange(pair);
  }
}

TEST(TlsSession, SendsIntermediates) {
  TestCertificate intermediate = make_test_certificate({.common_name = "intermediate", .is_ca = true}, &ca());
  TestCertificate below = make_test_certificate({.sans = "DNS:a.example"}, &intermediate);
  TlsServerConfig config;
  config.certificate_pem = below.certificate_pem() + intermediate.certificate_pem();
  config.private_key_pem = below.key_pem();
  MapSelector selector(server_context(config));
  TlsPair pair(selector, client_context(client_config()));
  ASSERT_TRUE(pair.handshake()) << pair.client->error_text();

  // The intermediate alone is a trust anchor too.
  TlsClientConfig client = client_config();
  client.ca_pem = intermediate.certificate_pem();
  TlsPair partial(selector, client_context(client));
  EXPECT_TRUE(partial.handshake()) << partial.client->error_text();
}

TEST(TlsSession, VersionsWithoutOverlapFail) {
  TlsServerConfig config = server_config();
  config.min_version = TlsVersion::kTls13;
  MapSelector selector(server_context(config));
  TlsClientConfig client = client_config();
  client.max_version = TlsVersion::kTls12;
  TlsPair pair(selector, client_context(client));
  EXPECT_FALSE(pair.handshake());
  EXPECT_EQ(pair.server->error_text(), "TLS handshake: unsupported protocol");
  EXPECT_EQ(pair.client->error_text(), "TLS handshake: the peer refused with the alert \"protocol version\"");
}

TEST(TlsSession, Alpn) {
  auto negotiate = [](std::vector<std::string> server, std::vector<std::string> client, std::string* error = nullptr) {
    TlsServerConfig server_side = server_config();
    server_side.alpn = std::move(server);
    MapSelector selector(server_context(server_side));
    TlsClientConfig client_side = client_config();
    client_side.alpn = std::move(client);
    TlsPair pair(selector, client_context(client_side));
    if (!pair.handshake()) {
      if (error) *error = pair.client->error_text();
      return std::string("refused");
    }
    EXPECT_EQ(pair.server->alpn(), pair.client->alpn());
    return std::string(pair.server->alpn());
  };
  EXPECT_EQ(negotiate({"h2", "http/1.1"}, {"http/1.1", "h2"}), "h2");
  EXPECT_EQ(negotiate({"http/1.1"}, {"h2", "http/1.1"}), "http/1.1");
  EXPECT_EQ(negotiate({"h2"}, {}), "");
  EXPECT_EQ(negotiate({}, {"h2"}), "");
  std::string error;
  EXPECT_EQ(negotiate({"h2"}, {"imap"}, &error), "refused");
  EXPECT_NE(error.find("no application protocol"), std::string::npos) << error;
}

TEST(TlsSession, SelectsByServerName) {
  TestCertificate other = make_test_certificate({.sans = "DNS:other.example"}, &ca());
  TlsServerConfig other_config;
  other_config.certificate_pem = other.certificate_pem();
  other_config.private_key_pem = other.key_pem();
  other_config.alpn = {"h2"};
  other_config.max_version = TlsVersion::kTls12;
  MapSelector selector;
  selector.contexts["a.example"] = server_context(server_config());
  selector.contexts["other.example"] = server_context(other_config);

  TlsClientConfig client = client_config();
  client.alpn = {"h2"};
  auto context = client_context(client);
  TlsPair first(selector, context);
  ASSERT_TRUE(first.handshake());
  EXPECT_EQ(first.client->version(), "TLSv1.3");
  EXPECT_EQ(first.client->alpn(), "");

  TlsPair second(selector, context, {.sni = "OTHER.example"});
  ASSERT_TRUE(second.handshake()) << second.client->error_text();
  EXPECT_EQ(selector.asked, "other.example");
  EXPECT_EQ(second.server->sni(), "other.example");
  EXPECT_EQ(second.client->version(), "TLSv1.2");
  EXPECT_EQ(second.client->alpn(), "h2");
  EXPECT_EQ(second.client->peer_certificate()->dns_sans, std::vector<std::string>{"other.example"});
}

TEST(TlsSession, UnknownServerNameIsRefused) {
  MapSelector selector;
  selector.contexts["a.example"] = server_context(server_config());
  for (TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    TlsClientConfig client = client_config();
    client.sni = "nobody.example";
    client.max_version = version;
    TlsPair pair(selector, client_context(client));
    EXPECT_FALSE(pair.handshake());
    EXPECT_EQ(pair.client->error_text(), "TLS handshake: the peer refused with the alert \"unrecognized name\"");
    EXPECT_EQ(pair.server->error_text(), "TLS handshake: no certificate for the name the client asked for");
    EXPECT_EQ(pair.server->context(), nullptr);
  }
}

TEST(TlsSession, NoServerNameAsksForTheDefault) {
  MapSelector selector(server_context(server_config()));
  selector.asked = "unchanged";
  TlsClientConfig client = client_config();
  client.sni = "10.0.0.1";  // an address: not sent, but verified
  TlsPair pair(selector, client_context(client));
  ASSERT_TRUE(pair.handshake()) << pair.client->error_text();
  EXPECT_EQ(selector.asked, "");
  EXPECT_EQ(pair.server->sni(), "");
}

TEST(TlsSession, WrongServerIsRefused) {
  MapSelector selector(server_context(server_config()));
  auto refused = [&](const TlsClientConfig& client) {
    TlsPair pair(selector, client_context(client));
    EXPECT_FALSE(pair.handshake());
    return pair.client->error_text();
  };
  TlsClientConfig client = client_config();
  client.verify_name = "c.example";
  EXPECT_EQ(refused(client),
            "TLS handshake: certificate verify failed: Hostname mismatch (expected \"c.example\"; "
            "it is for a.example, "
            "*.b.example)");
  client.verify_name = "10.0.0.2";
  EXPECT_NE(refused(client).find("certificate verify failed: IP address mismatch"), std::string::npos)
      << refused(client);
  client = client_config();
  client.ca_pem = make_test_ca("another ca").certificate_pem();
  EXPECT_EQ(refused(client), "TLS handshake: certificate verify failed: unable to get local issuer certificate");

  client.verify = false;
  TlsPair careless(selector, client_context(client));
  EXPECT_TRUE(careless.handshake());
  EXPECT_FALSE(careless.client->peer_certificate());
  client = client_config();
  client.verify_name = "x.b.example";
  TlsPair overridden(selector, client_context(client), {.verify_name = "d.example"});
  EXPECT_FALSE(overridden.handshake());
  EXPECT_NE(overridden.client->error_text().find("expected \"d.example\""), std::string::npos);
  TlsPair wildcard(selector, client_context(client));
  EXPECT_TRUE(wildcard.handshake()) << wildcard.client->error_text();
}

TEST(TlsSession, ExpiredServerIsRefused) {
  TestCertificate old =
      make_test_certificate({.sans = "DNS:a.example", .valid_from = -7200, .valid_for = -3600}, &ca());
  TlsServerConfig config;
  config.certificate_pem = old.certificate_pem();
  config.private_key_pem = old.key_pem();
  config.allow_expired = true;
  MapSelector selector(server_context(config));
  TlsPair pair(selector, client_context(client_config()));
  EXPECT_FALSE(pair.handshake());
  EXPECT_EQ(pair.client->error_text(), "TLS handshake: certificate verify failed: certificate has expired");
  EXPECT_NE(pair.server->error_text().find("certificate expired"), std::string::npos) << pair.server->error_text();
}

TEST(TlsSession, ClientCertificates) {
  for (TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    TlsServerConfig config = server_config();
    config.client_auth = ClientAuth::kRequired;
    config.client_ca_pem = ca().certificate_pem();
    MapSelector required(server_context(config));
    config.client_auth = ClientAuth::kOptional;
    MapSelector optional(server_context(config));

    TlsClientConfig with = client_config();
    with.max_version = version;
    TlsClientConfig without = with, stranger = with;
    with.certificate_pem = client_leaf().certificate_pem();
    with.private_key_pem = client_leaf().key_pem();
    TestCertificate other_ca = make_test_ca("another ca");
    TestCertificate strange = make_test_certificate({.common_name = "stranger"}, &other_ca);
    stranger.certificate_pem = strange.certificate_pem();
    stranger.private_key_pem = strange.key_pem();

    for (MapSelector* selector : {&required, &optional}) {
      TlsPair pair(*selector, client_context(with));
      ASSERT_TRUE(pair.handshake()) << pair.server->error_text();
      exchange(pair);
      auto peer = pair.server->peer_certificate();
      ASSERT_TRUE(peer);
      EXPECT_EQ(peer->subject, "CN=client");
      EXPECT_EQ(peer->uri_sans, std::vector<std::string>{"spiffe://cluster/ns/a/sa/b"});
      EXPECT_EQ(peer->dns_sans, std::vector<std::string>{"client.example"});
      EXPECT_EQ(peer->sha256.size(), 64u);
      EXPECT_EQ(peer->pem, client_leaf().certificate_pem());
      EXPECT_EQ(peer->chain_pem, peer->pem);

      TlsPair wrong(*selector, client_context(stranger));
      wrong.handshake();
      EXPECT_EQ(wrong.server_result.status, IoStatus::kError);
      EXPECT_NE(wrong.server->error_text().find("certificate verify failed"), std::string::npos);
      EXPECT_FALSE(wrong.server->peer_certificate());
    }
    TlsPair anonymous(optional, client_context(without));
    EXPECT_TRUE(anonymous.handshake());
    EXPECT_FALSE(anonymous.server->peer_certificate());
    TlsPair refused(required, client_context(without));
    refused.handshake();
    EXPECT_EQ(refused.server_result.status, IoStatus::kError);
    EXPECT_EQ(refused.server->error_text(), "TLS handshake: peer did not return a certificate");
  }
}

// ---- resumption

class Resumption : public testing::TestWithParam<TlsVersion> {
 protected:
  Resumption() : keys(std::make_shared<TlsTicketKeys>(1)), cache(std::make_shared<TlsSessionCache>()) {
    config = server_config();
    config.ticket_keys = keys;
    TlsClientConfig client_side = client_config();
    client_side.max_version = GetParam();
    client = client_context(client_side);
  }

  // One connection; true if it resumed a session.
  bool connect(const std::shared_ptr<const TlsContext>& server, std::string_view sni = {}) {
    MapSelector selector(server);
    TlsPair pair(selector, client, {.sni = sni, .cache = cache});
    EXPECT_TRUE(pair.handshake()) << pair.client->error_text() << pair.server->error_text();
    exchange(pair);
    EXPECT_EQ(pair.client->resumed(), pair.server->resumed());
    return pair.server->resumed();
  }

  std::shared_ptr<TlsTicketKeys> keys;
  std::shared_ptr<TlsSessionCache> cache;
  TlsServerConfig config;
  std::shared_ptr<const TlsContext> client;
};

INSTANTIATE_TEST_SUITE_P(Versions, Resumption, testing::Values(TlsVersion::kTls12, TlsVersion::kTls13));

TEST_P(Resumption, OnAnotherContextOfTheSameConfiguration) {
  EXPECT_FALSE(connect(server_context(config)));
  EXPECT_TRUE(connect(server_context(config)));
  EXPECT_TRUE(connect(server_context(config)));
}

TEST_P(Resumption, SurvivesAsManyRotationsAsKeysAreKept) {
  EXPECT_FALSE(connect(server_context(config)));
  keys->rotate();
  EXPECT_TRUE(connect(server_context(config)));
  keys->rotate();
  keys->rotate();
  EXPECT_FALSE(connect(server_context(config)));
}

TEST_P(Resumption, NotAcrossConfigurations) {
  EXPECT_FALSE(connect(server_context(config)));
  TlsServerConfig mutual = config;
  mutual.client_auth = ClientAuth::kOptional;
  mutual.client_ca_pem = ca().certificate_pem();
  EXPECT_FALSE(connect(server_context(mutual)));
  cache = std::make_shared<TlsSessionCache>();
  EXPECT_FALSE(connect(server_context(config)));
  TlsServerConfig scoped = config;
  scoped.session_scope = "another host";
  EXPECT_FALSE(connect(server_context(scoped)));
}

TEST_P(Resumption, NotForAnotherName) {
  EXPECT_FALSE(connect(server_context(config)));
  EXPECT_FALSE(connect(server_context(config), "x.b.example"));
  EXPECT_TRUE(connect(server_context(config), "x.b.example"));
}

TEST_P(Resumption, NotWithoutKeys) {
  config.ticket_keys = nullptr;
  EXPECT_FALSE(connect(server_context(config)));
  EXPECT_FALSE(connect(server_context(config)));
}

TEST_P(Resumption, CacheIsBounded) {
  for (int i = 0; i < 10; ++i) connect(server_context(config), "h" + std::to_string(i) + ".b.example");
  EXPECT_LE(cache->size(), 4u);
}

TEST_P(Resumption, KeepsThePeerCertificate) {
  config.client_auth = ClientAuth::kRequired;
  config.client_ca_pem = ca().certificate_pem();
  auto server = server_context(config);
  TlsClientConfig with = client_config();
  with.max_version = GetParam();
  with.certificate_pem = client_leaf().certificate_pem();
  with.private_key_pem = client_leaf().key_pem();
  auto context = client_context(with);
  for (bool resumed : {false, true}) {
    MapSelector selector(server);
    TlsPair pair(selector, context, {.cache = cache});
    ASSERT_TRUE(pair.handshake()) << pair.server->error_text();
    exchange(pair);
    EXPECT_EQ(pair.server->resumed(), resumed);
    ASSERT_TRUE(pair.server->peer_certificate());
    EXPECT_EQ(pair.server->peer_certificate()->subject, "CN=client");
  }
}

// A session of a client that was verified against one CA does not resume where another is asked for: a full handshake
// follows, which that client fails.
TEST_P(Resumption, NotWhenTheClientCaHasChanged) {
  const TestCertificate second_ca = make_test_ca("second ca");
  config.client_auth = ClientAuth::kRequired;
  config.client_ca_pem = ca().certificate_pem();
  auto before = server_context(config);
  config.client_ca_pem = second_ca.certificate_pem();
  auto after = server_context(config);
  TlsClientConfig with = client_config();
  with.max_version = GetParam();
  with.certificate_pem = client_leaf().certificate_pem();
  with.private_key_pem = client_leaf().key_pem();
  client = client_context(with);
  EXPECT_FALSE(connect(before));
  EXPECT_TRUE(connect(before));
  MapSelector selector(after);
  TlsPair pair(selector, client, {.cache = cache});
  pair.handshake();
  EXPECT_EQ(pair.server_result.status, IoStatus::kError);
  EXPECT_NE(pair.server->error_text().find("certificate verify failed"), std::string::npos)
      << pair.server->error_text();
}

TEST_P(Resumption, NotWhenTheClientsCertificateHasExpired) {
  const TestCertificate brief = make_test_certificate({.common_name = "brief", .valid_for = 2}, &ca());
  config.client_auth = ClientAuth::kRequired;
  config.client_ca_pem = ca().certificate_pem();
  auto server = server_context(config);
  TlsClientConfig with = client_config();
  with.max_version = GetParam();
  with.certificate_pem = brief.certificate_pem();
  with.private_key_pem = brief.key_pem();
  client = client_context(with);
  EXPECT_FALSE(connect(server));
  EXPECT_TRUE(connect(server));
  std::this_thread::sleep_for(std::chrono::milliseconds(3100));
  MapSelector selector(server);
  TlsPair pair(selector, client, {.cache = cache});
  pair.handshake();
  EXPECT_EQ(pair.server_result.status, IoStatus::kError);
  EXPECT_NE(pair.server->error_text().find("certificate has expired"), std::string::npos) << pair.server->error_text();
}

TEST(TlsSession, ContextsAreSharedByThreads) {
  auto keys = std::make_shared<TlsTicketKeys>(1000);
  TlsServerConfig config = server_config();
  config.ticket_keys = keys;
  auto server = server_context(config);
  auto client = client_context(client_config());
  std::atomic<int> done{0}, resumed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      auto cache = std::make_shared<TlsSessionCache>();
      for (int i = 0; i < 30; ++i) {
        MapSelector selector(server);
        TlsPair pair(selector, client, {.cache = cache});
        if (!pair.handshake()) continue;
        exchange(pair);
        ++done;
        resumed += pair.server->resumed();
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    keys->rotate();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(done, 90);
  EXPECT_GE(resumed, 80);
}

// ---- data

std::string random_bytes(size_t n) {
  std::mt19937_64 random(n);
  std::string bytes(n, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

struct Established {
  explicit Established(int socket_buffer = 0, TlsVersion version = TlsVersion::kTls13)
      : selector(server_context(server_config())), pair(selector, client(version), {}, socket_buffer) {
    EXPECT_TRUE(pair.handshake());
  }
  static std::shared_ptr<const TlsContext> client(TlsVersion version) {
    TlsClientConfig config = client_config();
    config.max_version = version;
    return client_context(config);
  }
  MapSelector selector;
  TlsPair pair;
};

TEST(TlsSession, LargeTransferThroughTinyBuffers) {
  for (TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    Established t(4608, version);
    const std::string sent = random_bytes(3'000'000);
    std::string received;
    size_t offset = 0;
    char buffer[7777];
    for (int idle = 0; received.size() < sent.size() && idle < 1000; ++idle) {
      if (offset < sent.size()) {
        // Cut differently at each retry: into one, two or three pieces, some of them empty.
        size_t n = std::min<size_t>(sent.size() - offset, 200'000);
        size_t a = n / (idle % 3 + 1), b = (n - a) / 2;
        iovec iov[] = {{const_cast<char*>(sent.data()) + offset, a},
                       {nullptr, 0},
                       {const_cast<char*>(sent.data()) + offset + a, b},
                       {const_cast<char*>(sent.data()) + offset + a + b, n - a - b}};
        IoResult written = t.pair.server->writev(iov, 4);
        ASSERT_NE(written.status, IoStatus::kError) << t.pair.server->error_text();
        offset += written.bytes;
        if (written.bytes) idle = 0;
      }
      t.pair.flush();
      for (;;) {
        IoResult got = t.pair.client->read(buffer, sizeof(buffer));
        if (got.status != IoStatus::kOk) {
          ASSERT_EQ(got.status, IoStatus::kAgain) << t.pair.client->error_text();
          break;
        }
        received.append(buffer, got.bytes);
        idle = 0;
      }
    }
    EXPECT_TRUE(received == sent);
  }
}

TEST(TlsSession, SmallPiecesLeaveInOneSend) {
  Established t;
  exchange(t.pair);
  std::string head = "HTTP/1.1 200 OK\r\n\r\n", body = random_bytes(10'000);
  iovec iov[] = {{head.data(), head.size()}, {body.data(), body.size()}};
  IoResult written = t.pair.server->writev(iov, 2);
  EXPECT_EQ(written.bytes, head.size() + body.size());
  EXPECT_FALSE(t.pair.server->has_pending_output());
  // One record: header (5), content type (1) and tag (16) come once.
  char wire[20'000];
  EXPECT_EQ(recv(t.pair.client_fd(), wire, sizeof(wire), MSG_PEEK), static_cast<ssize_t>(written.bytes + 22));
  EXPECT_EQ(TlsPair::drain(*t.pair.client), head + body);
}

TEST(TlsSession, OutputIsBoundedWhenThePeerDoesNotRead) {
  Established t(4608);
  const std::string bytes = random_bytes(1'000'000);
  size_t before = block_pool_stats().in_use_bytes;
  IoResult written = TlsPair::write(*t.pair.server, bytes);
  EXPECT_EQ(written.status, IoStatus::kOk);
  EXPECT_LT(written.bytes, bytes.size());
  EXPECT_TRUE(t.pair.server->has_pending_output());
  EXPECT_LE(block_pool_stats().in_use_bytes - before, 70'000u);
  EXPECT_EQ(TlsPair::write(*t.pair.server, bytes).status, IoStatus::kAgain);
  EXPECT_EQ(t.pair.server->flush().status, IoStatus::kAgain);
}

TEST(TlsSession, TellsWhatIsBuffered) {
  Established t;
  exchange(t.pair);
  EXPECT_FALSE(t.pair.server->has_buffered_input());
  TlsPair::write(*t.pair.client, "hello");
  TlsPair::write(*t.pair.client, "world");
  char buffer[3];
  EXPECT_EQ(t.pair.server->read(buffer, 3).bytes, 3u);
  EXPECT_EQ(t.pair.server->pending_input(), 2u);
  EXPECT_TRUE(t.pair.server->has_buffered_input());
  EXPECT_FALSE(t.pair.server->socket_may_have_more());
  EXPECT_EQ(TlsPair::drain(*t.pair.server), "loworld");
  EXPECT_FALSE(t.pair.server->has_buffered_input());
}

TEST(TlsSession, IdleSessionsHoldNoBlock) {
  size_t before = block_pool_stats().in_use_bytes;
  Established t;
  exchange(t.pair);
  TlsPair::write(*t.pair.client, random_bytes(200'000));
  t.pair.flush();
  TlsPair::drain(*t.pair.server);
  t.pair.flush();
  TlsPair::drain(*t.pair.server);
  EXPECT_EQ(block_pool_stats().in_use_bytes, before);
}

// ---- endings

TEST(TlsSession, CloseNotifyIsAnOrderlyEnd) {
  Established t;
  TlsPair::write(*t.pair.client, "last words");
  EXPECT_EQ(t.pair.client->shutdown(), IoStatus::kOk);
  t.pair.close_client();
  IoStatus last;
  EXPECT_EQ(TlsPair::drain(*t.pair.server, &last), "last words");
  EXPECT_EQ(last, IoStatus::kEof);
  EXPECT_FALSE(t.pair.server->truncated());
  char byte;
  EXPECT_EQ(t.pair.server->read(&byte, 1).status, IoStatus::kEof);
}

TEST(TlsSession, HalfCloseStillReads) {
  Established t;
  EXPECT_EQ(t.pair.server->shutdown(), IoStatus::kOk);
  TlsPair::write(*t.pair.client, "still here");
  EXPECT_EQ(TlsPair::drain(*t.pair.server), "still here");
  EXPECT_EQ(TlsPair::write(*t.pair.server, "x").status, IoStatus::kError);
}

TEST(TlsSession, EndWithoutCloseNotifyIsTruncation) {
  for (TlsVersion version : {TlsVersion::kTls12, TlsVersion::kTls13}) {
    Established t(0, version);
    TlsPair::write(*t.pair.client, "half a mess");
    t.pair.close_client();
    IoStatus last;
    EXPECT_EQ(TlsPair::drain(*t.pair.server, &last), "half a mess");
    EXPECT_EQ(last, IoStatus::kEof);
    EXPECT_TRUE(t.pair.server->truncated());
  }
}

TEST(TlsSession, WriteToAClosedSocketIsAnError) {
  Established t;
  t.pair.close_client();
  EXPECT_EQ(TlsPair::write(*t.pair.server, "x").status, IoStatus::kError);
  EXPECT_EQ(t.pair.server->error_text(), "send: Broken pipe");
  EXPECT_EQ(t.pair.server->flush().status, IoStatus::kError);
  EXPECT_EQ(t.pair.server->shutdown(), IoStatus::kError);
}

TEST(TlsSession, PeerThatLeavesDuringTheHandshake) {
  MapSelector selector(server_context(server_config()));
  TlsPair pair(selector, client_context(client_config()));
  EXPECT_EQ(pair.client->handshake().status, IoStatus::kAgain);
  EXPECT_EQ(pair.server->handshake().status, IoStatus::kAgain);
  ::shutdown(pair.client_fd(), SHUT_WR);
  EXPECT_EQ(pair.server->handshake().status, IoStatus::kEof);
  EXPECT_EQ(pair.server->error_text(), "the peer closed the connection during the TLS handshake");
  char byte;
  EXPECT_EQ(pair.server->read(&byte, 1).status, IoStatus::kEof);
  EXPECT_EQ(pair.server->shutdown(), IoStatus::kError);
}

// ---- hostile input

TEST(TlsSession, GarbageInsteadOfAHandshake) {
  MapSelector selector(server_context(server_config()));
  for (std::string garbage :
       {std::string("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), random_bytes(5000), std::string(20'000, '\0'),
        std::string("\x16\x03\x01\xff\xff", 5), std::string("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9)}) {
    TlsPair pair(selector, client_context(client_config()));
    send(pair.client_fd(), garbage.data(), garbage.size(), 0);
    EXPECT_EQ(pair.server->handshake().status, IoStatus::kError);
    EXPECT_TRUE(pair.server->error_text().starts_with("TLS handshake: ")) << pair.server->error_text();
    EXPECT_EQ(pair.server->handshake().status, IoStatus::kError);
    char byte;
    EXPECT_EQ(pair.server->read(&byte, 1).status, IoStatus::kError);
  }
}

TEST(TlsSession, FloodOfEmptyRecordsIsRefused) {
  MapSelector selector(server_context(server_config()));
  TlsPair pair(selector, client_context(client_config()));
  std::string flood;
  for (int i = 0; i < 1000; ++i) flood += std::string("\x16\x03\x01\x00\x00", 5);
  send(pair.client_fd(), flood.data(), flood.size(), 0);
  EXPECT_EQ(pair.server->handshake().status, IoStatus::kError);
}

TEST(TlsSession, GarbageAfterTheHandshake) {
  Established t;
  exchange(t.pair);
  std::string garbage = random_bytes(100);
  send(t.pair.client_fd(), garbage.data(), garbage.size(), 0);
  char buffer[100];
  EXPECT_EQ(t.pair.server->read(buffer, sizeof(buffer)).status, IoStatus::kError);
  EXPECT_TRUE(t.pair.server->error_text().starts_with("TLS read: ")) << t.pair.server->error_text();
  // The peer is told.
  EXPECT_EQ(t.pair.client->read(buffer, sizeof(buffer)).status, IoStatus::kError);
  EXPECT_NE(t.pair.client->error_text().find("alert"), std::string::npos) << t.pair.client->error_text();
}

// A peer that uses AWS-LC directly, to do what TlsSession never does.
struct RawClient {
  RawClient() {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    server = TlsSession::accept(fds[0], selector);
    SSL_CTX_set_min_proto_version(ctx.get(), TLS1_3_VERSION);
    ssl.reset(SSL_new(ctx.get()));
    SSL_set_fd(ssl.get(), fds[1]);
    SSL_set_connect_state(ssl.get());
    while (server->handshake().status == IoStatus::kAgain) SSL_do_handshake(ssl.get());
    EXPECT_TRUE(server->handshake_done()) << server->error_text();
  }
  ~RawClient() {
    server.reset();
    ssl.reset();
    close(fds[0]);
    close(fds[1]);
  }
  int fds[2];
  MapSelector selector{server_context(server_config())};
  bssl::UniquePtr<SSL_CTX> ctx{SSL_CTX_new(TLS_client_method())};
  std::unique_ptr<TlsSession> server;
  bssl::UniquePtr<SSL> ssl;
};

TEST(TlsSession, KeyUpdatesAreAnsweredAndTheirFloodIsBounded) {
  RawClient client;
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(SSL_key_update(client.ssl.get(), SSL_KEY_UPDATE_REQUESTED), 1);
    ASSERT_EQ(SSL_write(client.ssl.get(), "x", 1), 1);
    EXPECT_EQ(TlsPair::drain(*client.server), "x");
  }
  // The peer has read nothing; one answer at most is waiting.
  EXPECT_FALSE(client.server->has_pending_output());
  EXPECT_EQ(TlsPair::write(*client.server, "answer").bytes, 6u);
  char buffer[100];
  EXPECT_EQ(SSL_read(client.ssl.get(), buffer, sizeof(buffer)), 6);

  // Without data, they are tolerated only so long.
  IoStatus status = IoStatus::kAgain;
  int updates = 0;
  for (; updates < 100'000 && status == IoStatus::kAgain; ++updates) {
    ASSERT_EQ(SSL_key_update(client.ssl.get(), SSL_KEY_UPDATE_NOT_REQUESTED), 1);
    SSL_write(client.ssl.get(), "", 0);
    status = client.server->read(buffer, sizeof(buffer)).status;
  }
  EXPECT_GT(updates, 100);
  EXPECT_EQ(status, IoStatus::kError);
  EXPECT_EQ(client.server->error_text(), "TLS read: the peer floods the connection with records that carry no data");
}

TEST(TlsSession, EveryCutOfAHandshakeIsHandled) {
  // The client's first flight arrives byte by byte.
  MapSelector selector(server_context(server_config()));
  int wire[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, wire), 0);
  TlsPair pair(selector, client_context(client_config()));
  auto server = TlsSession::accept(wire[0], selector);
  EXPECT_EQ(pair.client->handshake().status, IoStatus::kAgain);
  char flight[4096];
  ssize_t size = recv(pair.server_fd(), flight, sizeof(flight), 0);
  ASSERT_GT(size, 0);
  for (ssize_t i = 0; i < size; ++i) {
    EXPECT_EQ(server->handshake().status, IoStatus::kAgain);
    send(wire[1], flight + i, 1, 0);
  }
  EXPECT_EQ(server->handshake().status, IoStatus::kAgain);
  EXPECT_GT(recv(wire[1], flight, sizeof(flight), 0), 500);
  server.reset();
  close(wire[0]);
  close(wire[1]);
}

TEST(TlsSession, FlippedBitsNeverPass) {
  for (int byte = 0; byte < 40; ++byte) {
    Established t;
    TlsPair::write(*t.pair.client, "an important message");
    char wire[200];
    ssize_t size = recv(t.pair.server_fd(), wire, sizeof(wire), 0);
    ASSERT_GT(size, 0);
    wire[byte % size] ^= 0x10;
    send(t.pair.client_fd(), wire, static_cast<size_t>(size), 0);
    char buffer[100];
    IoStatus status = t.pair.server->read(buffer, sizeof(buffer)).status;
    EXPECT_TRUE(status == IoStatus::kError || status == IoStatus::kAgain) << byte;
  }
}

TEST(TlsSession, MissingPieces) {
  MapSelector selector(server_context(server_config()));
  EXPECT_EQ(TlsSession::connect(-1, nullptr), nullptr);
  EXPECT_EQ(TlsSession::connect(-1, server_context(server_config())), nullptr);
  MapSelector wrong_kind(client_context(client_config()));
  TlsPair pair(wrong_kind, client_context(client_config()));
  EXPECT_FALSE(pair.handshake());
}

}  // namespace
}  // namespace sluice::net
