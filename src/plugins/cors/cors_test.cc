#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

const auto& lines = FakeContext::lines;
constexpr std::string_view kConfig =
    R"({allow_origins: ["https://app.example", "https://*.wild.example", "http://*.port.example:8080"],
        allow_methods: "GET, POST", allow_headers: [x-a, x-b], expose_headers: [x-total], max_age: 60})";

bool allowed(const FactoryPointer& factory, std::string_view origin) {
  FakeContext context;
  context.header("origin", origin);
  return context.create(factory) != nullptr;
}

TEST(Cors, AnswersThePreflightOfAnAllowedOrigin) {
  const FactoryPointer factory = make("cors", kConfig);
  FakeContext context;
  context.method("OPTIONS").header("origin", "https://app.example").header("access-control-request-method", "PUT");
  ASSERT_NE(context.create(factory), nullptr);
  EXPECT_FALSE(context.run_request());
  EXPECT_EQ(context.reply_status(), 200);
  EXPECT_EQ(context.reply_body(), "");
  EXPECT_EQ(lines(context.reply_headers()),
            "access-control-allow-origin: https://app.example\naccess-control-allow-credentials: "
            "true\nvary: Origin\n"
            "access-control-allow-methods: GET,POST\naccess-control-allow-headers: "
            "x-a,x-b\naccess-control-max-age: 60\n");
  // The answer passes our own response event unchanged.
  context.run_response(true);
  EXPECT_TRUE(context.response().headers.empty());
}

TEST(Cors, DefaultsAreThoseOfTheAnnotations) {
  FakeContext context;
  context.method("OPTIONS").header("origin", "null").header("access-control-request-method", "GET");
  const FactoryPointer factory = make("cors", "{}");
  context.create(factory);
  context.run_request();
  EXPECT_EQ(lines(context.reply_headers()),
            "access-control-allow-origin: null\naccess-control-allow-credentials: true\nvary: Origin\n"
            "access-control-allow-methods: GET,PUT,POST,DELETE,PATCH,OPTIONS\n"
            "access-control-allow-headers: "
            "DNT,X-CustomHeader,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,"
            "Cache-Control,Content-Type,Authorization\naccess-control-max-age: 1728000\n");
}

TEST(Cors, OptionsWithoutRequestMethodIsForwarded) {
  const FactoryPointer factory = make("cors", kConfig);
  FakeContext context;
  context.method("OPTIONS").header("origin", "https://app.example");
  ASSERT_NE(context.create(factory), nullptr);
  EXPECT_TRUE(context.run_request());
  EXPECT_FALSE(context.replied());
  EXPECT_TRUE(context.run_response());
  EXPECT_EQ(context.response().headers.get("access-control-allow-origin"), "https://app.example");
}

TEST(Cors, NamesTheOriginInResponses) {
  const FactoryPointer factory = make("cors", kConfig);
  FakeContext context;
  context.header("origin", "https://app.example").header("access-control-request-method", "GET");
  context.response_header("access-control-allow-origin", "*").response_header("vary", "Accept-Encoding");
  context.create(factory);
  EXPECT_TRUE(context.run_request());
  EXPECT_TRUE(context.run_response());
  EXPECT_EQ(lines(context.response().headers),
            "access-control-allow-origin: https://app.example\nvary: Accept-Encoding, Origin\n"
            "access-control-allow-credentials: true\naccess-control-expose-headers: x-total\n");
}

TEST(Cors, VaryIsNotRepeated) {
  for (const char* before : {"origin", "Accept, Origin", "*"}) {
    const FactoryPointer factory = make("cors", kConfig);
    FakeContext context;
    context.header("origin", "https://app.example").response_header("vary", before);
    context.create(factory);
    context.run_request();
    context.run_response();
    EXPECT_EQ(context.response().headers.get_joined("vary"), before);
  }
}

TEST(Cors, OthersGetNoFilter) {
  const FactoryPointer factory = make("cors", kConfig);
  FakeContext no_origin;
  EXPECT_EQ(no_origin.create(factory), nullptr);
  EXPECT_FALSE(allowed(factory, ""));
  EXPECT_FALSE(allowed(factory, "https://evil.example"));
  FakeContext preflight;
  preflight.method("OPTIONS").header("origin", "https://evil.example").header("access-control-request-method", "GET");
  EXPECT_EQ(preflight.create(factory), nullptr);
}

TEST(Cors, Origins) {
  const FactoryPointer factory = make("cors", kConfig);
  EXPECT_TRUE(allowed(factory, "https://app.example"));
  EXPECT_FALSE(allowed(factory, "http://app.example"));
  EXPECT_FALSE(allowed(factory, "https://app.example:444"));
  EXPECT_TRUE(allowed(factory, "https://a.wild.example"));
  EXPECT_TRUE(allowed(factory, "http://a.b.wild.example"));  // the scheme is not looked at
  EXPECT_FALSE(allowed(factory, "https://wild.example"));
  EXPECT_FALSE(allowed(factory, "https://evilwild.example"));
  EXPECT_FALSE(allowed(factory, "https://a.wild.example.evil"));
  EXPECT_FALSE(allowed(factory, "https://a.wild.example:8080"));
  EXPECT_TRUE(allowed(factory, "http://a.port.example:8080"));
  EXPECT_FALSE(allowed(factory, "http://a.port.example"));
  EXPECT_TRUE(allowed(make("cors", "{allow_origins: [\"https://x\", \"*\"]}"), "anything"));
  EXPECT_FALSE(allowed(make("cors", "{allow_origins: []}"), "https://app.example"));
}

TEST(Cors, WithoutCredentials) {
  FakeContext context;
  context.header("origin", "https://a");
  const FactoryPointer factory = make("cors", "{allow_credentials: false}");
  context.create(factory);
  context.run_request();
  context.run_response();
  EXPECT_EQ(lines(context.response().headers), "access-control-allow-origin: https://a\nvary: Origin\n");
}

TEST(Cors, MalformedConfigurations) {
  for (const char* origin : {"*.dom", "https://a.*.dom", "https://*", "https://*.", "https://**.dom", "a*"}) {
    EXPECT_EQ(
        error("cors", std::string("{allow_origins: [\"") + origin + "\"]}"),
        std::string("allow_origins[0]: \"") + origin + "\" is not an origin: a wildcard is written scheme://*.domain");
  }
  EXPECT_NE(error("cors", "{allow_origins: [\"a\r\nb\"]}"), "");
  EXPECT_NE(error("cors", "{allow_methods: [\"G ET\"]}"), "");
  EXPECT_NE(error("cors", "{allow_headers: [\"x y\"]}"), "");
  EXPECT_EQ(error("cors", "{max_age: -2}"), "max_age: -2 is not in -1..2147483647");
  EXPECT_EQ(error("cors", "{allow_origin: a}"), "allow_origin: unknown field; did you mean allow_origins?");
}

}  // namespace
}  // namespace sluice::plugins
