#include "config/router.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include <map>
#include <random>

namespace sluice::config {
namespace {

using Headers = std::map<std::string, std::string, std::less<>>;

bool find_header(const void* context, std::string_view name, std::string_view* value) {
  const auto& headers = *static_cast<const Headers*>(context);
  auto at = headers.find(name);
  if (at == headers.end()) return false;
  *value = at->second;
  return true;
}

RequestKey request(std::string_view authority, std::string_view target, const Headers* headers = nullptr,
                   std::string_view method = "GET") {
  RequestKey key;
  key.authority = authority;
  key.method = method;
  key.scheme = "http";
  set_target(key, target);
  if (headers) {
    key.find_header = find_header;
    key.headers = headers;
  }
  return key;
}

std::shared_ptr<Route> route(const std::string& name, PathMatch::Kind kind, const std::string& text,
                             bool ignore_case = false) {
  auto out = std::make_shared<Route>();
  out->name = name;
  out->path.kind = kind;
  out->path.text = text;
  out->path.ignore_case = ignore_case;
  if (kind == PathMatch::Kind::kPrefixRegex) out->path.regex = std::make_shared<re2::RE2>(text + ".*");
  if (kind == PathMatch::Kind::kFullRegex) out->path.regex = std::make_shared<re2::RE2>(text + "$");
  return out;
}

constexpr auto kExact = PathMatch::Kind::kExact;
constexpr auto kPrefix = PathMatch::Kind::kPrefix;
constexpr auto kPrefixRegex = PathMatch::Kind::kPrefixRegex;
constexpr auto kFullRegex = PathMatch::Kind::kFullRegex;

void add(Snapshot& snapshot, const std::string& domain, std::vector<std::shared_ptr<const Route>> routes) {
  auto host = std::make_shared<VirtualHost>();
  host->domain = domain;
  host->routes = std::move(routes);
  index_paths(*host);
  snapshot.hosts.set(domain, host);
}

std::string winner(const Snapshot& snapshot, const RequestKey& key) {
  Match found = match(snapshot, key);
  return found ? found.route->name : "-";
}

TEST(Router, Hosts) {
  Snapshot snapshot;
  add(snapshot, "a.b.c", {route("exact", kExact, "/x")});
  add(snapshot, "*.b.c", {route("wild", kPrefix, "")});
  add(snapshot, "*.c", {route("wide", kPrefix, "/only")});
  add(snapshot, "*", {route("any", kPrefix, "")});
  add(snapshot, "::1", {route("six", kPrefix, "")});
  struct Case {
    const char* host;
    const char* path;
    const char* want;
  } cases[] = {
      {"a.b.c", "/x", "exact"},  {"A.B.C:8080", "/x", "exact"}, {"a.b.c.", "/x", "exact"}, {"a.b.c", "/y", "wild"},
      {"x.y.b.c", "/y", "wild"}, {"b.c", "/y", "any"},          {"b.c", "/only", "wide"},  {"q.c", "/only/x", "wide"},
      {"q.c", "/", "any"},       {"c", "/only", "any"},         {"", "/x", "any"},         {"[::1]:80", "/", "six"},
      {"[::1", "/", "any"},      {".b.c", "/", "any"},          {"..b.c", "/", "wild"},    {"x.*.b.c", "/", "wild"},
  };
  for (const Case& c : cases) EXPECT_EQ(winner(snapshot, request(c.host, c.path)), c.want) << c.host << c.path;
  std::string longest(400, 'a');
  EXPECT_EQ(winner(snapshot, request(longest + ".b.c", "/")), "any");
}

TEST(Router, NoHostIsNoRoute) {
  Snapshot snapshot;
  add(snapshot, "a", {route("r", kExact, "/x")});
  EXPECT_EQ(winner(snapshot, request("a", "/y")), "-");
  EXPECT_EQ(winner(snapshot, request("b", "/x")), "-");
}

TEST(Router, Paths) {
  struct Case {
    PathMatch::Kind kind;
    const char* text;
    bool ignore_case;
    std::vector<const char*> yes, no;
  } cases[] = {
      {kExact, "/p", false, {"/p", "/p?q=1"}, {"/p/", "/P", "/px", "/"}},
      {kExact, "/p", true, {"/p", "/P"}, {"/p/"}},
      {kPrefix, "/p", false, {"/p", "/p/", "/p/x", "/p?x"}, {"/px", "/P", "/"}},
      {kPrefix, "/p", true, {"/P", "/P/x"}, {"/Px"}},
      {kPrefix, "", false, {"/", "/x", "*", ""}, {}},
      {kPrefixRegex, "/a[0-9]", false, {"/a1", "/a1x/y"}, {"/x/a1", "/ab"}},
      {kFullRegex, "/a[0-9]", false, {"/a1", "/a1?x"}, {"/a1x"}},
  };
  for (const Case& c : cases) {
    Snapshot snapshot;
    add(snapshot, "*", {route("r", c.kind, c.text, c.ignore_case)});
    for (const char* path : c.yes) EXPECT_EQ(winner(snapshot, request("h", path)), "r") << c.text << " " << path;
    for (const char* path : c.no) EXPECT_EQ(winner(snapshot, request("h", path)), "-") << c.text << " " << path;
  }
}

TEST(Router, Conditions) {
  auto make = [](ValueMatch::Kind kind, ValueMatch::Source source, const char* name, const char* value,
                 bool invert = false) {
    ValueMatch match;
    match.kind = kind;
    match.source = source;
    match.name = name;
    match.value = value;
    match.invert = invert;
    if (kind == ValueMatch::Kind::kRegex) match.regex = std::make_shared<re2::RE2>(value);
    return match;
  };
  using K = ValueMatch::Kind;
  using S = ValueMatch::Source;
  Headers headers = {{"x-a", "foobar"}};
  struct Case {
    ValueMatch match;
    bool want;
  } cases[] = {
      {make(K::kExact, S::kHeader, "x-a", "foobar"), true},
      {make(K::kExact, S::kHeader, "x-a", "foo"), false},
      {make(K::kPrefix, S::kHeader, "x-a", "foo"), true},
      {make(K::kPrefix, S::kHeader, "x-a", "bar"), false},
      {make(K::kRegex, S::kHeader, "x-a", "f.*r"), true},
      {make(K::kRegex, S::kHeader, "x-a", "f.*o"), false},
      {make(K::kPresent, S::kHeader, "x-a", ""), true},
      {make(K::kPresent, S::kHeader, "x-b", ""), false},
      {make(K::kPresent, S::kHeader, "x-b", "", true), true},
      {make(K::kExact, S::kQuery, "q", "1"), true},
      {make(K::kExact, S::kQuery, "q", "2"), false},
      {make(K::kPresent, S::kQuery, "flag", ""), true},
      {make(K::kExact, S::kQuery, "r", "a%20b"), true},
      {make(K::kExact, S::kAuthority, "", "h.example:80"), true},
      {make(K::kPrefix, S::kPath, "", "/x?q"), true},
      {make(K::kExact, S::kMethod, "", "GET"), true},
      {make(K::kExact, S::kScheme, "", "https"), false},
  };
  for (const Case& c : cases) {
    Snapshot snapshot;
    auto r = route("r", kPrefix, "");
    r->conditions = {c.match};
    add(snapshot, "*", {r});
    EXPECT_EQ(winner(snapshot, request("h.example:80", "/x?q=1&flag&q=2&r=a%20b", &headers)) == "r", c.want)
        << c.match.name << " " << c.match.value;
  }
  Snapshot snapshot;
  auto r = route("r", kPrefix, "");
  r->methods = {"GET", "PUT"};
  add(snapshot, "*", {r});
  EXPECT_EQ(winner(snapshot, request("h", "/", nullptr, "PUT")), "r");
  EXPECT_EQ(winner(snapshot, request("h", "/", nullptr, "get")), "-");
}

TEST(Router, TraceTellsWhyRoutesLost) {
  Snapshot snapshot;
  auto conditional = route("conditional", kPrefix, "/a");
  ValueMatch condition;
  condition.name = "x";
  condition.value = "1";
  conditional->conditions = {condition};
  auto method = route("method", kPrefix, "/a");
  method->methods = {"PUT"};
  add(snapshot, "a.b", {route("other", kExact, "/b"), conditional, method});
  add(snapshot, "*", {route("won", kPrefix, "/a"), route("late", kPrefix, "")});
  MatchTrace trace;
  EXPECT_EQ(sluice::config::match(snapshot, request("A.b:1", "/a"), &trace).route->name, "won");
  EXPECT_EQ(trace.host, "a.b");
  ASSERT_EQ(trace.hosts.size(), 3u);
  EXPECT_EQ(trace.hosts[0].domain, "a.b");
  using R = MatchTrace::Reason;
  EXPECT_EQ(trace.hosts[0].candidates[0].reason, R::kPath);
  EXPECT_EQ(trace.hosts[0].candidates[1].reason, R::kCondition);
  EXPECT_EQ(trace.hosts[0].candidates[2].reason, R::kMethod);
  EXPECT_FALSE(trace.hosts[1].exists);
  EXPECT_EQ(trace.hosts[2].candidates[0].reason, R::kMatched);
  EXPECT_EQ(trace.hosts[2].candidates[1].reason, R::kLater);
}

TEST(Router, Tls) {
  Snapshot snapshot;
  for (const char* domain : {"a.b.c", "*.b.c", "*"}) {
    auto host = std::make_shared<TlsHost>();
    host->domain = domain;
    snapshot.tls_hosts.set(domain, host);
  }
  EXPECT_EQ(match_tls(snapshot, "a.b.c")->domain, "a.b.c");
  EXPECT_EQ(match_tls(snapshot, "x.y.b.c")->domain, "*.b.c");
  EXPECT_EQ(match_tls(snapshot, "b.c")->domain, "*");
  EXPECT_EQ(match_tls(snapshot, "")->domain, "*");
  snapshot.tls_hosts.set("*", nullptr);
  EXPECT_EQ(match_tls(snapshot, "b.c"), nullptr);
}

// Index and path keys find the route that a walk over the list finds, whatever the list's order is.
TEST(Router, ShortcutsEqualLinearScan) {
  std::mt19937 random(3);
  auto pick = [&](size_t n) { return random() % n; };
  auto path = [&](size_t depth) {
    std::string out;
    for (size_t i = 0; i < depth; ++i) {
      out += '/';
      for (size_t n = pick(8) ? pick(3) : pick(12); n > 0; --n) out += "abAB"[pick(4)];
    }
    return out;
  };
  for (int round = 0; round < 400; ++round) {
    std::vector<std::shared_ptr<const Route>> routes;
    size_t count = 1 + pick(RouteIndex::kMinRoutes * 6);
    for (size_t i = 0; i < count; ++i) {
      std::shared_ptr<Route> r;
      switch (pick(8)) {
        case 0:
          r = route("", kPrefixRegex, path(1 + pick(2)) + "[ab]");
          break;
        case 1:
          r = route("", kFullRegex, path(1 + pick(2)) + ".*b");
          break;
        case 2:
        case 3:
          r = route("", kExact, path(1 + pick(4)), pick(4) == 0);
          break;
        default: {
          std::string text = path(pick(5));
          if (text.ends_with('/')) text.pop_back();
          r = route("", kPrefix, text, pick(6) == 0);
        }
      }
      if (pick(3) == 0) r->methods = {"PUT"};
      if (pick(3) == 0) {
        ValueMatch condition;
        condition.name = "x";
        condition.value = pick(2) ? "1" : "2";
        r->conditions = {condition};
      }
      routes.push_back(std::move(r));
    }
    Snapshot indexed, walked;
    auto host = std::make_shared<VirtualHost>();
    host->domain = "*";
    host->routes = routes;
    for (const auto& each : routes) host->keys.push_back({each.get()});  // of the kind that rules nothing out
    walked.hosts.set("*", host);
    host = std::make_shared<VirtualHost>(*host);
    index_paths(*host);
    ASSERT_EQ(host->index != nullptr, count >= RouteIndex::kMinRoutes);
    indexed.hosts.set("*", host);
    for (int i = 0; i < 200; ++i) {
      Headers headers;
      if (pick(2)) headers["x"] = pick(2) ? "1" : "2";
      std::string target =
          pick(40) == 0 ? (pick(2) ? "*" : "") : path(pick(3) == 0 ? pick(60) : pick(5)) + (pick(4) ? "" : "?a=/b");
      RequestKey key = request("h", target, &headers, pick(2) ? "PUT" : "GET");
      ASSERT_EQ(match(indexed, key).route, match(walked, key).route) << target;
    }
  }
}

TEST(PersistentTables, VersionsAreIndependent) {
  PersistentMap<int> one;
  one.set("a", std::make_shared<int>(1));
  PersistentMap<int> two = one;
  two.set("a", std::make_shared<int>(2));
  two.set("b", std::make_shared<int>(3));
  EXPECT_EQ(*one.find("a"), 1);
  EXPECT_EQ(one.find("b"), nullptr);
  EXPECT_EQ(*two.find("a"), 2);
  EXPECT_EQ(two.size(), 2u);
  two.set("a", nullptr);
  EXPECT_EQ(two.find("a"), nullptr);
  EXPECT_EQ(two.size(), 1u);

  PersistentVector<int> v;
  v.set_all({{0, std::make_shared<int>(1)}, {5, std::make_shared<int>(2)}, {300, std::make_shared<int>(3)}});
  PersistentVector<int> w = v;
  w.set_all({{5, nullptr}, {301, std::make_shared<int>(4)}});
  EXPECT_EQ(*v.get(5), 2);
  EXPECT_EQ(w.get(5), nullptr);
  EXPECT_EQ(*w.get(300), 3);
  EXPECT_EQ(*w.get(301), 4);
  EXPECT_EQ(w.get(100000), nullptr);
}

}  // namespace
}  // namespace sluice::config
