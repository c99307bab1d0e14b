#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

std::string run(const std::string& config, std::string_view name, std::string_view value) {
  FakeContext context;
  context.response_header(name, value);
  context.create(make("response-rewrite", config));
  context.run_request();
  context.run_response();
  return std::string(context.response().headers.get(name));
}

TEST(ResponseRewrite, CookieDomain) {
  const std::string config =
      "{cookie_domain: [{from: in.example, to: out.example}, {from: \"~^(.+)[.]local$\", to: $1.com}]}";
  EXPECT_EQ(run(config, "set-cookie", "a=1; Domain=in.example; Secure"), "a=1; Domain=out.example; Secure");
  EXPECT_EQ(run(config, "set-cookie", "a=1; domain=.IN.example"), "a=1; domain=out.example");
  EXPECT_EQ(run(config, "set-cookie", "a=1; Domain=x.local"), "a=1; Domain=x.com");
  for (const char* same :
       {"a=1; Domain=sub.in.example", "a=1", "a=Domain=in.example; Path=/", "a=1;", "domain=in.example"}) {
    EXPECT_EQ(run(config, "set-cookie", same), same);
  }
}

TEST(ResponseRewrite, CookiePath) {
  const std::string config = "{cookie_path: [{from: /one/, to: /}, {from: \"~*^/TWO(/.*)?$\", to: /2$1}]}";
  EXPECT_EQ(run(config, "set-cookie", "a=1; Path=/one/x"), "a=1; Path=/x");
  EXPECT_EQ(run(config, "set-cookie", "a=1; Path=/two/x; HttpOnly"), "a=1; Path=/2/x; HttpOnly");
  EXPECT_EQ(run(config, "set-cookie", "a=1; Path=/three"), "a=1; Path=/three");
}

TEST(ResponseRewrite, AllCookies) {
  FakeContext context;
  context.response_header("set-cookie", "a=1; Path=/p").response_header("x", "y").response_header("set-cookie", "b=2");
  context.create(make("response-rewrite", "{cookie_path: [{from: /p, to: /q}]}"));
  context.run_response();
  EXPECT_EQ(FakeContext::lines(context.response().headers), "x: y\nset-cookie: a=1; Path=/q\nset-cookie: b=2\n");
}

TEST(ResponseRewrite, Location) {
  const std::string config = "{location: [{from: \"http://in:8080/\", to: \"https://$host/\"}]}";
  EXPECT_EQ(run(config, "location", "http://in:8080/a?b"), "https://foo.example/a?b");
  EXPECT_EQ(run(config, "location", "http://else/"), "http://else/");
  EXPECT_EQ(run(config, "refresh", "5; url=http://in:8080/a"), "5; url=https://foo.example/a");
  EXPECT_EQ(run(config, "refresh", "5"), "5");
  EXPECT_EQ(run("{location: [{from: \"~^/([a-z]+)\", to: /x/$1}]}", "location", "/abc/d"), "/x/abc/d");
}

TEST(ResponseRewrite, Errors) {
  EXPECT_NE(error("response-rewrite", "{location: [{from: \"~(\", to: x}]}").find("location[0].from"),
            std::string::npos);
  EXPECT_NE(error("response-rewrite", "{location: [{from: a, to: $1}]}").find("group"), std::string::npos);
  EXPECT_NE(error("response-rewrite", "{location: [{from: a, to: $nothing}]}").find("$nothing"), std::string::npos);
  EXPECT_NE(error("response-rewrite", "{location: [{to: a}]}").find("from"), std::string::npos);
}

}  // namespace
}  // namespace sluice::plugins
