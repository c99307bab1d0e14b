#include <gtest/gtest.h>

#include "plugins/ext_auth/config.h"
#include "plugins/ext_auth/decision_cache.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using ext_auth::CacheRule;
using testing::error;
using testing::FakeContext;
using testing::make;

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

TEST(ExtAuth, AsksAboutTheRequestAndLetsItPass) {
  FakeContext context;
  context.method("POST")
      .target("/a?b")
      .header("x-user", "forged")
      .header("content-length", "5")
      .header("cookie", "c=1");
  context.create(make("ext-auth", R"({cluster: auth, host: auth.x, path: "/check?u=$escaped_request_uri",
                                  response_headers: [X-User, X-None],
                                  headers: [{name: X-More, value: "m $remote_addr"}]})"));
  context.header("x-none", "forged");
  EXPECT_FALSE(context.run_request(false));
  ASSERT_EQ(context.calls().size(), 1u);
  const std::string& call = context.calls()[0];
  EXPECT_TRUE(call.starts_with("auth GET auth.x/check?u=%2Fa%3Fb\n")) << call;
  for (std::string_view field : {"x-original-url: http://foo.example/a?b\n", "x-original-method: POST\n",
                                 "x-auth-request-redirect: /a?b\n", "cookie: c=1\n", "x-more: m 192.0.2.7\n"}) {
    EXPECT_TRUE(has(call, field)) << field << call;
  }
  EXPECT_FALSE(has(call, "content-length"));
  context.answer_call(204, {{"x-user", "ann"}, {"x-secret", "s"}, {"set-cookie", "sid=1"}});
  EXPECT_TRUE(context.request_passed());
  EXPECT_EQ(context.request().headers.get_joined("x-user"), "ann");
  EXPECT_FALSE(context.request().headers.has("x-none"));
  EXPECT_FALSE(context.request().headers.has("x-secret"));
  EXPECT_TRUE(context.run_response());
  EXPECT_EQ(context.response().headers.get("set-cookie"), "sid=1");
}

TEST(ExtAuth, NothingPassesThatIsNotAllowed) {
  const auto factory = make("ext-auth", "{cluster: auth}");
  for (const auto& [status, wanted] : std::initializer_list<std::pair<int, int>>{
           {401, 401}, {403, 403}, {0, 500}, {500, 500}, {302, 500}, {404, 500}}) {
    FakeContext context;
    context.create(factory);
    context.run_request();
    context.answer_call(status, {{"www-authenticate", "Basic realm=\"x\""}, {"x-other", "1"}});
    EXPECT_FALSE(context.request_passed()) << status;
    EXPECT_EQ(context.reply_status(), wanted) << status;
    EXPECT_EQ(context.reply_headers().get("www-authenticate"), wanted < 500 ? "Basic realm=\"x\"" : "");
    EXPECT_FALSE(context.reply_headers().has("x-other"));
  }
}

TEST(ExtAuth, SendsToTheSignIn) {
  for (const auto& [config, location] : std::initializer_list<std::pair<const char*, const char*>>{
           {R"(signin: "https://l.x/s")", "https://l.x/s?rd=http://foo.example%2Fa%20b"},
           {R"(signin: "https://l.x/s?a=1")", "https://l.x/s?a=1&rd=http://foo.example%2Fa%20b"},
           {R"(signin: "https://l.x/s?rd=$request_uri")", "https://l.x/s?rd=/a%20b"},
           {R"(signin: "https://$host/s", signin_redirect_param: next)",
            "https://foo.example/s?next=http://foo.example%2Fa%20b"},
       }) {
    FakeContext context;
    context.target("/a b").create(make("ext-auth", "{cluster: auth, " + std::string(config) + "}"));
    context.run_request();
    context.answer_call(401);
    EXPECT_EQ(context.reply_status(), 302);
    EXPECT_EQ(context.reply_headers().get("location"), location);
  }
  FakeContext context;
  context.create(make("ext-auth", R"({cluster: auth, signin: "https://l.x/s"})"));
  context.run_request();
  context.answer_call(403);
  EXPECT_EQ(context.reply_status(), 403);
}

TEST(ExtAuth, CookiesGoBackWithGoodResponses) {
  for (bool always : {false, true}) {
    for (int status : {200, 302, 404, 500}) {
      FakeContext context;
      context.answer(status, 0).create(
          make("ext-auth", always ? "{cluster: a, always_set_cookie: true}" : "{cluster: a}"));
      context.run_request();
      context.answer_call(200, {{"set-cookie", "a=1"}, {"set-cookie", "b=2"}});
      context.run_response();
      EXPECT_EQ(context.response().headers.has("set-cookie"), always || status < 400) << status;
    }
  }
}

TEST(ExtAuth, KeepsVerdicts) {
  const auto factory = make("ext-auth",
                            "{cluster: auth, cache_key: $http_authorization, response_headers: [x-user], "
                            "cache_duration: [\"200 10m\", \"403 1h\"]}");
  const auto ask = [&](const char* who, int status,
                       std::initializer_list<std::pair<std::string_view, std::string_view>> f) {
    FakeContext context;
    context.header("authorization", who).create(factory);
    context.run_request();
    const bool asked = !context.calls().empty();
    if (asked) context.answer_call(status, f);
    return std::to_string(asked) + (context.replied() ? std::to_string(context.reply_status())
                                                      : std::string(context.request().headers.get("x-user")));
  };
  EXPECT_EQ(ask("ann", 200, {{"x-user", "ann"}}), "1ann");
  EXPECT_EQ(ask("ann", 500, {}), "0ann");
  EXPECT_EQ(ask("bob", 403, {}), "1403");
  EXPECT_EQ(ask("bob", 200, {}), "0403");
  EXPECT_EQ(ask("eve", 401, {}), "1401");  // not to be kept
  EXPECT_EQ(ask("eve", 401, {}), "1401");
  EXPECT_EQ(ask("err", 500, {}), "1500");
  EXPECT_EQ(ask("err", 200, {{"set-cookie", "mine"}, {"x-user", "err"}}), "1err");
  EXPECT_EQ(ask("err", 200, {{"x-user", "e"}}), "1e");  // an answer with a cookie was not kept
}

TEST(ExtAuth, TheCacheIsBounded) {
  ext_auth::DecisionCache cache;
  auto decision = std::make_shared<ext_auth::Decision>();
  decision->status = 200;
  const auto key = [](int i) { return KeyedDigest::of(std::to_string(i)); };
  size_t found = 0;
  for (int i = 0; i < 10'000; ++i) cache.put(key(i), decision, 1000);
  for (int i = 0; i < 10'000; ++i) found += cache.find(key(i), 999) != nullptr;
  EXPECT_EQ(found, 1024u);
  EXPECT_NE(cache.find(key(9'999), 999), nullptr);
  EXPECT_EQ(cache.find(key(9'999), 1000), nullptr);
  decision->fields.emplace_back("x", std::string(9000, 'x'));
  cache.put(key(-1), decision, 1000);
  EXPECT_EQ(cache.find(key(-1), 0), nullptr);
}

TEST(ExtAuth, SomeNeedNotBeAskedAbout) {
  const auto factory = make("ext-auth", "{cluster: auth, skip_addresses: [10.0.0.0/8]}");
  FakeContext inside;
  inside.client("10.1.2.3:1").create(factory);
  EXPECT_TRUE(inside.run_request());
  EXPECT_TRUE(inside.calls().empty());
  FakeContext outside;
  outside.create(factory);
  EXPECT_FALSE(outside.run_request());
}

TEST(ExtAuth, AClientThatGoesGivesTheCallUp) {
  FakeContext context;
  context.create(make("ext-auth", "{cluster: auth}"));
  context.run_request();
  context.finish();
  EXPECT_TRUE(context.call_given_up());
}

TEST(ExtAuth, TimesOfVerdicts) {
  for (const auto& [text, ms] :
       std::initializer_list<std::pair<const char*, uint64_t>>{{"200 202 10m", 600'000},
                                                               {"5m", 300'000},
                                                               {"any 1h30m", 5'400'000},
                                                               {"401 90", 90'000},
                                                               {"200 500ms", 500},
                                                               {"200 2d", 172'800'000},
                                                               {"200 99999999d", 365ull * 86'400'000}}) {
    const auto rule = CacheRule::parse(text);
    ASSERT_TRUE(rule) << text;
    EXPECT_EQ(rule->milliseconds, ms) << text;
  }
  EXPECT_TRUE(CacheRule::parse("any 1m")->covers(403));
  EXPECT_FALSE(CacheRule::parse("5m")->covers(401));
  EXPECT_TRUE(CacheRule::parse("5m")->covers(200));
  for (const char* text : {"", " ", "200", "x 5m", "200 5x", "200 m", "99 5m", "600 5m", "200 5m 401", "200 -5m",
                           "200 99999999999999999999s"}) {
    if (std::string_view(text) == "200") continue;  // seconds
    EXPECT_FALSE(CacheRule::parse(text)) << text;
  }
}

TEST(ExtAuth, MalformedConfigurations) {
  EXPECT_EQ(error("ext-auth", "{}"), "cluster: is required");
  EXPECT_EQ(error("ext-auth", "{cluster: a, path: x}"), "path: \"x\" must begin with '/'");
  EXPECT_TRUE(has(error("ext-auth", R"({cluster: a, path: "/$nope"})"), "path: \"$nope\" is not a variable"));
  EXPECT_TRUE(has(error("ext-auth", R"({cluster: a, method: "A B"})"), "is not a method"));
  EXPECT_TRUE(has(error("ext-auth", "{cluster: a, cache_duration: [x]}"), "is not a list of statuses and a time"));
  EXPECT_TRUE(has(error("ext-auth", "{cluster: a, response_headers: [Content-Length]}"), "can't be set"));
  EXPECT_TRUE(has(error("ext-auth", "{cluster: a, headers: [{name: Host, value: x}]}"), "can't be set"));
  EXPECT_TRUE(
      has(error("ext-auth", R"({cluster: a, signin_redirect_param: "a=b"})"), "is not the name of a query parameter"));
  EXPECT_TRUE(has(error("ext-auth", "{cluster: a, skip_addresses: [x]}"), "is not an IP address"));
}

}  // namespace
}  // namespace sluice::plugins
