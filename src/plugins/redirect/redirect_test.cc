#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

// "301 http://…", or "passes".
std::string redirected(FakeContext& context, std::string_view config) {
  const FactoryPointer factory = make("redirect", config);
  if (!factory) return error("redirect", config);
  if (!context.create(factory)) return "passes";
  EXPECT_FALSE(context.run_request());
  std::string out = std::to_string(context.reply_status()) + " " + std::string(context.reply_headers().get("location"));
  EXPECT_EQ(context.reply_body(), "");
  context.finish();
  return out;
}

TEST(Redirect, WhatIsNotGivenIsTheRequests) {
  FakeContext context;
  context.target("/a/b?x=1&y");
  EXPECT_EQ(redirected(context, "{host: new.example}"), "301 http://new.example/a/b?x=1&y");
  EXPECT_EQ(redirected(context, "{scheme: https, status: 302}"), "302 https://foo.example/a/b?x=1&y");
  EXPECT_EQ(redirected(context, "{path: /c, status: 307}"), "307 http://foo.example/c?x=1&y");
  EXPECT_EQ(redirected(context, "{scheme: HTTPS, host: \"n:8443\", path: /, status: 308}"),
            "308 https://n:8443/?x=1&y");
  EXPECT_EQ(redirected(context, "{path: /c, status: 303}"), "303 http://foo.example/c?x=1&y");
}

TEST(Redirect, TheOldSchemesPortIsDropped) {
  FakeContext context;
  context.request().authority = "foo.example:80";
  EXPECT_EQ(redirected(context, "{scheme: https}"), "301 https://foo.example/");
  EXPECT_EQ(redirected(context, "{path: /x}"), "301 http://foo.example:80/x");
  context.request().authority = "foo.example:8080";
  EXPECT_EQ(redirected(context, "{scheme: https}"), "301 https://foo.example:8080/");
  context.tls(true).request().authority = "foo.example:443";
  EXPECT_EQ(redirected(context, "{scheme: http}"), "301 http://foo.example/");
}

TEST(Redirect, SslRedirectOnlyForPlaintext) {
  constexpr std::string_view kConfig = "{status: 308, https_only_on_plaintext: true}";
  FakeContext plain;
  plain.target("/p?q");
  EXPECT_EQ(redirected(plain, kConfig), "308 https://foo.example/p?q");
  FakeContext tls;
  EXPECT_EQ(redirected(tls.tls(true), kConfig), "passes");
  FakeContext behind_proxy;
  EXPECT_EQ(redirected(behind_proxy.header("x-forwarded-proto", "https"), kConfig), "passes");
}

TEST(Redirect, OddTargets) {
  FakeContext star;
  star.method("OPTIONS").target("*");
  EXPECT_EQ(redirected(star, "{scheme: https}"), "301 https://foo.example/");
  FakeContext no_host;
  no_host.target("/x").request().authority = {};
  EXPECT_EQ(redirected(no_host, "{scheme: https}"), "301 /x");
  FakeContext query_only;
  query_only.target("/?");
  EXPECT_EQ(redirected(query_only, "{path: /y}"), "301 http://foo.example/y?");
}

TEST(Redirect, MalformedConfigurations) {
  EXPECT_EQ(error("redirect", "{status: 300, host: a}"), "status: 300 is not in 301..308");
  EXPECT_EQ(error("redirect", "{status: 305, host: a}"), "status: 305 is not one of 301, 302, 303, 307, 308");
  EXPECT_EQ(error("redirect", "{scheme: ftp}"), "scheme: \"ftp\" is not http or https");
  EXPECT_EQ(error("redirect", "{path: x}"), "path: \"x\" must begin with '/'");
  EXPECT_EQ(error("redirect", "{path: \"/x?y\"}"), "path: \"/x?y\" must be a path without query and fragment");
  EXPECT_NE(error("redirect", "{path: \"/x\r\ny: z\"}"), "");
  EXPECT_NE(error("redirect", "{host: \"a b\"}"), "");
  EXPECT_NE(error("redirect", "{}"), "");
  EXPECT_NE(error("redirect", "{https_only_on_plaintext: true, scheme: http}"), "");
}

}  // namespace
}  // namespace sluice::plugins
