#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::FakeContext;
using testing::make;

TEST(RequestBuffer, StatedLengthsStream) {
  FakeContext context;
  context.request().content_length = 5;
  context.create(make("request-buffer", "{}"));
  EXPECT_TRUE(context.run_request(false));
  FakeContext without_body;
  without_body.create(make("request-buffer", "{}"));
  EXPECT_TRUE(without_body.run_request(true));
  EXPECT_EQ(without_body.request().content_length, -1);
}

TEST(RequestBuffer, CountsWhatItCollects) {
  FakeContext context;
  auto* filter = context.create(make("request-buffer", "{max_bytes: 10}"));
  EXPECT_EQ(filter->on_request_headers(context, false), filter::Status::kPause);
  SliceQueue data;
  data.push_back(Slice::copy("12345"));
  EXPECT_EQ(filter->on_request_body(context, data, false), filter::Status::kPause);
  EXPECT_EQ(context.request().content_length, -1);
  EXPECT_EQ(filter->on_request_body(context, data, true), filter::Status::kContinue);
  EXPECT_EQ(context.request().content_length, 10);
}

TEST(RequestBuffer, NeverPassesMoreThanItMay) {
  FakeContext context;
  auto* filter = context.create(make("request-buffer", "{max_bytes: 4}"));
  EXPECT_EQ(filter->on_request_headers(context, false), filter::Status::kPause);
  SliceQueue data;
  data.push_back(Slice::copy("12345"));
  EXPECT_EQ(filter->on_request_body(context, data, true), filter::Status::kPause);
}

}  // namespace
}  // namespace sluice::plugins
