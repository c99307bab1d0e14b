#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

FactoryPointer steps(const std::string& list) { return make("directives", "{steps: [" + list + "]}"); }

TEST(Directives, ReturnStopsBeforeDeny) {
  FakeContext context;
  context.create(steps("{action: deny, value: all}, {action: return, status: 204}"));
  EXPECT_FALSE(context.run_request());
  EXPECT_EQ(context.reply_status(), 204);
}

TEST(Directives, FirstAddressThatFitsDecides) {
  const auto factory = steps("{action: allow, value: 10.0.0.0/8}, {action: deny, value: all}");
  for (const auto& [client, passes] : {std::pair{"10.1.1.1:1", true}, {"11.1.1.1:1", false}}) {
    FakeContext context;
    context.client(client);
    context.create(factory);
    EXPECT_EQ(context.run_request(), passes) << client;
  }
}

TEST(Directives, RewriteKeepsTheQueryUnlessToldOtherwise) {
  for (const auto& [to, want] : {std::pair{"/b/$1", "/b/x?q=1"}, {"/b/$1?", "/b/x"}, {"/b?a=$1", "/b?a=x&q=1"}}) {
    FakeContext context;
    context.target("/a/x?q=1");
    context.create(steps(std::string("{action: rewrite, name: \"^/a/(.*)$\", value: \"") + to + "\"}"));
    EXPECT_TRUE(context.run_request());
    EXPECT_EQ(context.request().path, want);
  }
}

TEST(Directives, Conditions) {
  const auto status = [](const std::string& condition) {
    FakeContext context;
    context.header("x-a", "Yes");
    context.create(steps("{subject: $http_x_a, " + condition + ", action: return, status: 403}"));
    context.run_request();
    return context.reply_status() == 403;
  };
  EXPECT_TRUE(status("comparison: not_empty"));
  EXPECT_FALSE(status("comparison: empty"));
  EXPECT_TRUE(status("comparison: equal, operand: Yes"));
  EXPECT_FALSE(status("comparison: not_equal, operand: Yes"));
  EXPECT_TRUE(status("comparison: start, operand: Y"));
  EXPECT_TRUE(status("comparison: match, operand: yes, ignore_case: true"));
  EXPECT_FALSE(status("comparison: match, operand: yes"));
  EXPECT_TRUE(status("comparison: no_match, operand: yes"));
}

TEST(Directives, ResponseFields) {
  FakeContext context;
  context.answer(404, 0).response_header("a", "1").response_header("b", "2");
  context.create(steps(
      "{action: set_response_header, name: A, value: x}, {action: remove_response_header, name: b},"
      "{action: add_response_header, name: c, value: y}, {action: add_response_header, name: d, value: z, always: "
      "true}"));
  context.run_request();
  context.run_response();
  EXPECT_EQ(FakeContext::lines(context.response().headers), "a: x\nd: z\n");
}

TEST(Directives, Errors) {
  EXPECT_NE(error("directives", "{steps: [{action: deny, value: x}]}").find("steps[0].value"), std::string::npos);
  EXPECT_NE(error("directives", "{steps: [{action: return, status: 7}]}").find("200..599"), std::string::npos);
  EXPECT_NE(error("directives", "{steps: [{action: rewrite, name: \"(\", value: /}]}").find("name"), std::string::npos);
  EXPECT_NE(error("directives", "{steps: [{action: set_request_header, name: upgrade}]}").find("frames"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice::plugins
