#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "net/tls.h"
#include "net/tls_test_certs.h"
#include "net/tls_ticket_keys.h"

namespace sluice::net {
namespace {

const TestCertificate& ca() {
  static const TestCertificate certificate = make_test_ca();
  return certificate;
}

const TestCertificate& leaf() {
  static const TestCertificate certificate =
      make_test_certificate({.common_name = "leaf", .sans = "DNS:a.example,DNS:*.b.example,IP:10.0.0.1"}, &ca());
  return certificate;
}

TlsServerConfig good() {
  TlsServerConfig config;
  config.certificate_pem = leaf().certificate_pem();
  config.private_key_pem = leaf().key_pem();
  return config;
}

std::string error_of(const TlsServerConfig& config) {
  auto context = TlsContext::server(config);
  return context ? "" : context.error().message;
}

TEST(TlsContext, BuildsFromGoodConfiguration) {
  auto context = TlsContext::server(good());
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_TRUE((*context)->is_server());
  EXPECT_GT((*context)->not_after(), time(nullptr));
  EXPECT_EQ((*context)->certificate_names(), (std::vector<std::string>{"a.example", "*.b.example", "10.0.0.1"}));
}

TEST(TlsContext, SaysWhatIsWrongWithTheCertificate) {
  TlsServerConfig config = good();
  config.certificate_pem = "";
  EXPECT_EQ(error_of(config), "certificate: is empty");
  config.certificate_pem = "hello";
  EXPECT_EQ(error_of(config), "certificate: holds no PEM block of the kind \"-----BEGIN CERTIFICATE-----\"");
  config.certificate_pem = leaf().certificate_pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  EXPECT_NE(error_of(config).find("certificate: PEM certificate 2 is not valid"), std::string::npos);
  config.certificate_pem = leaf().certificate_pem().substr(0, 200);
  EXPECT_NE(error_of(config).find("certificate: PEM certificate 1 is not valid"), std::string::npos);
}

TEST(TlsContext, SaysWhatIsWrongWithTheKey) {
  TlsServerConfig config = good();
  config.private_key_pem = "";
  EXPECT_EQ(error_of(config), "private key: is empty");
  config.private_key_pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
  EXPECT_EQ(error_of(config), "private key: is not a valid PEM private key");
  config.private_key_pem = leaf().certificate_pem();
  EXPECT_NE(error_of(config).find("private key: holds no PEM block"), std::string::npos);
  config.private_key_pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
  EXPECT_EQ(error_of(config), "private key: is encrypted; give it without a password");
  config.private_key_pem = ca().key_pem();
  EXPECT_EQ(error_of(config), "private key: does not belong to the certificate");
  config.certificate_pem = leaf().certificate_pem() + ca().certificate_pem();
  EXPECT_EQ(error_of(config),
            "certificate: the private key belongs to certificate 2 of the chain; the leaf must "
            "come first");
}

TEST(TlsContext, RefusesWeakKeys) {
  TestCertificate weak = make_test_certificate({.rsa_bits = 1024});
  TlsServerConfig config;
  config.certificate_pem = weak.certificate_pem();
  config.private_key_pem = weak.key_pem();
  EXPECT_EQ(error_of(config), "private key: an RSA key needs at least 2048 bits, this one has 1024");
}

TEST(TlsContext, RefusesAnExpiredCertificateUnlessAllowed) {
  TestCertificate old = make_test_certificate({.valid_from = -7200, .valid_for = -3600});
  TlsServerConfig config;
  config.certificate_pem = old.certificate_pem();
  config.private_key_pem = old.key_pem();
  EXPECT_TRUE(error_of(config).starts_with("certificate: expired on 20")) << error_of(config);
  config.allow_expired = true;
  EXPECT_EQ(error_of(config), "");
  EXPECT_FALSE(check_certificate(config.certificate_pem, config.private_key_pem));
}

TEST(TlsContext, NeverQuotesKeys) {
  std::string key = leaf().key_pem();
  std::string secret = key.substr(40, 20);
  TlsServerConfig config = good();
  for (std::string broken : {key.substr(0, key.size() / 2), key.substr(30), "x" + key + key.substr(0, 60)}) {
    config.private_key_pem = broken;
    EXPECT_EQ(error_of(config).find(secret), std::string::npos);
  }
}

TEST(TlsContext, RefusesUnknownNamesInSettings) {
  TlsServerConfig config = good();
  config.ciphers_tls12 = "ECDHE-RSA-AES128-GCM-SHA256:NOPE";
  EXPECT_NE(error_of(config).find("ciphers: "), std::string::npos);
  config = good();
  config.groups = "X25519:NOPE";
  EXPECT_NE(error_of(config).find("groups: "), std::string::npos);
  config = good();
  config.alpn = {""};
  EXPECT_NE(error_of(config).find("alpn: "), std::string::npos);
  config = good();
  config.min_version = TlsVersion::kTls13;
  config.max_version = TlsVersion::kTls12;
  EXPECT_EQ(error_of(config), "min_version: is above max_version");
  config = good();
  config.client_auth = TlsServerConfig::ClientAuth::kRequired;
  EXPECT_EQ(error_of(config), "client CA: is empty");
  config.client_ca_pem = "junk";
  EXPECT_NE(error_of(config).find("client CA: holds no PEM block"), std::string::npos);
}

TEST(TlsContext, FingerprintFollowsConfiguration) {
  auto fingerprint = [](const TlsServerConfig& config) { return (*TlsContext::server(config))->fingerprint(); };
  TlsServerConfig config = good();
  std::string base = fingerprint(config);
  EXPECT_EQ(fingerprint(good()), base);
  config.session_scope = "other";
  EXPECT_NE(fingerprint(config), base);
  config = good();
  config.alpn = {"h2"};
  EXPECT_NE(fingerprint(config), base);
  config = good();
  config.client_auth = TlsServerConfig::ClientAuth::kOptional;
  config.client_ca_pem = ca().certificate_pem();
  EXPECT_NE(fingerprint(config), base);
}

TEST(TlsContext, ClientConfiguration) {
  TlsClientConfig config;
  auto context = TlsContext::client(config);  // the system's anchors
  EXPECT_TRUE(context) << context.error().message;
  config.ca_pem = "junk";
  EXPECT_FALSE(TlsContext::client(config));
  config.verify = false;
  EXPECT_TRUE(TlsContext::client(config));
  config.private_key_pem = leaf().key_pem();
  EXPECT_EQ(TlsContext::client(config).error().message, "certificate: is empty");
}

TEST(TlsTicketKeys, OpensWhatItSealedUntilRotatedAway) {
  TlsTicketKeys keys(2);
  const std::string text = "session";
  std::span<const uint8_t> plain(reinterpret_cast<const uint8_t*>(text.data()), text.size());
  uint8_t ticket[100], out[100];
  size_t size = keys.seal(plain, ticket);
  ASSERT_EQ(size, text.size() + TlsTicketKeys::kOverhead);
  auto opens = [&] {
    auto opened = keys.open({ticket, size}, out);
    return opened && std::string(reinterpret_cast<char*>(out), *opened) == text;
  };
  EXPECT_TRUE(opens());
  keys.rotate();
  EXPECT_TRUE(opens());
  keys.rotate();
  EXPECT_TRUE(opens());
  keys.rotate();
  EXPECT_FALSE(opens());
}

TEST(TlsTicketKeys, RefusesTamperedAndShortTickets) {
  TlsTicketKeys keys;
  uint8_t plain[16] = {1, 2, 3}, ticket[100], out[100];
  size_t size = keys.seal(plain, ticket);
  for (size_t i = 0; i < size; ++i) {
    ticket[i] ^= 1;
    EXPECT_FALSE(keys.open({ticket, size}, out)) << i;
    ticket[i] ^= 1;
  }
  for (size_t shorter = 0; shorter < size; ++shorter) EXPECT_FALSE(keys.open({ticket, shorter}, out));
  EXPECT_TRUE(keys.open({ticket, size}, out));
  EXPECT_EQ(keys.seal(plain, {ticket, sizeof(plain)}), 0u);
}

TEST(TlsTicketKeys, SharedSecretsWorkAcrossProcesses) {
  std::vector<uint8_t> a(32, 'a'), b(32, 'b'), tiny(8, 'c');
  std::vector<std::span<const uint8_t>> ab = {a, b}, ba = {b, a}, bad = {a, tiny}, none;
  TlsTicketKeys one, two;
  ASSERT_TRUE(one.set(ab));
  ASSERT_TRUE(two.set(ba));
  EXPECT_FALSE(one.set(bad));
  EXPECT_FALSE(one.set(none));
  uint8_t plain[16] = {1}, ticket[100], out[100];
  size_t size = one.seal(plain, ticket);
  EXPECT_TRUE(two.open({ticket, size}, out));
}

TEST(TlsTicketKeys, RotatesWhileThreadsSealAndOpen) {
  TlsTicketKeys keys(1000);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      uint8_t plain[16] = {7}, ticket[100], out[100];
      for (int i = 0; i < 2000; ++i) {
        size_t size = keys.seal(plain, ticket);
        auto opened = keys.open({ticket, size}, out);
        if (!opened || *opened != sizeof(plain) || out[0] != 7) ++failures;
      }
    });
  }
  for (int i = 0; i < 200; ++i) keys.rotate();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

}  // namespace
}  // namespace sluice::net
