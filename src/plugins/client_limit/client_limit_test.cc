#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "plugins/client_limit/client_table.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using client_limit::client_key;
using client_limit::ConnectionTable;
using client_limit::Rate;
using client_limit::RateTable;
using client_limit::scope_key;
using testing::error;
using testing::FakeContext;
using testing::make;

constexpr uint64_t kSecond = 1'000'000'000;

net::Address address(std::string_view text) { return *net::Address::parse_ip(text); }

uint64_t take_all(RateTable& table, uint64_t key, const Rate& rate, uint64_t now) {
  uint64_t taken = 0;
  while (table.take(key, rate, now)) ++taken;
  return taken;
}

TEST(RateTable, EachClientHasItsOwnBucket) {
  auto table = std::make_unique<RateTable>();
  const Rate rate{kSecond, 5 * kSecond};
  const uint64_t ann = client_key(1, address("10.0.0.1")), bob = client_key(1, address("10.0.0.2"));
  EXPECT_EQ(take_all(*table, ann, rate, 100 * kSecond), 5u);
  EXPECT_EQ(take_all(*table, bob, rate, 100 * kSecond), 5u);
  EXPECT_EQ(take_all(*table, ann, rate, 102 * kSecond), 2u);
  EXPECT_EQ(take_all(*table, client_key(2, address("10.0.0.1")), rate, 102 * kSecond), 5u);
}

TEST(RateTable, ClientsBeyondItsSizePushOutThoseThatAreGood) {
  auto table = std::make_unique<RateTable>();
  const Rate rate{kSecond, 5 * kSecond};
  const uint64_t busy = client_key(1, address("10.0.0.1"));
  take_all(*table, busy, rate, 1000 * kSecond);
  // A million clients that come once each and are good again a second later.
  for (uint32_t i = 0; i < 1'000'000; ++i) {
    const uint64_t now = 1000 * kSecond + i * 1000;
    EXPECT_TRUE(table->take(client_key(1, net::Address::ipv4(11, static_cast<uint8_t>(i >> 16),
                                                             static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 0)),
                            rate, now));
  }
  EXPECT_EQ(take_all(*table, busy, rate, 1001 * kSecond), 1u);
}

TEST(RateTable, IsExactAcrossThreads) {
  auto table = std::make_unique<RateTable>();
  const Rate rate{3600 * kSecond, 10'000 * 3600 * kSecond};
  const uint64_t key = client_key(1, address("10.0.0.1"));
  std::atomic<uint64_t> taken{table->take(key, rate, kSecond)};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      uint64_t mine = 0;
      for (int n = 0; n < 20'000; ++n) mine += table->take(key, rate, kSecond);
      taken += mine;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(taken, 10'000u);
}

TEST(ConnectionTable, CountsWhatIsInProgress) {
  auto table = std::make_unique<ConnectionTable>();
  using Entry = ConnectionTable::Entry;
  const uint64_t key = client_key(1, address("10.0.0.1"));
  ConnectionTable::Place places[3];
  for (auto& place : places) EXPECT_EQ(table->enter(key, 3, &place), Entry::kIn);
  ConnectionTable::Place more;
  EXPECT_EQ(table->enter(key, 3, &more), Entry::kFull);
  EXPECT_EQ(table->enter(client_key(1, address("10.0.0.2")), 3, &more), Entry::kIn);
  ConnectionTable::leave(places[1]);
  EXPECT_EQ(table->enter(key, 3, &places[1]), Entry::kIn);
  EXPECT_EQ(table->enter(key, 3, &more), Entry::kFull);
}

TEST(ConnectionTable, ForgetsNobodyAndNeverGoesWrong) {
  auto table = std::make_unique<ConnectionTable>();
  std::vector<ConnectionTable::Place> places;
  size_t no_room = 0;
  const auto key = [](uint32_t i) {
    return client_key(1, net::Address::ipv4(static_cast<uint8_t>(i >> 16), static_cast<uint8_t>(i >> 8),
                                            static_cast<uint8_t>(i), 1, 0));
  };
  for (uint32_t i = 0; i < 200'000; ++i) {
    ConnectionTable::Place place;
    const auto entry = table->enter(key(i), 1, &place);
    no_room += entry == ConnectionTable::Entry::kNoRoom;
    if (place.word) places.push_back(place);
  }
  EXPECT_EQ(places.size() + no_room, 200'000u);
  EXPECT_LE(places.size(), ConnectionTable::kSets * ConnectionTable::kWays);
  for (auto place : places) ConnectionTable::leave(place);
  ConnectionTable::Place place;
  for (uint32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(table->enter(key(i), 1, &place), ConnectionTable::Entry::kIn);
    ConnectionTable::leave(place);
  }
}

TEST(ConnectionTable, IsExactAcrossThreads) {
  auto table = std::make_unique<ConnectionTable>();
  const uint64_t key = client_key(1, address("10.0.0.1"));
  ConnectionTable::Place first;
  table->enter(key, 5, &first);
  std::atomic<int> inside{1}, most{1};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 20'000; ++n) {
        ConnectionTable::Place place;
        if (table->enter(key, 5, &place) != ConnectionTable::Entry::kIn) continue;
        const int now = ++inside;
        int seen = most.load();
        while (now > seen && !most.compare_exchange_weak(seen, now)) {
        }
        --inside;
        ConnectionTable::leave(place);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most.load(), 5);
  EXPECT_EQ(first.word->load() & 0xffff, 1u);
}

TEST(ClientKey, AnIpv6ClientIsItsNetwork) {
  EXPECT_EQ(client_key(1, address("2001:db8::1")), client_key(1, address("2001:db8::ffff:1")));
  EXPECT_NE(client_key(1, address("2001:db8::1")), client_key(1, address("2001:db8:0:1::1")));
  EXPECT_NE(client_key(1, address("10.0.0.1")), client_key(1, address("10.0.0.2")));
  EXPECT_NE(scope_key("a/s"), scope_key("a/m"));
}

TEST(ClientLimit, RefusesWhatIsBeyond) {
  const FactoryPointer factory =
      make("client-limit", "{scope: t1, requests_per_minute: 1, burst_multiplier: 2, exempt: [10.0.0.0/8]}");
  for (int i = 0; i < 5; ++i) {
    FakeContext context;
    context.client("192.0.2.1:1").create(factory);
    EXPECT_EQ(context.run_request(), i < 3) << i;
    if (i < 3) continue;
    EXPECT_EQ(context.reply_status(), 503);
    EXPECT_EQ(context.reply_details(), "client_rate_limited");
    EXPECT_TRUE(context.has_flag(filter::ResponseFlag::kRateLimited));
  }
  for (int i = 0; i < 9; ++i) {
    FakeContext context;
    context.client("10.1.1.1:1").create(factory);
    EXPECT_TRUE(context.run_request());
  }
  // The counts are the scope's, not the factory's.
  FakeContext context;
  context.client("192.0.2.1:1")
      .create(make("client-limit", "{scope: t1, requests_per_minute: 1, burst_multiplier: 2, status: 429}"));
  EXPECT_FALSE(context.run_request());
  EXPECT_EQ(context.reply_status(), 429);
}

TEST(ClientLimit, WhatIsInProgressLeavesWhenItIsOver) {
  const FactoryPointer factory = make("client-limit", "{scope: t2, connections: 2}");
  FakeContext first, second, third;
  for (FakeContext* context : {&first, &second, &third}) context->create(factory);
  EXPECT_TRUE(first.run_request());
  EXPECT_TRUE(second.run_request());
  EXPECT_FALSE(third.run_request());
  EXPECT_EQ(third.reply_details(), "client_connections_limited");
  third.finish();
  first.finish();
  FakeContext fourth, fifth;
  fourth.create(factory);
  EXPECT_TRUE(fourth.run_request());
  fifth.create(factory);
  EXPECT_FALSE(fifth.run_request());
}

TEST(ClientLimit, MalformedConfigurations) {
  EXPECT_EQ(error("client-limit", "{scope: x}"),
            "requests_per_second: is required, or requests_per_minute, or connections");
  EXPECT_EQ(error("client-limit", "{connections: 1}"), "scope: is required");
  EXPECT_NE(error("client-limit", "{scope: x, connections: 65536}"), "");
  EXPECT_NE(error("client-limit", "{scope: x, connections: 1, exempt: [x]}"), "");
}

}  // namespace
}  // namespace sluice::plugins
