#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

std::string sent(FakeContext& context) {
  EXPECT_LE(context.sent().size(), 1u);
  return context.sent().empty() ? "-" : context.sent()[0];
}

filter::Status body(FakeContext& context, filter::Filter* filter, const std::string& text, bool end) {
  SliceQueue data;
  if (!text.empty()) data.push_back(Slice::copy(text));
  const auto status = filter->on_request_body(context, data, end);
  EXPECT_EQ(data.to_string<std::string>(), text) << "the request itself is not touched";
  return status;
}

TEST(Mirror, CopiesHeadersAndBody) {
  FakeContext context;
  context.method("POST").target("/p?q").header("x-a", "1").header("content-length", "6");
  filter::Filter* filter = context.create(make("mirror", "{cluster: c}"));
  EXPECT_TRUE(context.run_request(false));
  EXPECT_EQ(body(context, filter, "abc", false), filter::Status::kContinue);
  EXPECT_EQ(sent(context), "-") << "only when it is complete";
  body(context, filter, "def", true);
  EXPECT_EQ(sent(context), "c POST foo.example-shadow/p?q\nx-a: 1\nabcdef");
}

TEST(Mirror, WithoutBody) {
  FakeContext context;
  context.request().authority = "a.b:8080";
  context.create(make("mirror", "{cluster: c}"));
  EXPECT_TRUE(context.run_request(true));
  EXPECT_EQ(sent(context), "c GET a.b-shadow:8080/\n");
}

TEST(Mirror, HostAndNoBody) {
  FakeContext context;
  context.method("POST").target("/p").header("content-type", "text/plain").header("content-length", "3");
  auto factory = make("mirror", "{cluster: c, host: other.example, body: false}");
  EXPECT_FALSE(factory->wants_request_body());
  context.create(factory);
  EXPECT_TRUE(context.run_request(false));
  EXPECT_EQ(sent(context), "c POST other.example/p\n");
}

TEST(Mirror, ALongBodyIsNotCopied) {
  FakeContext context;
  filter::Filter* filter = context.create(make("mirror", "{cluster: c, max_body_bytes: 4}"));
  context.run_request(false);
  body(context, filter, "abcd", false);
  body(context, filter, "e", false);
  body(context, filter, "", true);
  EXPECT_EQ(sent(context), "-");
}

TEST(Mirror, Percentage) {
  int copies = 0;
  FakeContext context;
  auto factory = make("mirror", "{cluster: c, percentage: 25}");
  for (int i = 0; i < 2000; ++i) copies += context.create(factory) != nullptr;
  EXPECT_NEAR(copies, 500, 100);
  EXPECT_EQ(context.create(make("mirror", "{cluster: c, percentage: 0}")), nullptr);
}

TEST(Mirror, NoTunnels) {
  FakeContext context;
  context.request().upgrade = "websocket";
  EXPECT_EQ(context.create(make("mirror", "{cluster: c}")), nullptr);
  EXPECT_NE(error("mirror", "{}").find("cluster"), std::string::npos);
}

}  // namespace
}  // namespace sluice::plugins
