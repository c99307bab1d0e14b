#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

struct Outcome {
  int status = 0;  // 0: passed
  std::string verify, certificate, location;
};

Outcome run(std::string_view config, const http::ClientCertificate* certificate, bool tls = true) {
  FakeContext context;
  context.tls(tls).header("ssl-client-verify", "SUCCESS").header("ssl-client-cert", "forged").target("/p q");
  if (certificate) context.client_certificate(*certificate);
  context.create(make("client-certificate", config));
  context.run_request();
  if (context.replied()) return {context.reply_status(), "", "", std::string(context.reply_headers().get("location"))};
  const http::HeaderMap& headers = context.request().headers;
  return {0, std::string(headers.get_joined("ssl-client-verify")), std::string(headers.get_joined("ssl-client-cert")),
          ""};
}

const http::ClientCertificate kGood{"CN=app,O=X", "CN=ca", "PEM", ""};
const http::ClientCertificate kBad{"CN=app,O=X", "CN=other", "PEM", "unable to get local issuer certificate"};

TEST(ClientCertificate, WhatMustBeThere) {
  EXPECT_EQ(run("{}", &kGood).verify, "SUCCESS");
  EXPECT_EQ(run("{}", &kGood).certificate, "");
  EXPECT_EQ(run("{pass_certificate: true}", &kGood).certificate, "PEM");
  EXPECT_EQ(run("{}", nullptr).status, 400);
  EXPECT_EQ(run("{}", &kBad).status, 400);
  EXPECT_EQ(run("{required: false}", nullptr).verify, "NONE");
  EXPECT_EQ(run("{required: false}", &kBad).status, 400);
  EXPECT_EQ(run("{required: false, verified: false}", &kBad).verify, "FAILED:unable to get local issuer certificate");
  EXPECT_EQ(run("{}", nullptr, false).verify, "NONE");
  const Outcome sent = run(R"({error_page: "https://e.x$request_uri"})", nullptr);
  EXPECT_EQ(sent.status, 302);
  EXPECT_EQ(sent.location, "https://e.x/p%20q");
}

TEST(ClientCertificate, Subjects) {
  EXPECT_EQ(run(R"({match_subject: "CN=(app|batch),"})", &kGood).status, 0);
  EXPECT_EQ(run(R"({match_subject: "CN=other"})", &kGood).status, 403);
  EXPECT_EQ(run(R"({match_subject: "CN=app", required: false})", nullptr).status, 403);
  EXPECT_EQ(run(R"({match_subject: "CN=app"})", nullptr, false).status, 403);
  EXPECT_NE(error("client-certificate", R"({match_subject: "("})").find("is not a regular expression"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice::plugins
