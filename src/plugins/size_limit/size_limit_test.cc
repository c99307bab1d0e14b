#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::FakeContext;
using testing::make;

TEST(SizeLimit, BodiesOfStatedAndUnknownLength) {
  const auto factory = make("size-limit", "{request_body_bytes: 10}");
  for (const auto& [length, passes] :
       std::initializer_list<std::pair<int64_t, bool>>{{10, true}, {11, false}, {0, true}}) {
    FakeContext context;
    context.request().content_length = length;
    context.create(factory);
    EXPECT_EQ(context.run_request(false), passes) << length;
    if (!passes) EXPECT_EQ(context.reply_status(), 413);
  }
  FakeContext context;
  context.create(factory);
  EXPECT_TRUE(context.run_request(false));
  SliceQueue data;
  data.push_back(Slice::copy("12345"));
  auto* filter = context.create(factory);
  EXPECT_EQ(filter->on_request_body(context, data, false), filter::Status::kContinue);
  EXPECT_EQ(filter->on_request_body(context, data, false), filter::Status::kContinue);
  EXPECT_FALSE(context.replied());
  EXPECT_EQ(filter->on_request_body(context, data, true), filter::Status::kPause);
  EXPECT_EQ(context.reply_status(), 413);
}

TEST(SizeLimit, ResponseHeads) {
  for (const auto& [bytes, status] : std::initializer_list<std::pair<size_t, int>>{{995, 0}, {996, 502}}) {
    FakeContext context;
    const std::string value(bytes, 'x');
    context.response().headers.set("x", value);
    context.create(make("size-limit", "{response_head_bytes: 1000}"));
    context.run_request();
    context.run_response();
    EXPECT_EQ(context.replied() ? context.reply_status() : 0, status) << bytes;
  }
}

}  // namespace
}  // namespace sluice::plugins
