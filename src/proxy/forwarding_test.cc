#include "proxy/forwarding.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::proxy {
namespace {

using http::HeaderId;

TEST(NormalizePath, Table) {
  const struct {
    const char *in, *out;
  } cases[] = {
      {"/", "/"},
      {"/a/b", "/a/b"},
      {"/a/b/", "/a/b/"},
      {"/.", "/"},
      {"/..", "/"},
      {"/./", "/"},
      {"/../", "/"},
      {"/a/.", "/a/"},
      {"/a/..", "/"},
      {"/a/./b", "/a/b"},
      {"/a/../b", "/b"},
      {"/a/b/../../c", "/c"},
      {"/a/../../../b", "/b"},
      {"/../../etc/passwd", "/etc/passwd"},
      {"/a/b/..", "/a/"},
      {"/a/b/../", "/a/"},
      {"/%2e%2E/b", "/b"},
      {"/a/%2e/b", "/a/b"},
      {"/a/.%2e/b", "/b"},
      {"/a/%2e./b", "/b"},
      {"/a\\b", "/a/b"},
      {"/a\\..\\b", "/b"},
      {"/\\..\\..\\b", "/b"},
      // not dot segments
      {"/...", "/..."},
      {"/a/...", "/a/..."},
      {"/.a", "/.a"},
      {"/a./b", "/a./b"},
      {"/a/..b/c", "/a/..b/c"},
      {"/%2e%2e%2e/a", "/%2e%2e%2e/a"},
      {"/.well-known/x", "/.well-known/x"},
      {"/%2x/a", "/%2x/a"},
      {"/a%2", "/a%2"},
      // slashes are kept, escaped slashes too
      {"//", "//"},
      {"/a//b", "/a//b"},
      {"//a/../b", "//b"},
      {"/a//../b", "/a/b"},
      {"/a%2fb", "/a%2fb"},
      {"/a%2F..%2Fb", "/a%2F..%2Fb"},
      {"/a%5c..%5cb", "/a%5c..%5cb"},
      // the query is not touched
      {"/a?x=/../y", "/a?x=/../y"},
      {"/a/../b?x=/../y\\z", "/b?x=/../y\\z"},
      {"/..?", "/?"},
      {"/.?a", "/?a"},
      {"/?..", "/?.."},
  };
  for (const auto& c : cases) {
    Arena arena;
    const std::string_view once = normalize_path(c.in, arena);
    EXPECT_EQ(once, c.out) << c.in;
    EXPECT_EQ(normalize_path(once, arena), once) << c.in;
  }
  Arena arena;
  const std::string_view plain = "/a/b?c";
  EXPECT_EQ(normalize_path(plain, arena).data(), plain.data()) << "nothing is copied when there is nothing to do";
}

struct Case {
  Arena arena;
  http::RequestHead head;
  http::ConnectionInfo connection;
  net::Address client;
  ForwardingFacts facts;
  Random random{1};

  Case(const char* peer, std::initializer_list<std::pair<const char*, const char*>> fields, uint32_t hops = 0) {
    head.headers = http::HeaderMap(&arena);
    head.scheme = "http";
    head.authority = "Example.com:80";
    for (const auto& [name, value] : fields) head.headers.add(std::string_view(name), std::string_view(value));
    connection.peer = *net::Address::parse(peer, 1234);
    client = client_address(head, connection, hops);
    facts.connection = &connection;
    facts.client = &client;
    facts.trusted_hops = hops;
    facts.start_time_ms = 1'700'000'000'123;
  }
  Case& run() {
    add_request_fields(head, facts, random);
    return *this;
  }
  std::string get(std::string_view name) { return std::string(head.headers.get(name)); }
  bool has(std::string_view name) { return head.headers.has(name); }
};

TEST(ClientAddress, CountsHopsFromTheRight) {
  const struct {
    std::initializer_list<std::pair<const char*, const char*>> fields;
    uint32_t hops;
    const char* expected;
  } cases[] = {
      {{{"x-forwarded-for", "1.1.1.1, 2.2.2.2"}}, 0, "10.0.0.9"},
      {{{"x-forwarded-for", "1.1.1.1, 2.2.2.2"}}, 1, "2.2.2.2"},
      {{{"x-forwarded-for", "1.1.1.1,2.2.2.2"}}, 2, "1.1.1.1"},
      {{{"x-forwarded-for", "1.1.1.1, 2.2.2.2"}}, 3, "10.0.0.9"},
      {{{"x-forwarded-for", "1.1.1.1"}, {"x-forwarded-for", "2.2.2.2"}}, 1, "2.2.2.2"},
      {{{"x-forwarded-for", "1.1.1.1"}, {"x-forwarded-for", "2.2.2.2"}}, 2, "1.1.1.1"},
      {{{"x-forwarded-for", "2001:db8::1"}}, 1, "2001:db8::1"},
      {{}, 1, "10.0.0.9"},
      {{{"x-forwarded-for", ""}}, 1, "10.0.0.9"},
      {{{"x-forwarded-for", "unknown"}}, 1, "10.0.0.9"},
      {{{"x-forwarded-for", "1.1.1.1, evil\", \"x"}}, 1, "10.0.0.9"},
      {{{"x-forwarded-for", "1.1.1.1,,"}}, 1, "10.0.0.9"},
  };
  for (const auto& c : cases) {
    Case example("10.0.0.9", c.fields, c.hops);
    EXPECT_EQ(example.client.ip(), c.expected) << c.hops;
  }
}

TEST(RequestFields, ForwardedForIsAppended) {
  EXPECT_EQ(Case("9.9.9.9", {}).run().get("x-forwarded-for"), "9.9.9.9");
  EXPECT_EQ(Case("9.9.9.9", {{"x-forwarded-for", "1.1.1.1"}}).run().get("x-forwarded-for"), "1.1.1.1,9.9.9.9");
  Case two("9.9.9.9", {{"x-forwarded-for", "1.1.1.1"}, {"x-forwarded-for", "2.2.2.2"}});
  two.run();
  EXPECT_EQ(two.head.headers.get_joined("x-forwarded-for"), "1.1.1.1, 2.2.2.2,9.9.9.9") << "one field";
  EXPECT_EQ(Case("[2001:db8::1]", {}).run().get("x-forwarded-for"), "2001:db8::1");
}

TEST(RequestFields, ForwardedProto) {
  EXPECT_EQ(Case("9.9.9.9", {{"x-forwarded-proto", "https"}}).run().get("x-forwarded-proto"), "http");
  EXPECT_EQ(Case("9.9.9.9", {{"x-forwarded-proto", "https"}}, 1).run().get("x-forwarded-proto"), "https");
  EXPECT_EQ(Case("9.9.9.9", {}, 1).run().get("x-forwarded-proto"), "http");
}

TEST(RequestFields, PassThrough) {
  Case c("9.9.9.9",
         {{"x-forwarded-host", "h"}, {"x-forwarded-port", "1"}, {"forwarded", "for=1"}, {"x-real-ip", "6.6.6.6"}});
  c.run();
  EXPECT_EQ(c.get("x-forwarded-host"), "h");
  EXPECT_EQ(c.get("x-forwarded-port"), "1");
  EXPECT_EQ(c.get("forwarded"), "for=1");
  EXPECT_EQ(c.get("x-real-ip"), "6.6.6.6") << "only with addXRealIpHeader";
  EXPECT_FALSE(Case("9.9.9.9", {}).run().has("x-forwarded-host"));
  Case real("9.9.9.9", {{"x-real-ip", "6.6.6.6"}});
  real.facts.add_x_real_ip = true;
  EXPECT_EQ(real.run().get("x-real-ip"), "9.9.9.9");
}

TEST(RequestFields, RequestId) {
  const std::string made = Case("9.9.9.9", {}).run().get("x-request-id");
  ASSERT_EQ(made.size(), 36u);
  for (size_t i : {8u, 13u, 18u, 23u}) EXPECT_EQ(made[i], '-');
  EXPECT_EQ(made[14], '4');
  EXPECT_NE(std::string("89ab").find(made[19]), std::string::npos);
  EXPECT_NE(Case("9.9.9.9", {{"x-request-id", "theirs"}}).run().get("x-request-id"), "theirs") << "external: replaced";
  EXPECT_EQ(Case("10.1.1.1", {{"x-request-id", "theirs"}}).run().get("x-request-id"), "theirs") << "internal: kept";
  Case c("9.9.9.9", {});
  c.run();
  const std::string first = c.get("x-request-id");
  Case d("9.9.9.9", {});
  d.random = c.random;
  EXPECT_NE(d.run().get("x-request-id"), first);
}

TEST(RequestFields, EnvoyFields) {
  Case external("9.9.9.9", {{"x-envoy-internal", "true"},
                            {"x-envoy-external-address", "1.1.1.1"},
                            {"x-envoy-upstream-rq-timeout-ms", "1"},
                            {"x-envoy-retry-on", "5xx"},
                            {"x-envoyx", "stays"}});
  external.run();
  EXPECT_EQ(external.get("x-envoy-external-address"), "9.9.9.9");
  EXPECT_FALSE(external.has("x-envoy-internal"));
  EXPECT_FALSE(external.has("x-envoy-upstream-rq-timeout-ms"));
  EXPECT_FALSE(external.has("x-envoy-retry-on"));
  EXPECT_TRUE(external.has("x-envoyx"));

  for (const char* peer : {"10.1.2.3", "192.168.1.1", "172.16.0.1", "127.0.0.1", "[::1]", "[fc00::1]"}) {
    Case internal(peer, {{"x-envoy-external-address", "1.1.1.1"}});
    internal.run();
    EXPECT_EQ(internal.get("x-envoy-internal"), "true") << peer;
    EXPECT_FALSE(internal.has("x-envoy-external-address")) << peer;
  }
  Case off("9.9.9.9", {{"x-envoy-internal", "true"}});
  off.facts.x_envoy_headers = false;
  off.run();
  EXPECT_FALSE(off.has("x-envoy-internal"));
  EXPECT_FALSE(off.has("x-envoy-external-address"));
  // Through a trusted proxy it is the client that counts, not the proxy's own private address.
  Case hops("10.0.0.1", {{"x-forwarded-for", "8.8.8.8"}, {"x-envoy-internal", "true"}}, 1);
  hops.run();
  EXPECT_EQ(hops.get("x-envoy-external-address"), "8.8.8.8");
  EXPECT_FALSE(hops.has("x-envoy-internal"));
}

TEST(RequestFields, ArrivalAndCertificate) {
  Case c("9.9.9.9", {{"original-host", "lie"}, {"req-start-time", "1"}, {"x-forwarded-client-cert", "forged"}});
  c.run();
  EXPECT_EQ(c.get("original-host"), "Example.com:80");
  EXPECT_EQ(c.get("req-start-time"), "1700000000123");
  EXPECT_FALSE(c.has("x-forwarded-client-cert"));
  Case mutual("9.9.9.9", {{"x-forwarded-client-cert", "forged"}});
  mutual.connection.client_certificate_header = "Hash=1";
  EXPECT_EQ(mutual.run().get("x-forwarded-client-cert"), "Hash=1");
}

TEST(RequestFields, ForwardClientCertDetails) {
  using enum config::ClientCertDetails;
  const struct {
    config::ClientCertDetails details;
    const char *with, *without;  // a certificate; the field as it leaves, "" if it is removed
  } cases[] = {
      {kSanitize, "", ""},
      {kSanitizeSet, "Hash=1", ""},
      {kForwardOnly, "By=a, By=b", ""},
      {kAppendForward, "By=a, By=b,Hash=1", ""},
      {kAlwaysForwardOnly, "By=a, By=b", "By=a, By=b"},
  };
  for (const auto& c : cases) {
    for (const bool certificate : {true, false}) {
      Case one("9.9.9.9", {{"x-forwarded-client-cert", "By=a"}, {"x-forwarded-client-cert", "By=b"}});
      one.facts.client_cert_details = c.details;
      if (certificate) one.connection.client_certificate_header = "Hash=1";
      one.run();
      const std::string got(one.head.headers.get_joined(http::HeaderId::kXForwardedClientCert));
      EXPECT_EQ(got, certificate ? c.with : c.without) << static_cast<int>(c.details);
    }
  }
  Case first("9.9.9.9", {});
  first.facts.client_cert_details = kAppendForward;
  first.connection.client_certificate_header = "Hash=1";
  EXPECT_EQ(first.run().get("x-forwarded-client-cert"), "Hash=1");
}

TEST(NormalizePath, Kinds) {
  using enum config::PathNormalization;
  const struct {
    const char *in, *none, *base, *merged, *decoded;
  } cases[] = {
      {"/a", "/a", "/a", "/a", "/a"},
      {"/a/../b", "/a/../b", "/b", "/b", "/b"},
      {"//a///b//?x=//y", "//a///b//?x=//y", "//a///b//?x=//y", "/a/b/?x=//y", "/a/b/?x=//y"},
      {"/a%2Fb%2f%2Fc?q=%2F", "/a%2Fb%2f%2Fc?q=%2F", "/a%2Fb%2f%2Fc?q=%2F", "/a%2Fb%2f%2Fc?q=%2F", "/a/b/c?q=%2F"},
      {"/a%5c..%5Cb", "/a%5c..%5Cb", "/a%5c..%5Cb", "/a%5c..%5Cb", "/b"},
      {"/a%2f..%2fb", "/a%2f..%2fb", "/a%2f..%2fb", "/a%2f..%2fb", "/b"},
      {"/a%252Fb%2", "/a%252Fb%2", "/a%252Fb%2", "/a%252Fb%2", "/a%252Fb%2"},
      {"/a//../b", "/a//../b", "/a/b", "/a/b", "/a/b"},
      {"/a%2F", "/a%2F", "/a%2F", "/a%2F", "/a/"},
  };
  Arena arena;
  for (const auto& c : cases) {
    EXPECT_EQ(normalize_path(c.in, arena, kNone), c.none) << c.in;
    EXPECT_EQ(normalize_path(c.in, arena, kBase), c.base) << c.in;
    EXPECT_EQ(normalize_path(c.in, arena, kMergeSlashes), c.merged) << c.in;
    EXPECT_EQ(normalize_path(c.in, arena, kDecodeAndMergeSlashes), c.decoded) << c.in;
  }
}

TEST(FormatNumber, Bounds) {
  Arena arena;
  EXPECT_EQ(format_number(0, arena), "0");
  EXPECT_EQ(format_number(UINT64_MAX, arena), "18446744073709551615");
}

}  // namespace
}  // namespace sluice::proxy
