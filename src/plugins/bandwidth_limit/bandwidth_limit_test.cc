#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

TEST(BandwidthLimit, TellsTheRate) {
  FakeContext context;
  context.create(make("bandwidth-limit", "{bytes_per_second: 100, after_bytes: 7}"));
  EXPECT_TRUE(context.run_request());
  EXPECT_TRUE(context.run_response());
  EXPECT_EQ(context.response_rate(), (std::pair<uint64_t, uint64_t>{100, 7}));
  EXPECT_EQ(error("bandwidth-limit", "{}"), "bytes_per_second: is required");
}

}  // namespace
}  // namespace sluice::plugins
