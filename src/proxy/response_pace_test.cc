#include "proxy/response_pace.h"

#include <gtest/gtest.h>

namespace sluice::proxy {
namespace {

ResponsePace make(uint64_t rate, uint64_t after, size_t held) {
  ResponsePace pace;
  pace.bytes_per_second = rate;
  pace.after = after;
  pace.begin_ms = 5000;
  pace.held.push_back(Slice::copy(std::string(held, 'x')));
  return pace;
}

TEST(ResponsePace, LetsTheRateThroughAndABitAtOnce) {
  ResponsePace pace = make(1000, 0, 5000);
  EXPECT_EQ(pace.allowance(5000), 100u);
  EXPECT_EQ(pace.allowance(5500), 600u);
  EXPECT_EQ(pace.allowance(7000), 2100u);
  pace.sent = 2100;
  EXPECT_EQ(pace.allowance(7000), 0u);
  EXPECT_EQ(pace.wait_ms(7000), 100u);
  EXPECT_EQ(pace.allowance(7100), 100u);
}

TEST(ResponsePace, TheFirstBytesAreFree) {
  ResponsePace pace = make(1000, 50'000, 60'000);
  EXPECT_EQ(pace.allowance(5000), 50'100u);
}

TEST(ResponsePace, ExtremesNeitherStallNorOverflow) {
  ResponsePace slow = make(1, 0, 10);
  EXPECT_EQ(slow.allowance(5000), 1u);
  slow.sent = 1;
  EXPECT_EQ(slow.wait_ms(5000), 1000u);
  ResponsePace fast = make(uint64_t{1} << 42, uint64_t{1} << 42, 10);
  EXPECT_GT(fast.allowance(5000 + 86'400'000), uint64_t{1} << 42);
  EXPECT_EQ(fast.wait_ms(5000), 1u);
}

TEST(ResponsePace, TheWholeTakesItsTime) {
  ResponsePace pace = make(10'000, 0, 35'000);
  uint64_t now = 5000;
  while (!pace.held.empty()) {
    const size_t size = std::min<size_t>(pace.allowance(now), pace.held.bytes());
    pace.held.consume(size);
    pace.sent += size;
    if (!pace.held.empty()) now += pace.wait_ms(now);
  }
  EXPECT_NEAR(static_cast<double>(now - 5000), 3400, 20);
}

}  // namespace
}  // namespace sluice::proxy
