#include <gtest/gtest.h>

#include <thread>

#include "plugins/local_rate_limit/config.h"
#include "plugins/local_rate_limit/token_bucket.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using local_rate_limit::TokenBucket;
using testing::error;
using testing::FakeContext;
using testing::make;

constexpr uint64_t kSecond = 1'000'000'000;

uint64_t take_all(TokenBucket& bucket, uint64_t now) {
  uint64_t taken = 0;
  while (bucket.take(now)) ++taken;
  return taken;
}

TEST(TokenBucket, IsFullAtTheBeginningAndNeverOverflows) {
  TokenBucket bucket(5, 1, kSecond);
  EXPECT_EQ(take_all(bucket, 100 * kSecond), 5u);
  EXPECT_EQ(take_all(bucket, 100 * kSecond), 0u);
  EXPECT_EQ(take_all(bucket, 1000 * kSecond), 5u);
}

TEST(TokenBucket, FillsEvenly) {
  TokenBucket bucket(10, 10, kSecond);
  uint64_t now = 77 * kSecond;
  EXPECT_EQ(take_all(bucket, now), 10u);
  EXPECT_EQ(take_all(bucket, now + kSecond / 10 - 1), 0u);
  EXPECT_EQ(take_all(bucket, now + kSecond / 10), 1u);
  EXPECT_EQ(take_all(bucket, now + kSecond / 2), 4u);
  EXPECT_EQ(take_all(bucket, now + kSecond), 5u);
}

TEST(TokenBucket, KeepsTheRateInTheLongRun) {
  TokenBucket bucket(3, 7, kSecond);
  uint64_t taken = 0;
  for (uint64_t now = kSecond; now <= 1001 * kSecond; now += kSecond / 50) taken += bucket.take(now);
  EXPECT_NEAR(static_cast<double>(taken), 7000, 10);
}

TEST(TokenBucket, ExtremesDoNotOverflow) {
  TokenBucket huge(INT32_MAX, 1, 86400 * kSecond);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(huge.take(kSecond));
  TokenBucket fast(INT32_MAX, INT32_MAX, 1'000'000);
  EXPECT_TRUE(fast.take(kSecond));
}

TEST(TokenBucket, AClockThatIsBehindGainsNothing) {
  TokenBucket bucket(2, 1, kSecond);
  EXPECT_EQ(take_all(bucket, 10 * kSecond), 2u);
  EXPECT_FALSE(bucket.take(9 * kSecond));
  EXPECT_FALSE(bucket.take(10 * kSecond));
  EXPECT_TRUE(bucket.take(11 * kSecond));
}

TEST(TokenBucket, IsExactAcrossThreads) {
  TokenBucket bucket(10'000, 1, 3600 * kSecond);
  std::atomic<uint64_t> taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      uint64_t mine = 0;
      for (int n = 0; n < 20'000; ++n) mine += bucket.take(5 * kSecond);
      taken += mine;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 10'000u);
}

TEST(LocalRateLimit, RefusesWhatIsBeyond) {
  const FactoryPointer factory = make("local-rate-limit", "{requests_per_unit: 1, unit: minute, burst_multiplier: 3}");
  for (int i = 0; i < 5; ++i) {
    FakeContext context;
    ASSERT_NE(context.create(factory), nullptr);
    EXPECT_EQ(context.run_request(), i < 3);
    if (i < 3) continue;
    EXPECT_EQ(context.reply_status(), 429);
    EXPECT_EQ(context.reply_body(), "local_rate_limited");
    EXPECT_EQ(context.reply_details(), "local_rate_limited");
    EXPECT_EQ(FakeContext::lines(context.reply_headers()), "x-local-rate-limit: true\n");
  }
}

TEST(LocalRateLimit, EachFactoryCountsForItself) {
  for (int i = 0; i < 3; ++i) {
    FakeContext context;
    context.create(make("local-rate-limit", "{requests_per_unit: 1, burst_multiplier: 1}"));
    EXPECT_TRUE(context.run_request());
  }
}

TEST(LocalRateLimit, BothFormsOfTheLimit) {
  using local_rate_limit::schema;
  auto per_unit = schema().parse(testing::config("{requests_per_unit: 30, unit: minute}"));
  ASSERT_TRUE(per_unit);
  EXPECT_EQ(per_unit->bucket_size(), 150);
  EXPECT_EQ(per_unit->fill_tokens(), 30);
  EXPECT_EQ(per_unit->interval_ms(), 60'000);
  auto bucket = schema().parse(testing::config("{max_tokens: 150, tokens_per_fill: 30, fill_interval_ms: 60000}"));
  ASSERT_TRUE(bucket);
  EXPECT_EQ(bucket->bucket_size(), 150);
  EXPECT_EQ(bucket->fill_tokens(), 30);
  EXPECT_EQ(bucket->interval_ms(), 60'000);
}

TEST(LocalRateLimit, MalformedConfigurations) {
  EXPECT_EQ(error("local-rate-limit", "{requests_per_unit: 0}"), "requests_per_unit: 0 is not in 1..1000000");
  EXPECT_EQ(error("local-rate-limit", "{}"), "requests_per_unit: is required");
  EXPECT_EQ(error("local-rate-limit", "{requests_per_unit: 1, unit: hour}"),
            "unit: \"hour\" is not one of second, minute");
  EXPECT_EQ(error("local-rate-limit", "{max_tokens: 5}").find("tokens_per_fill: is required"), 0u);
  EXPECT_NE(error("local-rate-limit", "{requests_per_unit: 1, max_tokens: 5}"), "");
  EXPECT_EQ(error("local-rate-limit", "{requests_per_units: 5}"),
            "requests_per_units: unknown field; did you mean requests_per_unit?");
}

}  // namespace
}  // namespace sluice::plugins
