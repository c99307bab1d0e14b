// Canary Ingresses: what becomes of their base's routes.

#include "compile/canary.h"

#include <gtest/gtest.h>

#include "compile/test_support.h"

namespace sluice::compile {
namespace {

using namespace test;

const std::string kNginx = "nginx.ingress.kubernetes.io/";
const std::string kCanary = note(kNginx + "canary", "true");

std::string canary(const std::string& key, const std::string& value) { return note(kNginx + "canary-" + key, value); }

// "5 a, 95 b" by service name.
std::string shares(World& world, const std::string& request) {
  const config::Route* route = world.route(request);
  if (!route) return "-";
  std::string out;
  for (const auto& d : route->destinations) {
    std::string name = d.cluster_name.substr(d.cluster_name.rfind('|') + 1);
    out += (out.empty() ? "" : ", ") + std::to_string(d.weight) + " " + name.substr(0, name.find('.'));
  }
  return out;
}

class CanaryTest : public ::testing::Test {
 protected:
  CanaryTest() { world.put("s", service("base") + service("next") + service("third")); }
  std::string base(const std::string& annotations = {}, const std::string& paths = path("/p", "Prefix", "base")) {
    return world.put("base", ingress("base", "h", paths, annotations, born(1)));
  }
  std::string put(const std::string& annotations, const std::string& name = "c", int age = 5,
                  const std::string& paths = path("/p", "Prefix", "next")) {
    return world.put(name, ingress(name, "h", paths, kCanary + annotations, born(age)));
  }
  World world;
};

TEST_F(CanaryTest, ByHeader) {
  base();
  EXPECT_EQ(put(canary("by-header", "X-Canary")), "");
  EXPECT_EQ(shares(world, "http://h/p"), "1 base");
  EXPECT_EQ(world.winner("http://h/p", {"x-canary: always"}), "default/c");
  EXPECT_EQ(world.winner("http://h/p/y", {"x-canary: always"}), "default/c");
  EXPECT_EQ(world.winner("http://h/p", {"x-canary: never"}), "default/base");
}

TEST_F(CanaryTest, ByHeaderValueIsAnAlternation) {
  base();
  EXPECT_EQ(put(canary("by-header", "r") + canary("by-header-value", "gz|bj") + canary("weight", "100")), "");
  for (const char* yes : {"gz", "bj", "always"})
    EXPECT_EQ(world.winner("http://h/p", {std::string("r: ") + yes}), "default/c");
  for (const char* no : {"gzx", "xbj", "gz|bj", ""}) {
    EXPECT_EQ(world.winner("http://h/p", {std::string("r: ") + no}), "default/base") << no;
  }
  EXPECT_EQ(shares(world, "http://h/p"), "1 base") << "a canary by header has no weight";
}

TEST_F(CanaryTest, ByHeaderPatternIsGrouped) {
  base();
  put(canary("by-header", "r") + canary("by-header-pattern", "ab|cd"));
  for (const char* yes : {"ab", "xabx", "xcdx"})
    EXPECT_EQ(world.winner("http://h/p", {std::string("r: ") + yes}), "default/c");
  EXPECT_EQ(world.winner("http://h/p", {"r: ac"}), "default/base");
}

TEST_F(CanaryTest, ByCookie) {
  base();
  put(canary("by-cookie", "a.b"));
  for (const char* yes : {"a.b=always", "x=1; a.b=always", "a.b=always; y=2", "x=1;a.b=always;y=2"}) {
    EXPECT_EQ(world.winner("http://h/p", {std::string("cookie: ") + yes}), "default/c") << yes;
  }
  for (const char* no : {"a.b=never", "axb=always", "xa.b=always", "a.b=alwaysx"}) {
    EXPECT_EQ(world.winner("http://h/p", {std::string("cookie: ") + no}), "default/base") << no;
  }
}

TEST_F(CanaryTest, WeightsAreExact) {
  base();
  EXPECT_EQ(put(canary("weight", "1") + canary("weight-total", "1000")), "");
  EXPECT_EQ(shares(world, "http://h/p"), "999 base, 1 next");
  EXPECT_EQ(world.winner("http://h/p"), "default/base");
  put(canary("weight", "0"));
  EXPECT_EQ(shares(world, "http://h/p"), "1 base, 0 next");
  put(canary("weight", "100"));
  EXPECT_EQ(shares(world, "http://h/p"), "0 base, 1 next");
  put("");
  EXPECT_EQ(shares(world, "http://h/p"), "1 base, 0 next");
}

TEST_F(CanaryTest, SeveralWeightsShareTheOldestsTotal) {
  base();
  put(canary("weight", "20"), "younger", 9, path("/p", "Prefix", "third"));
  put(canary("weight", "30") + canary("weight-total", "200"), "older", 5);
  EXPECT_EQ(shares(world, "http://h/p"), "15 base, 3 next, 2 third");
  put(canary("weight", "300"), "younger", 9, path("/p", "Prefix", "third"));
  EXPECT_EQ(shares(world, "http://h/p"), "0 base, 1 next, 10 third") << "the total is never less than the sum";
}

TEST_F(CanaryTest, DestinationsKeepTheirOwnWeights) {
  const std::string resource =
      "      - path: /p\n        pathType: Prefix\n        backend: {resource: {apiGroup: networking.higress.io, kind: "
      "McpBridge, name: default}}\n";
  auto lines = [](const std::string& text) { return note("higress.io/destination", text); };
  base(lines("2% base.default.svc.cluster.local:80\\n1% third.default.svc.cluster.local:80"), resource);
  put(canary("weight", "25") + lines("1% next.default.svc.cluster.local:80\\n1% base.default.svc.cluster.local:80"),
      "c", 5, resource);
  EXPECT_EQ(shares(world, "http://h/p"), "4 base, 2 third, 1 next, 1 base");
}

TEST_F(CanaryTest, StandsDirectlyBeforeItsBase) {
  world.put("other",
            ingress("other", "h", path("/p", "Exact", "third"), note("higress.io/exact-match-header-a", "1"), born(1)));
  const std::string two = note("higress.io/exact-match-header-a", "1") + note("higress.io/exact-match-header-b", "2");
  base(two);
  put(two + canary("by-header", "r"));
  EXPECT_EQ(world.winner("http://h/p", {"a: 1", "b: 2", "r: always"}), "default/other") << "exact paths come first";
  EXPECT_EQ(world.winner("http://h/p/x", {"a: 1", "b: 2", "r: always"}), "default/c");
  EXPECT_EQ(world.winner("http://h/p/x", {"a: 1", "r: always"}), "-") << "the base's conditions hold for the canary";
  EXPECT_EQ(world.winner("http://h/p/x", {"a: 1", "b: 2"}), "default/base");
}

TEST_F(CanaryTest, TheOldestConditionCountsFirst) {
  base();
  put(canary("by-header", "r"), "young", 9);
  put(canary("by-header", "r"), "old", 3);
  EXPECT_EQ(world.winner("http://h/p", {"r: always"}), "default/old");
}

TEST_F(CanaryTest, WithoutBaseItIsToldAndDoesNothing) {
  EXPECT_NE(put(canary("by-header", "r")).find("the canary has no base"), std::string::npos);
  EXPECT_EQ(world.winner("http://h/p", {"r: always"}), "-");
  base(note("higress.io/exact-match-header-abc", "1"));
  EXPECT_EQ(world.winner("http://h/p", {"r: always"}), "-") << "other conditions are another route";
  base();
  EXPECT_EQ(world.winner("http://h/p", {"r: always"}), "default/c") << "the base may come later";
  EXPECT_EQ(world.all(), world.all());
  world.remove("base");
  EXPECT_EQ(world.winner("http://h/p", {"r: always"}), "-");
}

TEST_F(CanaryTest, TakesTheBasesOptionsButItsOwnHeaders) {
  base(note("higress.io/timeout", "7") + note("higress.io/rewrite-target", "/x") +
       note("higress.io/request-header-control-add", "x-base 1") + note("higress.io/enable-cors", "true"));
  auto names = [](const config::FilterChain& chain) {
    std::string out;
    for (const auto& filter : chain) out += std::string(filter->name()) + " ";
    return out;
  };
  EXPECT_NE(put(note("higress.io/rewrite-target", "/x") + note("higress.io/timeout", "9") + canary("by-header", "r"))
                .find("of a canary Ingress these have no effect, those of its base apply: higress.io/timeout"),
            std::string::npos);
  const config::Route* route = world.route("http://h/p", {"r: always"});
  EXPECT_EQ(route->timeout.count(), 7000);
  EXPECT_EQ(names(route->filters), "cors rewrite ");
  EXPECT_EQ(names(world.route("http://h/p")->filters), "cors header-control rewrite ");
  put(note("higress.io/rewrite-target", "/x") + canary("weight", "50") +
      note("higress.io/response-header-control-add", "x-next 1"));
  route = world.route("http://h/p");
  EXPECT_EQ(names(route->filters), "cors rewrite ");
  EXPECT_EQ(names(route->destinations[0].filters), "header-control ");
  EXPECT_EQ(names(route->destinations[1].filters), "header-control ");
  EXPECT_NE(route->destinations[0].filters[0], route->destinations[1].filters[0]);
}

TEST_F(CanaryTest, AFalseCanaryIsAnOrdinaryIngress) {
  world.put("c",
            ingress("c", "h", path("/q", "Prefix", "next"), note(kNginx + "canary", "false") + canary("weight", "5")));
  EXPECT_EQ(world.winner("http://h/q"), "default/c");
}

TEST_F(CanaryTest, ClosedBaseStaysClosed) {
  base(note("higress.io/auth-type", "basic") + note("higress.io/auth-secret", "none"));
  put(canary("by-header", "r"));
  const config::Route* route = world.route("http://h/p", {"r: always"});
  ASSERT_EQ(route->filters.size(), 1u);
  EXPECT_EQ(route->filters[0]->name(), "refusal");
}

TEST_F(CanaryTest, ManyRoutes) {
  std::string bases, canaries;
  for (int i = 0; i < 50; ++i) {
    bases += path("/r" + std::to_string(i), "Prefix", "base");
    canaries += path("/r" + std::to_string(i), "Prefix", "next");
  }
  base("", bases);
  put(canary("by-header", "r"), "c", 5, canaries);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(world.winner("http://h/r" + std::to_string(i) + "/x", {"r: always"}), "default/c");
    EXPECT_EQ(world.winner("http://h/r" + std::to_string(i) + "/x"), "default/base");
  }
}

TEST_F(CanaryTest, ExplainTells) {
  base();
  put(canary("weight", "5"));
  world.route("http://h/p");
  const auto request = ExplainRequest::parse("http://h/p", {});
  const std::string text = explain(*world.control.snapshot(), *request).text;
  EXPECT_NE(text.find("canary default/c: 5 of 100 requests"), std::string::npos) << text;
}

}  // namespace
}  // namespace sluice::compile
