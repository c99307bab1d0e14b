#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using testing::error;
using testing::FakeContext;
using testing::make;

TEST(Fault, AbortsWithAStatus) {
  const FactoryPointer factory = make("fault", "{abort: {status: 503}}");
  FakeContext context;
  ASSERT_NE(context.create(factory), nullptr);
  EXPECT_FALSE(context.run_request());
  EXPECT_EQ(context.reply_status(), 503);
  EXPECT_EQ(context.reply_body(), "fault filter abort");
  EXPECT_EQ(context.reply_details(), "fault_filter_abort");
  EXPECT_TRUE(context.has_flag(filter::ResponseFlag::kFaultInjected));
  EXPECT_FALSE(context.has_flag(filter::ResponseFlag::kDelayInjected));
}

TEST(Fault, AbortsWithAGrpcStatus) {
  const FactoryPointer factory = make("fault", "{abort: {grpc_status: 8}}");
  FakeContext grpc;
  grpc.header("content-type", "application/grpc+proto");
  grpc.create(factory);
  EXPECT_FALSE(grpc.run_request());
  EXPECT_EQ(grpc.reply_headers().get("grpc-status"), "8");
  EXPECT_GE(grpc.reply_status(), 300);
  FakeContext plain;
  plain.header("content-type", "application/grpcx");
  plain.create(factory);
  EXPECT_FALSE(plain.run_request());
  EXPECT_EQ(plain.reply_status(), 429);
  EXPECT_FALSE(plain.reply_headers().has("grpc-status"));
}

TEST(Fault, DelaysThenGoesOn) {
  const FactoryPointer factory = make("fault", "{delay: {fixed_ms: 20}}");
  FakeContext context;
  context.create(factory);
  EXPECT_FALSE(context.run_request());
  EXPECT_FALSE(context.replied());
  context.turn(5);
  EXPECT_FALSE(context.request_passed());
  context.turn(40);
  EXPECT_TRUE(context.request_passed());
  EXPECT_FALSE(context.replied());
}

TEST(Fault, DelaysThenAborts) {
  const FactoryPointer factory = make("fault", "{delay: {fixed_ms: 5}, abort: {status: 500}}");
  FakeContext context;
  context.create(factory);
  EXPECT_FALSE(context.run_request());
  EXPECT_FALSE(context.replied());
  context.turn(20);
  EXPECT_EQ(context.reply_status(), 500);
  EXPECT_TRUE(context.has_flag(filter::ResponseFlag::kFaultInjected));
  EXPECT_TRUE(context.has_flag(filter::ResponseFlag::kDelayInjected));
}

TEST(Fault, ACancelledExchangeTakesItsTimerAlong) {
  const FactoryPointer factory = make("fault", "{delay: {fixed_ms: 5}, max_active: 1}");
  FakeContext context;
  context.create(factory);
  EXPECT_FALSE(context.run_request());
  context.finish();
  context.turn(15);
  EXPECT_FALSE(context.request_passed());
  // Its place is free again.
  FakeContext next;
  next.create(factory);
  EXPECT_FALSE(next.run_request());
}

TEST(Fault, NoMoreThanMaxActiveWait) {
  const FactoryPointer factory = make("fault", "{delay: {fixed_ms: 10}, max_active: 2}");
  FakeContext a, b, c;
  a.create(factory);
  b.create(factory);
  c.create(factory);
  EXPECT_FALSE(a.run_request());
  EXPECT_FALSE(b.run_request());
  EXPECT_TRUE(c.run_request());
  a.turn(30);
  EXPECT_TRUE(a.request_passed());
  FakeContext d;
  d.create(factory);
  EXPECT_FALSE(d.run_request());
}

TEST(Fault, PercentagesHold) {
  const FactoryPointer factory = make("fault", "{abort: {status: 503, percentage: 12.5}}");
  FakeContext context;
  int hit = 0;
  for (int i = 0; i < 20'000; ++i) {
    hit += context.create(factory) != nullptr;
    context.finish();
  }
  EXPECT_NEAR(hit, 2500, 250);
  EXPECT_EQ(context.create(make("fault", "{abort: {status: 503, percentage: 0}}")), nullptr);
}

TEST(Fault, OnlyRequestsWithTheHeader) {
  const FactoryPointer any = make("fault", "{header: {name: X-Chaos}, abort: {status: 503}}");
  const FactoryPointer exact = make("fault", "{header: {name: x-chaos, value: \"on\"}, abort: {status: 503}}");
  FakeContext without, other, with;
  EXPECT_EQ(without.create(any), nullptr);
  EXPECT_NE(other.header("x-chaos", "off").create(any), nullptr);
  other.finish();
  EXPECT_EQ(other.create(exact), nullptr);
  EXPECT_NE(with.header("x-chaos", "on").create(exact), nullptr);
}

TEST(Fault, MalformedConfigurations) {
  EXPECT_EQ(error("fault", "{}"), "nothing to do: give delay.fixed_ms, abort.status or abort.grpc_status");
  EXPECT_EQ(error("fault", "{abort: {status: 99}}"), "abort.status: 99 is not in 200..599");
  EXPECT_EQ(error("fault", "{abort: {grpc_status: 17}}"), "abort.grpc_status: 17 is not in 1..16");
  EXPECT_EQ(error("fault", "{abort: {status: 500, grpc_status: 1}}"),
            "abort: only one of status and grpc_status can be given");
  EXPECT_EQ(error("fault", "{abort: {percentage: 50}}"), "abort: one of status and grpc_status is required");
  EXPECT_EQ(error("fault", "{delay: {fixed_ms: 0}}"), "delay.fixed_ms: 0 is not in 1..3600000");
  EXPECT_EQ(error("fault", "{delay: {fixed_ms: 1, percentage: 101}}"), "delay.percentage: 101 is not in 0..100");
  EXPECT_EQ(error("fault", "{header: {value: x}, abort: {status: 500}}"), "header.name: is required");
}

}  // namespace
}  // namespace sluice::plugins
