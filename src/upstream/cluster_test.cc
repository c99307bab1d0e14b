#include "upstream/cluster.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace sluice::upstream {
namespace {

using std::chrono::milliseconds;

config::Endpoint endpoint(uint8_t last, uint32_t weight = 1, bool healthy = true) {
  config::Endpoint out;
  out.address = net::Address::ipv4(127, 0, 0, last, 1);
  out.weight = weight;
  out.healthy = healthy;
  return out;
}

std::shared_ptr<config::Cluster> cluster(std::vector<config::Endpoint> endpoints) {
  auto out = std::make_shared<config::Cluster>();
  out->name = "outbound|80||a";
  auto set = std::make_shared<config::EndpointSet>();
  set->endpoints = std::move(endpoints);
  out->endpoints = set;
  return out;
}

struct World {
  event::Loop loop;
  Random random{1};
  std::set<std::string> seen(ClusterState& state, int picks = 200) {
    std::set<std::string> out;
    for (int i = 0; i < picks; ++i) {
      EndpointState* chosen = state.choose(false, 0, {});
      out.insert(chosen ? chosen->config.address.ip() : "-");
    }
    return out;
  }
  void wait(uint64_t ms) {
    loop.update_clock();
    const uint64_t until = loop.now_ms() + ms;
    while (loop.now_ms() < until) loop.run_once(2);
  }
};

void result(ClusterState& state, EndpointState& endpoint, int status, bool local_failure = false) {
  state.begin_request(endpoint);
  state.end_request(endpoint, {status, local_failure});
}

using Ips = std::set<std::string>;

TEST(ClusterState, ChoosesAmongTheUsable) {
  World w;
  ClusterState state(w.loop, w.random, cluster({endpoint(1), endpoint(2, 0), endpoint(3, 1, false), endpoint(4)}));
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.1", "127.0.0.4"}));
  ClusterState none(w.loop, w.random, cluster({}));
  EXPECT_EQ(none.choose(false, 0, {}), nullptr);
  ClusterState sick(w.loop, w.random, cluster({endpoint(1, 1, false)}));
  EXPECT_EQ(sick.choose(false, 0, {}), nullptr);
}

TEST(ClusterState, PanicUsesAll) {
  World w;
  auto config = cluster({endpoint(1), endpoint(2, 1, false), endpoint(3, 1, false), endpoint(4, 0, false)});
  config->panic_threshold_percent = 50;
  ClusterState state(w.loop, w.random, config);
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.1", "127.0.0.2", "127.0.0.3"})) << "all but weight 0";
  auto calm = std::make_shared<config::Cluster>(*config);
  calm->panic_threshold_percent = 25;
  state.update(calm);
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.1"}));
}

TEST(ClusterState, AvoidsWhatWasTried) {
  for (auto kind : {config::LoadBalancing::kRoundRobin, config::LoadBalancing::kLeastRequest,
                    config::LoadBalancing::kRandom, config::LoadBalancing::kRingHash, config::LoadBalancing::kMaglev}) {
    World w;
    auto config = cluster({endpoint(1), endpoint(2), endpoint(3)});
    config->load_balancing = kind;
    ClusterState state(w.loop, w.random, config);
    for (uint64_t hash = 0; hash < 200; ++hash) {
      std::vector<EndpointState*> tried;
      for (int i = 0; i < 3; ++i) {
        EndpointState* chosen = state.choose(true, hash * 0x9e3779b97f4a7c15u, tried);
        ASSERT_NE(chosen, nullptr);
        ASSERT_EQ(std::find(tried.begin(), tried.end(), chosen), tried.end()) << static_cast<int>(kind);
        tried.push_back(chosen);
      }
      EXPECT_NE(state.choose(true, hash, tried), nullptr) << "when all were tried, one of them again";
    }
  }
}

TEST(ClusterState, KeepsStateAcrossEndpointSets) {
  World w;
  ClusterState state(w.loop, w.random, cluster({endpoint(1), endpoint(2)}));
  EndpointState* first = state.endpoints()[0].get();
  state.begin_request(*first);
  first->failures = 7;
  state.update(cluster({endpoint(1, 5), endpoint(3)}));
  ASSERT_EQ(state.endpoints().size(), 2u);
  EXPECT_EQ(state.endpoints()[0].get(), first);
  EXPECT_EQ(first->config.weight, 5u);
  EXPECT_EQ(first->failures, 7u);
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.1", "127.0.0.3"}));
  // Gone while a request is under way: it stays until the request has ended.
  state.update(cluster({endpoint(3)}));
  EXPECT_TRUE(first->removed);
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.3"}));
  EXPECT_EQ(state.counters.requests, 1u);
  state.end_request(*first, {200, false});
  EXPECT_EQ(state.counters.requests, 0u);
  state.update(cluster({endpoint(1)}));
  EXPECT_FALSE(state.endpoints()[0]->removed);
  EXPECT_EQ(state.endpoints()[0]->failures, 0u);
}

TEST(ClusterState, HealthVerdictsTakeEffect) {
  World w;
  ClusterState state(w.loop, w.random, cluster({endpoint(1), endpoint(2)}));
  EXPECT_EQ(w.seen(state).size(), 2u);
  state.update(cluster({endpoint(1, 1, false), endpoint(2)}));
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.2"}));
  state.update(cluster({endpoint(1), endpoint(2)}));
  EXPECT_EQ(w.seen(state).size(), 2u);
}

// --- Outlier detection ---

std::shared_ptr<config::Cluster> strict(size_t endpoints, uint32_t fives, uint32_t gateway) {
  std::vector<config::Endpoint> list;
  for (size_t i = 1; i <= endpoints; ++i) list.push_back(endpoint(static_cast<uint8_t>(i)));
  auto out = cluster(std::move(list));
  out->outlier.consecutive_5xx = fives;
  out->outlier.consecutive_gateway_errors = gateway;
  out->outlier.base_ejection_time = milliseconds(30);
  out->outlier.max_ejection_time = milliseconds(50);
  out->outlier.max_ejection_percent = 50;
  return out;
}

TEST(Outlier, CountsConsecutiveFailures) {
  const struct {
    uint32_t fives, gateway;
    std::vector<int> statuses;  // -1: a local failure, 0: cancelled
    bool ejected;
  } cases[] = {
      {3, 0, {500, 500, 500}, true},
      {3, 0, {500, 500, 200, 500, 500}, false},
      {3, 0, {500, 404, 500, 500}, false},
      {3, 0, {500, 500, 0, 500}, true},  // a cancelled request says nothing
      {3, 0, {-1, -1, -1}, true},
      {0, 2, {500, 500, 500, 500}, false},
      {0, 2, {503, 503}, true},
      {0, 2, {502, 500, 504}, false},
      {0, 2, {502, -1}, true},
      {0, 2, {504, 200, 503}, false},
      {0, 0, {500, 500, 500, 500, 500}, false},
      {2, 0, {501, 599}, true},
  };
  for (const auto& c : cases) {
    World w;
    ClusterState state(w.loop, w.random, strict(2, c.fives, c.gateway));
    EndpointState& e = *state.endpoints()[0];
    for (int status : c.statuses) result(state, e, std::max(status, 0), status < 0);
    EXPECT_EQ(e.ejected(), c.ejected) << testing::PrintToString(c.statuses);
    EXPECT_EQ(w.seen(state).size(), c.ejected ? 1u : 2u);
  }
}

TEST(Outlier, ComesBackAndStaysLongerTheNextTime) {
  World w;
  ClusterState state(w.loop, w.random, strict(2, 1, 0));
  EndpointState& e = *state.endpoints()[0];
  w.loop.update_clock();
  const uint64_t start = w.loop.now_ms();
  result(state, e, 500);
  EXPECT_EQ(e.ejected_until_ms, start + 30);
  result(state, e, 500);
  EXPECT_EQ(e.ejected_until_ms, start + 30) << "failures while ejected count no more";
  w.wait(45);
  EXPECT_FALSE(e.ejected());
  EXPECT_EQ(w.seen(state).size(), 2u);
  result(state, e, 500);
  EXPECT_EQ(e.ejected_until_ms - w.loop.now_ms(), 50u) << "twice the base, cut to the longest";
}

TEST(Outlier, LimitsHowManyAreEjected) {
  World w;
  ClusterState state(w.loop, w.random, strict(4, 1, 0));
  for (const auto& e : state.endpoints()) result(state, *e, 500);
  size_t ejected = 0;
  for (const auto& e : state.endpoints()) ejected += e->ejected();
  EXPECT_EQ(ejected, 2u);
  // At least one may always be.
  World one;
  auto config = strict(3, 1, 0);
  config->outlier.max_ejection_percent = 10;
  ClusterState small(one.loop, one.random, config);
  for (const auto& e : small.endpoints()) result(small, *e, 500);
  ejected = 0;
  for (const auto& e : small.endpoints()) ejected += e->ejected();
  EXPECT_EQ(ejected, 1u);
}

TEST(SlowStart, NewEndpointGetsLessAtFirst) {
  World w;
  auto config = cluster({endpoint(1)});
  config->slow_start = milliseconds(60'000);
  config->load_balancing = config::LoadBalancing::kRoundRobin;
  ClusterState state(w.loop, w.random, config);
  auto more = std::make_shared<config::Cluster>(*config);
  more->endpoints = cluster({endpoint(1), endpoint(2)})->endpoints;
  state.update(more);
  int fresh = 0;
  for (int i = 0; i < 2000; ++i) fresh += state.choose(false, 0, {})->config.address.ip() == "127.0.0.2";
  EXPECT_GT(fresh, 40);
  EXPECT_LT(fresh, 400);
}

// The share of an endpoint of that age, with slow start over a minute, beside one that is old.
double share_at_age(config::LoadBalancing kind, uint64_t age_ms) {
  World w;
  auto config = cluster({endpoint(1)});
  config->slow_start = milliseconds(60'000);
  config->load_balancing = kind;
  ClusterState state(w.loop, w.random, config);
  auto more = std::make_shared<config::Cluster>(*config);
  more->endpoints = cluster({endpoint(1), endpoint(2)})->endpoints;
  state.update(more);
  EndpointState& fresh = *state.endpoints()[1];
  EXPECT_GT(fresh.added_ms, 0u);
  EXPECT_EQ(state.endpoints()[0]->added_ms, 0u) << "those of the first set are not new";
  fresh.added_ms = w.loop.now_ms() - age_ms;
  int chosen = 0;
  for (uint64_t i = 0; i < 4000; ++i) chosen += state.choose(true, i * 0x9e3779b97f4a7c15u, {}) == &fresh;
  return chosen / 4000.0;
}

TEST(SlowStart, WeightGrowsWithAge) {
  for (const auto kind : {config::LoadBalancing::kRoundRobin, config::LoadBalancing::kLeastRequest,
                          config::LoadBalancing::kRandom, config::LoadBalancing::kRingHash}) {
    const double newborn = share_at_age(kind, 0), young = share_at_age(kind, 30'000),
                 grown = share_at_age(kind, 59'999), old = share_at_age(kind, 60'000);
    EXPECT_NEAR(newborn, 0.08, 0.05) << static_cast<int>(kind);
    EXPECT_GT(young, newborn + 0.08) << static_cast<int>(kind);
    EXPECT_GT(grown, young + 0.05) << static_cast<int>(kind);
    EXPECT_NEAR(old, 0.5, 0.08) << static_cast<int>(kind);
  }
}

TEST(SlowStart, AllNewEndpointsShareAsEver) {
  World w;
  auto config = cluster({});
  config->slow_start = milliseconds(60'000);
  ClusterState state(w.loop, w.random, config);
  auto more = std::make_shared<config::Cluster>(*config);
  more->endpoints = cluster({endpoint(1), endpoint(2)})->endpoints;
  state.update(more);
  EXPECT_EQ(w.seen(state), (Ips{"127.0.0.1", "127.0.0.2"}));
}

// --- Ejections shared between workers ---

TEST(Outlier, VerdictsAreToldAndTakenOver) {
  World w;
  auto config = cluster({endpoint(1), endpoint(2), endpoint(3)});
  config->outlier.consecutive_5xx = 2;
  config->outlier.max_ejection_percent = 50;
  std::vector<Ejection> told;
  const EjectionSink sink = [&](const Ejection& ejection) { told.push_back(ejection); };
  ClusterState one(w.loop, w.random, config, &sink), two(w.loop, w.random, config);
  for (int i = 0; i < 2; ++i) result(one, *one.endpoints()[0], 503);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].cluster, "outbound|80||a");
  EXPECT_EQ(told[0].endpoint, one.endpoints()[0]->address_text);
  EXPECT_EQ(told[0].until_ms, one.endpoints()[0]->ejected_until_ms);
  two.apply(told[0]);
  EXPECT_EQ(w.seen(two), (Ips{"127.0.0.2", "127.0.0.3"}));
  EXPECT_EQ(two.endpoints()[0]->ejections, 1u) << "the next ejection is the second in a row";
  // It counts against the share here as well.
  for (int i = 0; i < 2; ++i) result(two, *two.endpoints()[1], 503);
  EXPECT_FALSE(two.endpoints()[1]->ejected());
  // Taken back.
  one.apply({told[0].cluster, told[0].endpoint, 0, 1});
  EXPECT_EQ(w.seen(one).size(), 3u);
  EXPECT_EQ(one.endpoints()[0]->ejections, 0u);
  two.apply({told[0].cluster, "no such endpoint", 1, 1});
}

// --- ClusterManager ---

std::shared_ptr<config::Snapshot> snapshot(
    uint64_t version, std::vector<std::pair<uint32_t, std::shared_ptr<config::Cluster>>> clusters) {
  auto out = std::make_shared<config::Snapshot>();
  out->version = version;
  for (auto& [slot, c] : clusters) {
    if (c) c->slot = slot;
    out->clusters.set(slot, c);
  }
  return out;
}

std::shared_ptr<config::Cluster> named(const char* name) {
  auto out = cluster({endpoint(1)});
  out->name = name;
  return out;
}

TEST(ClusterManager, FollowsSnapshots) {
  World w;
  ClusterManager manager(w.loop, w.random);
  auto a = named("a"), b = named("b");
  auto first = snapshot(1, {{0, a}, {3, b}});
  ClusterState* state = manager.get(*first, 0);
  ASSERT_NE(state, nullptr);
  EXPECT_EQ(manager.get(*first, 0), state);
  EXPECT_EQ(manager.get(*first, 1), nullptr);
  EXPECT_EQ(manager.get(*first, 99), nullptr);
  EXPECT_EQ(manager.get(*first, 3)->config().name, "b");

  auto newer = std::make_shared<config::Cluster>(*a);
  newer->endpoints = cluster({endpoint(1), endpoint(2)})->endpoints;
  auto second = snapshot(2, {{0, newer}, {3, b}});
  EXPECT_EQ(manager.get(*second, 0), state);
  EXPECT_EQ(state->endpoints().size(), 2u);
  // An exchange that began on the older snapshot does not turn it back.
  EXPECT_EQ(manager.get(*first, 0), state);
  EXPECT_EQ(state->endpoints().size(), 2u);

  // Removed, and the slot taken by another.
  auto third = snapshot(3, {{0, nullptr}, {3, named("c")}});
  EXPECT_EQ(manager.get(*third, 0), nullptr);
  EXPECT_EQ(manager.get(*third, 3)->config().name, "c");
  manager.sweep(*third);
  size_t alive = 0;
  manager.for_each([&](const ClusterState&) { ++alive; });
  EXPECT_EQ(alive, 1u);
}

TEST(ClusterManager, RetiredClusterLivesAsLongAsItsRequests) {
  World w;
  ClusterManager manager(w.loop, w.random);
  auto first = snapshot(1, {{0, named("a")}});
  ClusterState* state = manager.get(*first, 0);
  EndpointState* chosen = state->choose(false, 0, {});
  state->begin_request(*chosen);
  auto second = snapshot(2, {{0, nullptr}});
  manager.sweep(*second);
  EXPECT_EQ(chosen->active_requests, 1u);  // a sanitizer would see it if it were gone
  state->end_request(*chosen, {200, false});
  manager.sweep(*second);
}

}  // namespace
}  // namespace sluice::upstream
