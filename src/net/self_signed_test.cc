#include "net/self_signed.h"

#include <gtest/gtest.h>

#include <ctime>

#include "net/tls_context.h"

namespace sluice::net {
namespace {

TEST(SelfSigned, ServesAndIsTrusted) {
  const auto pem = make_self_signed("sluice");
  ASSERT_TRUE(pem.ok()) << pem.error().message;
  TlsServerConfig server;
  server.certificate_pem = server.private_key_pem = *pem;
  const auto context = TlsContext::server(server);
  ASSERT_TRUE(context.ok()) << context.error().message;
  EXPECT_EQ((*context)->certificate_names(), (std::vector<std::string>{"localhost", "127.0.0.1", "::1"}));
  EXPECT_GT((*context)->not_after(), std::time(nullptr) + 9L * 365 * 24 * 3600);
  EXPECT_LT((*context)->not_before(), std::time(nullptr));
  TlsClientConfig client;
  client.ca_pem = *pem;
  EXPECT_TRUE(TlsContext::client(client).ok());
  EXPECT_NE(*make_self_signed("sluice"), *pem);
}

}  // namespace
}  // namespace sluice::net
