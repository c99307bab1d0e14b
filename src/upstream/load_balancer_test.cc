#include "upstream/load_balancer.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/hash.h"
#include "event/loop.h"
#include "upstream/pool.h"

namespace sluice::upstream {
namespace {

using Kind = config::LoadBalancing;

struct World {
  std::vector<std::unique_ptr<EndpointState>> endpoints;
  Candidates candidates;
  Random random{12345};

  explicit World(const std::vector<uint32_t>& weights) {
    for (size_t i = 0; i < weights.size(); ++i) {
      auto state = std::make_unique<EndpointState>();
      state->config.weight = weights[i];
      state->address_text = "10.0." + std::to_string(i / 200) + "." + std::to_string(i % 200) + ":8080";
      candidates.push_back(state.get());
      endpoints.push_back(std::move(state));
    }
  }
  std::unique_ptr<LoadBalancer> make(Kind kind, uint32_t ring = 1024, uint32_t table = 65537) {
    return make_load_balancer({kind, ring, table}, candidates, random);
  }
  size_t index(const EndpointState* endpoint) const {
    for (size_t i = 0; i < endpoints.size(); ++i) {
      if (endpoints[i].get() == endpoint) return i;
    }
    ADD_FAILURE() << "not a candidate";
    return 0;
  }
};

std::vector<double> shares(World& world, LoadBalancer& balancer, int picks, bool hash) {
  std::vector<double> counts(world.endpoints.size());
  for (int i = 0; i < picks; ++i) {
    counts[world.index(balancer.pick(hash, hash64("client " + std::to_string(i)), 0))] += 1.0 / picks;
  }
  return counts;
}

TEST(LoadBalancer, SharesFollowTheWeights) {
  const struct {
    Kind kind;
    bool hash;
    double tolerance;  // relative
  } kinds[] = {{Kind::kRoundRobin, false, 0.01}, {Kind::kLeastRequest, false, 0.05}, {Kind::kRandom, false, 0.05},
               {Kind::kRingHash, true, 0.3},     {Kind::kRingHash, false, 0.3},      {Kind::kMaglev, true, 0.05},
               {Kind::kMaglev, false, 0.05}};
  for (const auto& kind : kinds) {
    for (const std::vector<uint32_t>& weights :
         std::vector<std::vector<uint32_t>>{{1}, {1, 1, 1, 1}, {1, 2, 3, 4}, {100, 100, 50}, {7, 7, 7}}) {
      World world(weights);
      auto balancer = world.make(kind.kind, 4096);
      double total = 0;
      for (uint32_t weight : weights) total += weight;
      const auto got = shares(world, *balancer, 60'000, kind.hash);
      for (size_t i = 0; i < weights.size(); ++i) {
        EXPECT_NEAR(got[i], weights[i] / total, kind.tolerance * weights[i] / total)
            << "kind " << static_cast<int>(kind.kind) << " hash " << kind.hash << " weight " << weights[i];
      }
    }
  }
}

TEST(RoundRobin, TakesTurns) {
  World world({1, 1, 1, 1, 1});
  auto balancer = world.make(Kind::kRoundRobin);
  std::vector<size_t> order;
  for (int i = 0; i < 20; ++i) order.push_back(world.index(balancer->pick(false, 0, 0)));
  for (size_t i = 0; i + 1 < order.size(); ++i) EXPECT_EQ(order[i + 1], (order[i] + 1) % 5);
  // Workers do not all begin with the same endpoint.
  std::set<size_t> firsts;
  for (int i = 0; i < 100; ++i) firsts.insert(world.index(world.make(Kind::kRoundRobin)->pick(false, 0, 0)));
  EXPECT_EQ(firsts.size(), 5u);
}

TEST(RoundRobin, WeightedTurnsAreSpread) {
  World world({3, 1});
  auto balancer = world.make(Kind::kRoundRobin);
  int since = 0;
  for (int i = 0; i < 400; ++i) {
    since = world.index(balancer->pick(false, 0, 0)) == 1 ? 0 : since + 1;
    ASSERT_LE(since, 4) << "the light one is not starved for long";
  }
}

TEST(LeastRequest, PrefersTheLessLoaded) {
  World world({1, 1, 1, 1});
  auto balancer = world.make(Kind::kLeastRequest);
  world.endpoints[2]->active_requests = 100;
  std::vector<int> counts(4);
  for (int i = 0; i < 20'000; ++i) ++counts[world.index(balancer->pick(false, 0, 0))];
  // Only when both draws (and the repeats) hit it.
  EXPECT_LT(counts[2], 300);
  for (size_t i : {0u, 1u, 3u}) EXPECT_NEAR(counts[i], 20'000 / 3, 600);
}

TEST(PeakEwma, PrefersTheFasterAndForgets) {
  event::Loop loop;
  World world({1, 1, 1});
  auto balancer = make_load_balancer({.kind = Kind::kPeakEwma, .clock = &loop}, world.candidates, world.random);
  // Nothing is known: the less loaded.
  world.endpoints[0]->active_requests = 5;
  EXPECT_LT(shares(world, *balancer, 3000, false)[0], 0.05);
  world.endpoints[0]->active_requests = 0;
  const uint64_t now = loop.now_ns();
  world.endpoints[0]->latency.observe(now, 50'000'000);
  world.endpoints[1]->latency.observe(now, 1'000'000);
  world.endpoints[2]->latency.observe(now, 1'000'000);
  EXPECT_LT(shares(world, *balancer, 3000, false)[0], 0.05);
  // Many requests outweigh it.
  world.endpoints[1]->active_requests = world.endpoints[2]->active_requests = 100;
  EXPECT_GT(shares(world, *balancer, 3000, false)[0], 0.6);
}

TEST(PeakEwma, RisesAtOnceAndFallsWithTime) {
  LatencyEstimate latency;
  EXPECT_FALSE(latency.known());
  latency.observe(1'000'000'000, 1'000'000);
  latency.observe(2'000'000'000, 80'000'000);
  EXPECT_DOUBLE_EQ(latency.at(2'000'000'000), 80'000'000);
  EXPECT_NEAR(latency.at(12'000'000'000), 80'000'000 / 2.718, 100'000);
  latency.observe(12'000'000'000, 1'000'000);
  EXPECT_LT(latency.at(12'000'000'000), 32'000'000);
  EXPECT_GT(latency.at(12'000'000'000), 1'000'000);
}

TEST(Hashing, SameHashSameEndpoint) {
  for (Kind kind : {Kind::kRingHash, Kind::kMaglev}) {
    World world({1, 2, 3}), same({1, 2, 3});
    auto a = world.make(kind), b = same.make(kind);
    for (int i = 0; i < 1000; ++i) {
      const uint64_t hash = hash64(std::to_string(i));
      EXPECT_EQ(world.index(a->pick(true, hash, 0)), same.index(b->pick(true, hash, 0)));
      EXPECT_EQ(a->pick(true, hash, 0), a->pick(true, hash, 0));
    }
    for (uint64_t hash : {uint64_t{0}, UINT64_MAX}) EXPECT_NE(a->pick(true, hash, 0), nullptr);
  }
}

// When one endpoint leaves only its own clients move (ring), or hardly any others do (Maglev).
TEST(Hashing, StaysStableWhenAnEndpointLeaves) {
  const struct {
    Kind kind;
    double moved;  // at most this part of the other endpoints' clients
  } kinds[] = {{Kind::kRingHash, 0.0}, {Kind::kMaglev, 0.05}};
  for (const auto& c : kinds) {
    World world(std::vector<uint32_t>(10, 1));
    auto before = world.make(c.kind);
    Candidates fewer = world.candidates;
    const EndpointState* gone = fewer[4];
    fewer.erase(fewer.begin() + 4);
    // The ring has at least ring_size points in all: keep the points per endpoint the same, as the balancer would with
    // a larger minimum.
    auto after =
        make_load_balancer({c.kind, c.kind == Kind::kRingHash ? 1024u * 9 / 10 : 1024u, 65537}, fewer, world.random);
    int others = 0, moved = 0, of_gone = 0;
    std::map<const EndpointState*, int> heirs;
    for (int i = 0; i < 20'000; ++i) {
      const uint64_t hash = hash64("client " + std::to_string(i));
      const EndpointState* was = before->pick(true, hash, 0);
      const EndpointState* is = after->pick(true, hash, 0);
      if (was == gone) {
        ++of_gone;
        ++heirs[is];
        continue;
      }
      ++others;
      moved += was != is;
    }
    EXPECT_GT(of_gone, 1000);
    EXPECT_LE(moved, others * (c.moved + 0.01)) << static_cast<int>(c.kind);
    EXPECT_GT(heirs.size(), 5u) << "the clients of the one that left are spread over the others";
  }
}

TEST(Hashing, AnotherAttemptChoosesAnother) {
  World world({1, 1, 1, 1, 1});
  auto ring = world.make(Kind::kRingHash);
  auto maglev = world.make(Kind::kMaglev);
  int differs = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t hash = hash64(std::to_string(i));
    EXPECT_NE(ring->pick(true, hash, 0), ring->pick(true, hash, 1));
    EXPECT_NE(ring->pick(true, hash, 1), ring->pick(true, hash, 2));
    differs += maglev->pick(true, hash, 0) != maglev->pick(true, hash, 1);
  }
  EXPECT_NEAR(differs, 800, 60);
  // With a single endpoint every attempt ends.
  World one({5});
  EXPECT_EQ(one.make(Kind::kRingHash)->pick(true, 1, 4), one.endpoints[0].get());
  EXPECT_EQ(one.make(Kind::kMaglev)->pick(true, 1, 4), one.endpoints[0].get());
}

TEST(Hashing, OddWeightsAreBounded) {
  World world({65535, 1});
  auto ring = world.make(Kind::kRingHash);
  auto maglev = world.make(Kind::kMaglev, 1024, 257);
  std::set<const EndpointState*> seen;
  for (int i = 0; i < 300'000; ++i) seen.insert(ring->pick(true, hash64(std::to_string(i)), 0));
  EXPECT_EQ(seen.size(), 2u) << "the light one has a point too";
  EXPECT_NE(maglev->pick(true, 7, 0), nullptr);
  World many(std::vector<uint32_t>(500, 1));
  EXPECT_NE(many.make(Kind::kMaglev, 1024, 257)->pick(true, 3, 0), nullptr) << "more endpoints than slots";
}

}  // namespace
}  // namespace sluice::upstream
