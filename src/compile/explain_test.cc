#include "compile/explain.h"

#include <gtest/gtest.h>

#include "compile/test_support.h"

namespace sluice::compile {
namespace {

using namespace test;

TEST(Explain, Requests) {
  auto good = ExplainRequest::parse(" PUT  HTTPS://a.b:80/x?y#z ", {"X-A:  1 ", "host: other"});
  ASSERT_TRUE(good);
  EXPECT_EQ(good->method, "PUT");
  EXPECT_EQ(good->scheme, "https");
  EXPECT_EQ(good->authority, "other");
  EXPECT_EQ(good->target, "/x?y");
  EXPECT_EQ(good->headers[0], (std::pair<std::string, std::string>("x-a", "1")));
  EXPECT_EQ(ExplainRequest::parse("http://a", {})->target, "/");
  EXPECT_EQ(ExplainRequest::parse("http://a?b", {})->target, "/?b");
  EXPECT_EQ(ExplainRequest::parse("GET /x", {}).error().message,
            "a request is written METHOD http://host/path or METHOD https://host/path");
  EXPECT_EQ(ExplainRequest::parse("GET ftp://x", {}).error().message, "\"ftp\" is not http or https");
  EXPECT_EQ(ExplainRequest::parse("GET http:///x", {}).error().message, "the request names no host");
  EXPECT_EQ(ExplainRequest::parse("GET http://x", {"bad"}).error().message,
            "the header \"bad\" is not written Name: value");
}

TEST(Explain, TellsWinnerLosersAndDestination) {
  World world;
  world.put("f", ingress("get", "foo.com", path("/a"), note("higress.io/match-method", "PUT")) +
                     ingress("head", "foo.com", path("/a"), note("higress.io/exact-match-header-x-v", "2")) +
                     ingress("plain", "foo.com", path("/a") + path("/zzz", "Exact")) +
                     ingress("wild", "*.com", path("/")) + service("svc") + slice("one", "svc", "1.1.1.1"));
  auto explained = explain(*world.control.snapshot(), *ExplainRequest::parse("GET http://foo.com/a/b", {"x-v: 1"}));
  EXPECT_TRUE(explained.routed);
  EXPECT_EQ(explained.text,
            "GET http://foo.com/a/b\n"
            "host foo.com: 4 routes\n"
            "    Exact /zzz  Ingress default/plain spec.rules[0].http.paths[1]: the path /a/b is not "
            "Exact /zzz\n"
            "    Prefix /a  Ingress default/get spec.rules[0].http.paths[0]: the method GET is not one "
            "of PUT\n"
            "    Prefix /a  Ingress default/head spec.rules[0].http.paths[0]: does not hold: header x-v "
            "= \"2\"\n"
            "  > Prefix /a  Ingress default/plain spec.rules[0].http.paths[0]: matches\n"
            "route default/plain of host foo.com (Ingress default/plain spec.rules[0].http.paths[0])\n"
            "  100% to outbound|80||svc.default.svc.cluster.local\n"
            "    1.1.1.1:8080\n");
  EXPECT_NE(explained.json.find("\"reason\": \"does not hold: header x-v = \\\"2\\\"\""), std::string::npos)
      << explained.json;

  auto fallback = explain(*world.control.snapshot(), *ExplainRequest::parse("GET http://foo.com/q", {}));
  EXPECT_NE(fallback.text.find("route default/wild of host *.com"), std::string::npos) << fallback.text;
  auto none = explain(*world.control.snapshot(), *ExplainRequest::parse("GET https://nowhere.org/q", {}));
  EXPECT_FALSE(none.routed);
  EXPECT_EQ(none.text,
            "GET https://nowhere.org/q\nTLS: no certificate for this name; the handshake "
            "fails\nhost nowhere.org: no routes\n"
            "host *.org: no routes\nhost *: no routes\nno route matches: 404\n");
}

TEST(Explain, WeightsRedirectsAndGaps) {
  World world;
  world.put("f", ingress("w", "w", "      - {path: /, pathType: Prefix, backend: {resource: {kind: K, name: n}}}\n",
                         "    higress.io/destination: |\n      1% svc.default.svc.cluster.local:80\n     "
                         " 2% none.dns:80\n") +
                     service("svc") + ingress("r", "r", path("/"), note("higress.io/ssl-redirect", "true")));
  std::string text = explain(*world.control.snapshot(), *ExplainRequest::parse("http://w/", {})).text;
  EXPECT_NE(text.find("  33.33% to outbound|80||svc.default.svc.cluster.local\n    no endpoints: 503\n"
                      "  66.67% to outbound|80||none.dns: does not exist, 503\n"),
            std::string::npos)
      << text;
  text = explain(*world.control.snapshot(), *ExplainRequest::parse("http://r/x", {})).text;
  EXPECT_NE(text.find("  redirect 308 to https://r/x\n"), std::string::npos) << text;
  text = explain(*world.control.snapshot(), *ExplainRequest::parse("https://r/x", {})).text;
  EXPECT_EQ(text.find("  redirect "), std::string::npos) << text;
}

TEST(Explain, ManyRoutesAreNotAllShown) {
  World world;
  std::string paths;
  for (int i = 0; i < 300; ++i) paths += path("/p" + std::to_string(1000 + i));
  world.put("f", ingress("a", "h", paths));
  auto explained = explain(*world.control.snapshot(), *ExplainRequest::parse("http://h/p1299", {}));
  EXPECT_NE(explained.text.find("(249 routes of other paths are not shown)"), std::string::npos) << explained.text;
  EXPECT_NE(explained.text.find("  > Prefix /p1299"), std::string::npos);
}

}  // namespace
}  // namespace sluice::compile
