// Ingress objects to routes: class, normalisation, path kinds, order, conflicts, default backends,
// backends, names.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "compile/test_support.h"

namespace sluice::compile {
namespace {

using namespace test;

TEST(Class, Table) {
  struct Case {
    const char* flag;
    const char* annotation;  // "-": none
    const char* name;        // "-": none
    bool want;
  } cases[] = {
      {"", "-", "-", true},
      {"", "x", "y", true},
      {"higress", "-", "higress", true},
      {"higress", "-", "-", false},
      {"higress", "-", "x", false},
      {"higress", "higress", "x", true},
      {"higress", "x", "higress", false},
      {"higress", "", "higress", false},
      {"nginx", "-", "-", true},
      {"nginx", "-", "nginx", true},
      {"nginx", "-", "higress", false},
      {"nginx", "", "higress", true},
      {"nginx", "nginx", "-", true},
      {"nginx", "-", "", true},
  };
  for (const Case& c : cases) {
    Options options;
    options.ingress_class = c.flag;
    World world(options);
    std::string text = ingress("a", "h", path("/"));
    std::string name = c.name;
    std::string line = "  ingressClassName: higress\n";
    text.replace(text.find(line), line.size(), name == "-" ? "" : "  ingressClassName: \"" + name + "\"\n");
    if (std::string(c.annotation) != "-") {
      text.insert(text.find("spec:"),
                  "  annotations: {kubernetes.io/ingress.class: \"" + std::string(c.annotation) + "\"}\n");
    }
    world.put("f", text);
    EXPECT_EQ(world.winner("http://h/") != "-", c.want) << c.flag << " " << c.annotation << " " << c.name;
  }
}

TEST(Class, ChangeOfClassRemovesTheRoutes) {
  World world;
  std::string text = ingress("a", "h", path("/"));
  world.put("f", text);
  EXPECT_EQ(world.winner("http://h/"), "default/a");
  text.replace(text.find("ingressClassName: higress"), 25, "ingressClassName: other");
  world.put("f", text);
  EXPECT_EQ(world.winner("http://h/"), "-");
  EXPECT_EQ(world.dump(), World().dump());
}

TEST(Paths, Kinds) {
  World world;
  world.put("f", ingress("a", "h",
                         path("/foo", "Exact", "exact") + path("/foo", "Prefix", "prefix") +
                             path("/cat/", "Prefix", "cat") + path("/imp", "ImplementationSpecific", "imp")));
  auto service = [&](const char* p) {
    std::string t = world.target(std::string("http://h") + p);
    return t == "-" ? t : t.substr(t.rfind('|') + 1, t.find('.') - t.rfind('|') - 1);
  };
  EXPECT_EQ(service("/foo"), "exact");
  EXPECT_EQ(service("/foo/"), "prefix");
  EXPECT_EQ(service("/foo/x"), "prefix");
  EXPECT_EQ(service("/food"), "-");
  EXPECT_EQ(service("/cat"), "cat");
  EXPECT_EQ(service("/cat/ok"), "cat");
  EXPECT_EQ(service("/cats"), "-");
  EXPECT_EQ(service("/imp/x"), "imp");
}

TEST(Paths, UnsetTypeCutsTails) {
  for (const char* text : {"/a/*", "/a.*", "/a/*.*", "/a"}) {
    World world;
    std::string yaml = ingress("a", "h", path(text));
    yaml.replace(yaml.find("        pathType: Prefix\n"), 25, "");
    world.put("f", yaml);
    EXPECT_EQ(world.winner("http://h/a/x"), "default/a") << text;
    EXPECT_EQ(world.winner("http://h/ab"), "-") << text;
  }
  World world;
  std::string yaml = ingress("a", "h", "      - backend: {service: {name: s, port: {number: 80}}}\n");
  world.put("f", yaml);
  EXPECT_EQ(world.winner("http://h/any"), "default/a") << "an empty path is /";
}

TEST(Paths, Regex) {
  struct Case {
    const char* path;
    const char* annotations;
    const char* request;
    bool want;
  } cases[] = {
      {"/foo/[A-Z0-9]{3}", "higress.io/use-regex: 'true'", "/foo/1234", true},
      {"/foo/[A-Z0-9]{3}", "higress.io/use-regex: 'true'", "/foo/12", false},
      {"/bar/[A-Z0-9]{3}", "higress.io/full-path-regex: 'true'", "/bar/123", true},
      {"/bar/[A-Z0-9]{3}", "higress.io/full-path-regex: 'true'", "/bar/1234", false},
      {"/v1.0", "higress.io/rewrite-target: /x", "/v1x0", true},
      {"/v1.0", "higress.io/upstream-vhost: x", "/v1x0", false},
      {"/a", "higress.io/rewrite-target: /x", "/ab", false},
      {"/a", "higress.io/rewrite-target: /$1", "/ab", true},
      {"/a(", "higress.io/timeout: '5'", "/a(", true},
  };
  for (const Case& c : cases) {
    World world;
    world.put("f",
              ingress("a", "h", path(std::string("\"") + c.path + "\""), std::string("    ") + c.annotations + "\n"));
    EXPECT_EQ(world.winner(std::string("http://h") + c.request) != "-", c.want) << c.path << " " << c.request;
  }
  World world;
  EXPECT_EQ(world.put("f", ingress("a", "h", path("\"/a(\""), note("higress.io/use-regex", "true"))),
            "f:14:9: Ingress default/a: spec.rules[0].http.paths[0].path: \"/a(\" is not a regular "
            "expression (RE2): missing "
            "): /a(.*; the path is left out\n");
}

TEST(Paths, IgnoreCase) {
  World world;
  world.put("f", ingress("a", "h", path("/foo", "Exact") + path("/cat"), note("higress.io/ignore-path-case", "true")));
  EXPECT_EQ(world.winner("http://h/fOO"), "default/a");
  EXPECT_EQ(world.winner("http://h/CAT/ok"), "default/a");
}

TEST(Hosts, FallThrough) {
  World world;
  world.put("f", ingress("wild", "*.foo.com", path("/")) + ingress("exact", "www.foo.com", path("/bar", "Exact")) +
                     ingress("any", "", path("/any")));
  EXPECT_EQ(world.winner("http://www.foo.com/bar"), "default/exact");
  EXPECT_EQ(world.winner("http://www.foo.com/foo"), "default/wild");
  EXPECT_EQ(world.winner("http://other/any"), "default/any");
  EXPECT_EQ(world.winner("http://other/x"), "-");
}

// --- order ---

HostRoute host_route(const std::string& name, config::PathMatch::Kind kind, const std::string& path, int methods = 0,
                     uint32_t headers = 0, uint32_t queries = 0) {
  auto route = std::make_shared<config::Route>();
  route->name = name;
  route->path.kind = kind;
  route->path.text = path;
  HostRoute out;
  for (int i = 0; i < methods; ++i) route->methods.push_back("GET");
  out.method_length = methods ? static_cast<uint32_t>(methods * 4 - 1) : 0;
  out.header_conditions = headers;
  out.query_conditions = queries;
  out.route = std::move(route);
  out.seal();
  return out;
}

TEST(Order, Rules) {
  using K = config::PathMatch::Kind;
  std::vector<HostRoute> want;
  want.push_back(host_route("exact long", K::kExact, "/aaaa"));
  want.push_back(host_route("exact method", K::kExact, "/a", 1));
  want.push_back(host_route("exact methods", K::kExact, "/a", 2));
  want.push_back(host_route("exact headers", K::kExact, "/a", 0, 2));
  want.push_back(host_route("exact header and query", K::kExact, "/a", 0, 1, 1));
  want.push_back(host_route("exact header", K::kExact, "/a", 0, 1));
  want.push_back(host_route("exact query", K::kExact, "/a", 0, 0, 1));
  want.push_back(host_route("exact", K::kExact, "/a"));
  want.push_back(host_route("exact younger", K::kExact, "/b"));
  want.push_back(host_route("prefix", K::kPrefix, "/aa"));
  want.push_back(host_route("prefix short", K::kPrefix, "/b"));
  want.push_back(host_route("prefix root with header", K::kPrefix, "", 0, 1));
  want.push_back(host_route("app root", K::kExact, "/"));
  want.back().role = HostRoute::Role::kAppRoot;
  want.back().seal();
  want.push_back(host_route("regex long", K::kPrefixRegex, "/aaaaaaaa"));
  want.push_back(host_route("regex", K::kPrefixRegex, "/a", 0, 0, 1));
  want.push_back(host_route("regex plain", K::kPrefixRegex, "/a"));
  want.push_back(host_route("catch-all", K::kPrefix, ""));
  want.push_back(host_route("default", K::kPrefix, ""));
  want.back().role = HostRoute::Role::kDefaultBackend;
  want.back().seal();

  std::mt19937 random(5);
  for (int i = 0; i < 300; ++i) {
    std::vector<const HostRoute*> routes;
    for (const HostRoute& r : want) routes.push_back(&r);
    std::shuffle(routes.begin(), routes.end(), random);
    // Only these two are told apart by age alone.
    auto older = std::find_if(routes.begin(), routes.end(), [](auto* r) { return r->route->name == "exact"; });
    auto younger =
        std::find_if(routes.begin(), routes.end(), [](auto* r) { return r->route->name == "exact younger"; });
    if (younger < older) std::iter_swap(older, younger);
    sort_routes(routes);
    for (size_t j = 0; j < want.size(); ++j) ASSERT_EQ(routes[j]->route->name, want[j].route->name);
  }
}

TEST(Order, RegexKindsAreNotComparedByLength) {
  using K = config::PathMatch::Kind;
  HostRoute full = host_route("full", K::kFullRegex, "/a");
  HostRoute prefix = host_route("prefix", K::kPrefixRegex, "/aaaa");
  std::vector<const HostRoute*> routes = {&full, &prefix};
  sort_routes(routes);
  EXPECT_EQ(routes[0], &full);
  routes = {&prefix, &full};
  sort_routes(routes);
  EXPECT_EQ(routes[0], &prefix);
}

// --- conflicts ---

TEST(Conflicts, OldestKeepsTheRule) {
  World world;
  world.put("young", ingress("young", "h", path("/"), "", born(9)));
  EXPECT_EQ(world.winner("http://h/"), "default/young");
  world.put("old", ingress("old", "h", path("/"), "", born(1)));
  EXPECT_EQ(world.winner("http://h/"), "default/old");
  EXPECT_NE(world.all().find("young:13:9: Ingress default/young: spec.rules[0].http.paths[0]: the same rule is "
                             "in Ingress "
                             "default/old spec.rules[0].http.paths[0], which is older; this one has no effect"),
            std::string::npos)
      << world.all();
  world.put("other", ingress("other", "h", path("/"), note("higress.io/match-method", "GET"), born(9)));
  EXPECT_EQ(world.winner("GET http://h/"), "default/other") << "other conditions are another rule";
  world.remove("old");
  EXPECT_EQ(world.winner("PUT http://h/"), "default/young");
  EXPECT_EQ(world.all().find("the same rule"), std::string::npos);
}

TEST(Conflicts, UnknownAgeIsOldestThenByName) {
  World world;
  world.put("f",
            ingress("b", "h", path("/")) + ingress("a", "h", path("/")) + ingress("0", "h", path("/"), "", born(1)));
  EXPECT_EQ(world.winner("http://h/"), "default/a");
}

TEST(Conflicts, OnlyLiveRoutesReserve) {
  World world;
  world.put("f", ingress("old", "h", path("/", "Prefix", "svc", "name: nope"), "", born(1)) +
                     ingress("young", "h", path("/"), "", born(2)));
  EXPECT_EQ(world.winner("http://h/"), "default/young");
}

TEST(Conflicts, FirstInOneIngressWins) {
  World world;
  world.put("f", ingress("a", "h", path("/p", "Prefix", "one") + path("/p/", "Prefix", "two")));
  EXPECT_EQ(world.target("http://h/p"), "outbound|80||one.default.svc.cluster.local");
}

TEST(Conditions, MoreHeadersWin) {
  World world;
  world.put(
      "f",
      ingress("none", "h", path("/")) + ingress("one", "h", path("/"), note("higress.io/exact-match-header-x-a", "1")) +
          ingress("two", "h", path("/"),
                  note("higress.io/exact-match-header-x-a", "1") + note("higress.io/prefix-match-header-x-b", "b")) +
          ingress("query", "h", path("/"), note("higress.io/regex-match-query-q", "a.c")));
  EXPECT_EQ(world.winner("http://h/"), "default/none");
  EXPECT_EQ(world.winner("http://h/", {"X-A: 1"}), "default/one");
  EXPECT_EQ(world.winner("http://h/", {"X-A: 1", "X-B: bcd"}), "default/two");
  EXPECT_EQ(world.winner("http://h/?q=abc"), "default/query");
  EXPECT_EQ(world.winner("http://h/?q=abcd"), "default/none");
}

TEST(Conditions, PseudoHeaders) {
  World world;
  world.put(
      "f",
      ingress("a", "*.foo.com", path("/"), note("higress.io/exact-match-pseudo-header-authority", "test.foo.com")) +
          ingress("b", "*.foo.com", path("/"), note("higress.io/prefix-match-pseudo-header-path", "/v3/bar?x")));
  EXPECT_EQ(world.winner("http://test.foo.com/"), "default/a");
  EXPECT_EQ(world.winner("http://x.foo.com/v3/bar?x=1"), "default/b");
  EXPECT_EQ(world.winner("http://x.foo.com/v3/bar"), "-");
}

// --- default backends ---

std::string default_backend(const std::string& name, const std::string& hosts, const std::string& metadata = {}) {
  std::string out = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: " + name + "\n" +
                    metadata + "spec:\n  ingressClassName: higress\n  defaultBackend: {service: {name: " + name +
                    ", port: {number: 80}}}\n";
  return hosts.empty() ? out : out + "  rules: [" + hosts + "]\n";
}

TEST(DefaultBackend, CoversItsHostsAndEveryOther) {
  World world;
  world.put("f",
            default_backend("d",
                            "{host: a, http: {paths: [{path: /x, pathType: Exact, backend: {service: {name: s, port: "
                            "{number: 80}}}}]}}, {host: b, http: {paths: [{path: /, pathType: Prefix, backend: "
                            "{service: {name: s, port: {number: 80}}}}]}}"));
  EXPECT_EQ(world.winner("http://a/x"), "default/d");
  EXPECT_EQ(world.winner("http://a/y"), "default/d-default");
  EXPECT_EQ(world.winner("http://b/y"), "default/d") << "the host has a prefix / of its own";
  EXPECT_EQ(world.winner("http://c/y"), "default/d-default");
}

TEST(DefaultBackend, NewestForAnyOldestForAHost) {
  World world;
  std::string host = "{host: a}";
  world.put("f", default_backend("old", host, born(1)) + default_backend("young", host, born(2)));
  EXPECT_EQ(world.winner("http://a/"), "default/old-default");
  EXPECT_EQ(world.winner("http://x/"), "default/young-default");
  EXPECT_NE(world.all().find("host * has its default backend from Ingress default/young; this one "
                             "has no effect there"),
            std::string::npos);
}

TEST(DefaultBackend, AnyRootPrefixSuppressesIt) {
  World world;
  world.put("f", default_backend("d", "{host: a}") +
                     ingress("i", "a", path("/"), note("higress.io/exact-match-header-x", "1")));
  EXPECT_EQ(world.winner("http://a/", {"x: 1"}), "default/i");
  EXPECT_EQ(world.winner("http://a/"), "default/d-default") << "by the host *";
  EXPECT_EQ(world.control.snapshot()->hosts.find("a")->routes.size(), 1u);
}

TEST(DefaultBackend, Resource) {
  World world;
  std::string text = default_backend("d", "", "  annotations: {higress.io/destination: \"x.static:80\"}\n");
  text.replace(text.find("{service:"), std::string::npos,
               "{resource: {apiGroup: networking.higress.io, kind: McpBridge, name: default}}\n");
  EXPECT_EQ(world.put("f", text).find("must be"), std::string::npos);
  EXPECT_EQ(world.target("http://a/"), "outbound|80||x.static");
  text.replace(text.find("name: default"), 13, "name: other");
  EXPECT_NE(world.put("f", text).find("spec.defaultBackend.resource: must be apiGroup "
                                      "networking.higress.io, kind McpBridge, name default"),
            std::string::npos);
}

// --- backends ---

TEST(Backends, NamedPorts) {
  World world;
  EXPECT_EQ(world.put("f", ingress("a", "h", path("/", "Prefix", "svc", "name: http"))),
            "f:14:18: Ingress default/a: spec.rules[0].http.paths[0].backend.service.port.name: "
            "Service default/svc has no port "
            "named \"http\"; the path is left out until it has\n");
  EXPECT_EQ(world.winner("http://h/"), "-");
  world.put("s", service("svc", "[{name: http, port: 8080}, {name: x, port: 1}]"));
  EXPECT_EQ(world.target("http://h/"), "outbound|8080||svc.default.svc.cluster.local");
  world.put("s", service("svc", "[{name: http, port: 8081}]"));
  EXPECT_EQ(world.target("http://h/"), "outbound|8081||svc.default.svc.cluster.local");
  EXPECT_NE(world.remove("s").find("Service default/svc has no port named \"http\""), std::string::npos)
      << "told when it happens";
  EXPECT_EQ(world.winner("http://h/"), "-");
}

TEST(Backends, UnknownServiceIsTold) {
  World world;
  EXPECT_EQ(world.put("f", ingress("a", "h", path("/"))),
            "f:14:18: warning: Ingress default/a: spec.rules[0].http.paths[0].backend: Service "
            "default/svc does not exist; "
            "requests get 503\n");
  EXPECT_EQ(world.winner("http://h/"), "default/a");
  EXPECT_EQ(world.cluster("outbound|80||svc.default.svc.cluster.local"), nullptr);
  world.put("s", service("svc", "[{port: 81}]"));
  EXPECT_NE(world.all().find("Service default/svc has no port 80; requests get 503"), std::string::npos);
  world.put("s", service("svc"));
  EXPECT_EQ(world.all(), "");
  EXPECT_NE(world.cluster("outbound|80||svc.default.svc.cluster.local"), nullptr);
}

const std::string kResource =
    "      - path: /\n        pathType: Prefix\n        backend: {resource: {apiGroup: "
    "networking.higress.io, kind: "
    "McpBridge, name: default}}\n";

TEST(Backends, Destinations) {
  World world;
  world.put("f", ingress("a", "h", kResource,
                         "    higress.io/destination: |\n      1% one.static:81 v1\n      2% "
                         "two.dns\n\n      three:x:80:y\n"));
  const config::Route* route = world.route("http://h/");
  ASSERT_TRUE(route);
  ASSERT_EQ(route->destinations.size(), 3u);
  EXPECT_EQ(route->destinations[0].cluster_name, "outbound|81|v1|one.static");
  EXPECT_EQ(route->destinations[0].weight, 1u);
  EXPECT_EQ(route->destinations[1].cluster_name, "outbound|80||two.dns");
  EXPECT_EQ(route->destinations[2].cluster_name, "outbound|80||three:x:80:y");
  EXPECT_EQ(route->destinations[2].weight, 100u);
  EXPECT_EQ(route->total_weight, 103u);
  EXPECT_EQ(world.winner("http://h/"), "default/a");

  EXPECT_EQ(World().put("f", ingress("a", "h", kResource)),
            "f:14:18: Ingress default/a: spec.rules[0].http.paths[0].backend.resource: a resource "
            "backend needs a valid annotation "
            "higress.io/destination; the path is left out\n");
  EXPECT_NE(World()
                .put("f", ingress("a", "h", kResource, note("higress.io/destination", "x% a")))
                .find("\"x%\" is not a weight such as 30%"),
            std::string::npos);
  EXPECT_NE(World()
                .put("f", ingress("a", "h", kResource, note("higress.io/destination", "30%")))
                .find("the line \"30%\" has no service; write [weight%] host[:port] [subset]"),
            std::string::npos);
  world.put("f", ingress("a", "h", kResource, note("higress.io/destination", "0% x.dns:1")));
  EXPECT_EQ(world.route("http://h/")->total_weight, 1u);
}

TEST(Names, SystemNamespaceIsShort) {
  World world;
  world.put("f", ingress("a", "h", path("/"), "", "  namespace: higress-system\n"));
  EXPECT_EQ(world.winner("http://h/"), "a");
  EXPECT_EQ(world.route("http://h/")->origin, "Ingress higress-system/a spec.rules[0].http.paths[0]");
}

TEST(AppRoot, BeforeTheCatchAll) {
  World world;
  world.put("f", ingress("a", "h", path("/"), note("higress.io/app-root", "/foo"), born(1)));
  EXPECT_EQ(world.winner("http://h/"), "h-app-root");
  EXPECT_EQ(world.route("http://h/")->redirect->path, "/foo");
  EXPECT_EQ(world.route("http://h/")->redirect->status, 302);
  EXPECT_EQ(world.winner("http://h/x"), "default/a");
  world.put("g", ingress("b", "h", path("/b"), note("higress.io/app-root", "/bar"), born(2)));
  EXPECT_EQ(world.route("http://h/")->redirect->path, "/bar") << "the newest wins";
  world.put("i", ingress("c", "h", path("/", "Exact"), "", born(3)));
  EXPECT_EQ(world.winner("http://h/"), "default/c");
  EXPECT_NE(World()
                .put("f", ingress("a", "h", path("/"), note("higress.io/app-root", "foo")))
                .find("\"foo\" must begin with '/'"),
            std::string::npos);
}

TEST(LastGood, BadVersionKeepsServing) {
  World world;
  std::string good = ingress("a", "h", path("/"));
  world.put("f", good);
  std::string bad = good;
  bad.replace(bad.find("pathType: Prefix"), 16, "pathType: Prefx");
  EXPECT_EQ(world.put("f", bad),
            "f:13:19: Ingress default/a: spec.rules[0].http.paths[0].pathType: \"Prefx\" is not "
            "one of Exact, Prefix, "
            "ImplementationSpecific\n");
  EXPECT_EQ(world.winner("http://h/"), "default/a");
  world.put("f", good + "{");
  EXPECT_EQ(world.winner("http://h/"), "default/a");
  world.remove("f");
  EXPECT_EQ(world.winner("http://h/"), "-");
}

}  // namespace
}  // namespace sluice::compile
