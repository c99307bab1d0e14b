#include "plugins/variables.h"

#include <gtest/gtest.h>

#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::FakeContext;

std::string render(FakeContext& context, std::string_view text) {
  auto parsed = VariableTemplate::parse(text);
  return parsed ? std::string(parsed->render(context)) : "error: " + parsed.error().message;
}

TEST(Variables, StandForFactsOfTheRequest) {
  FakeContext context;
  context.method("PUT")
      .target("/a b?x=1&y=%20")
      .header("x-user-id", "7")
      .header("cookie", "a=1; sid=s")
      .client("192.0.2.9:1");
  context.request().authority = "Foo.Example:8443";
  context.header("x-request-id", "id-1");
  for (const auto& [text, value] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"", ""},
           {"plain", "plain"},
           {"$scheme://$host/", "http://foo.example/"},
           {"$pass_access_scheme", "http"},
           {"$http_host|$best_http_host", "Foo.Example:8443|Foo.Example:8443"},
           {"$request_uri", "/a b?x=1&y=%20"},
           {"$escaped_request_uri", "%2Fa%20b%3Fx%3D1%26y%3D%2520"},
           {"$uri$is_args$args", "/a b?x=1&y=%20"},
           {"$document_uri?$query_string", "/a b?x=1&y=%20"},
           {"$request_method $server_protocol", "PUT HTTP/1.1"},
           {"$request_id$req_id", "id-1id-1"},
           {"$remote_addr/$the_real_ip", "192.0.2.9/192.0.2.9"},
           {"${http_x_user_id}0", "70"},
           {"$http_x_User_id", "7"},
           {"$cookie_sid-$cookie_none", "s-"},
           {"$arg_y$arg_none", "%20"},
       }) {
    EXPECT_EQ(render(context, text), value) << text;
  }
}

TEST(Variables, TheTargetIsTheOneThatTheClientSent) {
  FakeContext context;
  context.target("/new").header("x-envoy-original-path", "/old?q");
  EXPECT_EQ(render(context, "$request_uri $uri"), "/old?q /new");
}

TEST(Variables, NothingElse) {
  FakeContext context;
  for (std::string_view text : {"$", "a$", "$nonsense", "${host", "$http_", "$arg_", "$$host", "$ host"}) {
    EXPECT_NE(render(context, text).find("is not a variable"), std::string::npos) << text;
  }
}

TEST(Variables, HostsOfAllForms) {
  FakeContext context;
  for (const auto& [authority, host] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"[::1]:80", "[::1]"}, {"[::1]", "[::1]"}, {"", ""}, {"a.b", "a.b"}, {"A.b:1", "a.b"}}) {
    context.request().authority = authority;
    EXPECT_EQ(render(context, "$host"), host);
  }
}

TEST(Variables, TargetsHoldNothingThatEndsThem) {
  Arena arena;
  EXPECT_EQ(encode_target("/a?b=c%20", arena), "/a?b=c%20");
  EXPECT_EQ(encode_target("/a b\r\nX: \x7f\xc3", arena), "/a%20b%0D%0AX:%20%7F%C3");
}

}  // namespace
}  // namespace sluice::plugins
