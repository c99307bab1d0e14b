#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

const auto& lines = FakeContext::lines;

// The request's header lines after the edits.
std::string edited_request(FakeContext& context, std::string_view config) {
  const FactoryPointer factory = make("header-control", config);
  EXPECT_NE(factory, nullptr) << error("header-control", config);
  context.create(factory);
  EXPECT_TRUE(context.run_request());
  std::string out = lines(context.request().headers);
  context.finish();
  return out;
}

TEST(HeaderControl, RunsRemoveThenUpdateThenAdd) {
  FakeContext context;
  context.header("x-a", "1").header("x-b", "2").header("x-b", "3").header("accept", "*/*");
  EXPECT_EQ(edited_request(context,
                           R"({request: {add: [{name: X-A, value: added}, {name: x-c, value: last}],
                                                 update: [{name: x-b, value: one}, {name: x-a, value: fresh}],
                                                 remove: [x-a, Accept, x-none]}})"),
            "x-b: one\nx-a: fresh\nx-a: added\nx-c: last\n");
}

TEST(HeaderControl, EditsTheResponseOnly) {
  FakeContext context;
  const FactoryPointer factory = make("header-control",
                                      R"({response: {remove: [server], update: [{name: vary, value: x}],
                                                     add: [{name: set-cookie, value: a=1}, {name: set-cookie, value: b=2}]}})");
  context.header("server", "client");
  context.response_header("server", "s").response_header("vary", "a").response_header("vary", "b");
  ASSERT_NE(context.create(factory), nullptr);
  context.run_request();
  EXPECT_EQ(lines(context.request().headers), "server: client\n");
  EXPECT_TRUE(context.run_response());
  EXPECT_EQ(lines(context.response().headers), "vary: x\nset-cookie: a=1\nset-cookie: b=2\n");
}

TEST(HeaderControl, NothingToDoMeansNoFilter) {
  FakeContext context;
  EXPECT_EQ(context.create(make("header-control", "{}")), nullptr);
  EXPECT_EQ(context.create(make("header-control", "{request: {remove: [host, \":path\"]}}")), nullptr);
}

TEST(HeaderControl, HostChangesTheAuthority) {
  FakeContext context;
  EXPECT_EQ(edited_request(context, R"({request: {update: [{name: Host, value: "up:8080"}],
                                                 add: [{name: ":authority", value: other}]}})"),
            "x-envoy-original-host: foo.example\n");
  EXPECT_EQ(context.request().authority, "up:8080");
}

TEST(HeaderControl, HostFromARequestFieldMustBeAHost) {
  constexpr std::string_view kConfig = R"({request: {update: [{name: host, value: "%REQ(x-host)%"}]}})";
  FakeContext good;
  good.header("x-host", "a.example");
  edited_request(good, kConfig);
  EXPECT_EQ(good.request().authority, "a.example");
  for (const char* bad : {"a b", "a/b", "u@h", "a,b", "a?b"}) {
    FakeContext context;
    context.header("x-host", bad);
    edited_request(context, kConfig);
    EXPECT_EQ(context.request().authority, "foo.example") << bad;
  }
}

TEST(HeaderControl, OtherPseudoHeadersAreIgnored) {
  FakeContext context;
  context.header("x-a", "1");
  EXPECT_EQ(edited_request(context,
                           R"({request: {update: [{name: ":path", value: /x}], add: [{name: ":method", value: PUT}],
                                                 remove: [":scheme", host, x-a]}})"),
            "");
  EXPECT_EQ(context.request().path, "/");
  EXPECT_EQ(context.request().authority, "foo.example");
}

TEST(HeaderControl, OperatorsStandForFactsOfTheExchange) {
  FakeContext context;
  context.target("/p?q=1").header("x-user", "alice").header("x-user", "bob").client("198.51.100.9:99");
  context.request().version = http::Protocol::kHttp2;
  EXPECT_EQ(edited_request(context, R"({request: {remove: [], add: [
      {name: a, value: "%REQ(X-User)%"},
      {name: b, value: "<%REQ(x-user):3%> via %PROTOCOL% 100%%"},
      {name: c, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
      {name: d, value: "%REQ(:method)% %REQ(:scheme)%://%REQ(:authority)%%REQ(:path)% %REQ(host)%"},
      {name: e, value: "%REQ(x-none?x-user)%"},
      {name: f, value: "%REQ(x-none)%"}]}})"),
            "x-user: alice\nx-user: bob\na: alice\nb: <ali> via HTTP/2 100%\nc: 198.51.100.9\n"
            "d: GET http://foo.example/p?q=1 foo.example\ne: alice\n");
}

TEST(HeaderControl, AnIpv6ClientHasNoBrackets) {
  FakeContext context;
  context.client("[2001:db8::1]:5");
  EXPECT_EQ(
      edited_request(context, R"({request: {add: [{name: a, value: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}]}})"),
      "a: 2001:db8::1\n");
}

TEST(HeaderControl, LiteralValuesAreNotCopied) {
  FakeContext context;
  const FactoryPointer factory = make("header-control", "{request: {update: [{name: x-a, value: literal}]}}");
  context.create(factory);
  context.run_request();
  const char* first = context.request().headers.get("x-a").data();
  FakeContext again;
  again.create(factory);
  again.run_request();
  EXPECT_EQ(first, again.request().headers.get("x-a").data());
}

TEST(HeaderControl, RefusesWhatFramesTheMessage) {
  for (const char* name : {"connection", "Content-Length", "transfer-encoding", "TE", "trailer", "upgrade",
                           "keep-alive", "proxy-connection", "http2-settings"}) {
    const std::string text = std::string("{request: {remove: [") + name + "]}}";
    EXPECT_NE(error("header-control", text).find("can't be edited"), std::string::npos) << name;
    const std::string set = std::string("{response: {update: [{name: ") + name + ", value: x}]}}";
    EXPECT_EQ(error("header-control", set).find("response.update[0].name: "), 0u) << name;
  }
}

TEST(HeaderControl, MalformedConfigurations) {
  EXPECT_EQ(error("header-control", R"({request: {add: [{name: "a b", value: x}]}})"),
            "request.add[0].name: \"a b\" is not the name of a header field");
  EXPECT_EQ(error("header-control", R"({request: {add: [{name: "", value: x}]}})"),
            "request.add[0].name: \"\" is not the name of a header field");
  EXPECT_EQ(error("header-control", "{request: {add: [{name: a, value: \"x\r\ny\"}]}}"),
            "request.add[0].value: holds a control character, which a header field must not");
  EXPECT_EQ(error("header-control", R"({response: {update: [{name: a, value: "50%"}]}})"),
            "response.update[0].value: a '%' begins an operator that doesn't end; a percent sign "
            "is written %%");
  EXPECT_NE(error("header-control", R"({request: {add: [{name: a, value: "%START_TIME%"}]}})")
                .find("\"%START_TIME%\" is not"),
            std::string::npos);
  for (const char* bad :
       {"%REQ(%", "%REQ()%", "%REQ(a b)%", "%REQ(:nope)%", "%REQ(a):x%", "%REQ(a):0%", "%REQ(a)5%", "%REQ(a?)%"}) {
    EXPECT_NE(error("header-control", std::string("{request: {add: [{name: a, value: \"") + bad + "\"}]}}"), "") << bad;
  }
  EXPECT_EQ(error("header-control", "{request: {add: [{name: a}]}}"), "request.add[0].value: is required");
  EXPECT_EQ(error("header-control", "{requests: {}}"), "requests: unknown field; did you mean request?");
}

}  // namespace
}  // namespace sluice::plugins
