// The small pieces: hash, random numbers, Result, log levels, string map.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <string>

#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "base/result.h"
#include "base/string_map.h"

namespace sluice {
namespace {

// Consistent hashing depends on these: a change moves every client of every hashing cluster.
TEST(Hash, HasAFixedDefinition) {
  EXPECT_EQ(mix64(0), 0u);
  const struct {
    std::string_view text;
    uint64_t seed, hash;
  } cases[] = {
      {"", 0, 0x3da4588b8c08334fu},
      {"a", 0, 0x9f2b778b839f5af9u},
      {"a", 1, 0xb14509eef24158cbu},
      {"1234567", 0, 0xdf117d134c5bb228u},
      {"12345678", 0, 0x1ee23302a2d43cdau},
      {"123456789", 0, 0x713ffb6dfc1f1f0cu},
      {"10.0.0.1:8080", 1, 0xffbcf6cb0cb497d6u},
      {"the quick brown fox jumps over the lazy dog", 7, 0xcd86496ed1970ff6u},
  };
  for (const auto& c : cases) EXPECT_EQ(hash64(c.text, c.seed), c.hash) << c.text << " " << c.seed;
}

TEST(Hash, SpreadsShortSimilarTexts) {
  std::set<uint64_t> seen;
  std::array<int, 64> buckets{};
  for (int i = 0; i < 64'000; ++i) {
    const uint64_t h = hash64("10.0." + std::to_string(i / 256) + "." + std::to_string(i % 256) + ":80");
    seen.insert(h);
    ++buckets[h >> 58];
  }
  EXPECT_EQ(seen.size(), 64'000u);
  for (int count : buckets) {
    EXPECT_GT(count, 850);
    EXPECT_LT(count, 1150);
  }
  EXPECT_NE(hash64("a"), hash64(std::string_view("a\0", 2)));
  EXPECT_NE(hash64("a", 1), hash64("a", 2));
}

TEST(Random, StaysInBounds) {
  Random random(42), same(42), other(43);
  EXPECT_EQ(random.next(), same.next());
  EXPECT_NE(random.next(), other.next());
  for (uint32_t bound : {1u, 2u, 3u, 10u, 1000u, 0x80000001u, 0xffffffffu}) {
    for (int i = 0; i < 2000; ++i) ASSERT_LT(random.below(bound), bound);
  }
  std::array<int, 10> counts{};
  for (int i = 0; i < 100'000; ++i) ++counts[random.below(10)];
  for (int count : counts) EXPECT_NEAR(count, 10'000, 500);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double unit = random.unit();
    ASSERT_GE(unit, 0.0);
    ASSERT_LT(unit, 1.0);
    sum += unit;
  }
  EXPECT_NEAR(sum / 100'000, 0.5, 0.01);
}

TEST(Random, ZeroSeedIsNotStuck) {
  Random random(0);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random.next());
  EXPECT_EQ(seen.size(), 1000u);
}

Result<int> half(int n) {
  if (n % 2) return Error{"odd: " + std::to_string(n)};
  return n / 2;
}

TEST(Result, IsAValueOrAnError) {
  EXPECT_TRUE(half(4).ok());
  EXPECT_EQ(*half(4), 2);
  EXPECT_FALSE(half(3));
  EXPECT_EQ(half(3).error().message, "odd: 3");
  Result<std::unique_ptr<int>> moved(std::make_unique<int>(5));
  EXPECT_EQ(**moved, 5);
  std::unique_ptr<int> taken = std::move(*moved);
  EXPECT_EQ(*taken, 5);
  // An error of a Result whose value is an Error-like type stays an error.
  Result<std::string> text(std::string("x"));
  EXPECT_EQ(text->size(), 1u);
  Status good, bad = Error{"no"};
  EXPECT_TRUE(good.ok());
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().message, "no");
}

TEST(Log, ParsesLevels) {
  log::Level level = log::Level::kInfo;
  for (log::Level each : {log::Level::kDebug, log::Level::kInfo, log::Level::kWarning, log::Level::kError}) {
    ASSERT_TRUE(log::parse_level(log::name(each), &level));
    EXPECT_EQ(level, each);
  }
  level = log::Level::kWarning;
  for (const char* text : {"", "Debug", "warn", "errors", " info", "info "}) {
    EXPECT_FALSE(log::parse_level(text, &level)) << text;
    EXPECT_EQ(level, log::Level::kWarning);
  }
}

TEST(Log, WritesOneLinePerEvent) {
  const log::Level before = log::level();
  log::set_level(log::Level::kWarning);
  testing::internal::CaptureStderr();
  log::info("config", "not shown");
  log::warning("config", "two\nlines \x01");
  const std::string out = testing::internal::GetCapturedStderr();
  log::set_level(before);
  EXPECT_EQ(out.find("not shown"), std::string::npos);
  EXPECT_NE(out.find("Z warning config: two lines  \n"), std::string::npos) << out;
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 1);
}

TEST(StringMap, LooksUpByView) {
  StringMap<int> map;
  map["abc"] = 1;
  const std::string text = "xabcx";
  EXPECT_EQ(map.find(std::string_view(text).substr(1, 3))->second, 1);
  EXPECT_EQ(map.find(std::string_view(text)), map.end());
}

}  // namespace
}  // namespace sluice
