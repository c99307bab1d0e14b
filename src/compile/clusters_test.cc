// Services, endpoints and registries to clusters.

#include <gtest/gtest.h>

#include "compile/protocols.h"
#include "compile/test_support.h"

namespace sluice::compile {
namespace {

using namespace test;

const std::string kName = "outbound|80||svc.default.svc.cluster.local";

std::string bridge(const std::string& registries) {
  return "---\napiVersion: networking.higress.io/v1\nkind: McpBridge\nmetadata: {name: default, "
         "namespace: higress-system}\nspec:\n"
         "  registries:\n" +
         registries;
}

TEST(Clusters, ExistWhileReferenced) {
  World world;
  world.put("s", service("svc"));
  EXPECT_EQ(world.cluster(kName), nullptr);
  world.put("i", ingress("a", "h", path("/")));
  ASSERT_NE(world.cluster(kName), nullptr);
  EXPECT_EQ(world.cluster(kName)->service, "svc.default.svc.cluster.local");
  EXPECT_EQ(world.cluster(kName)->port, 80);
  uint32_t slot = world.cluster(kName)->slot;
  EXPECT_EQ(world.route("http://h/")->destinations[0].cluster, slot);
  world.put("i", ingress("a", "h", path("/x") + path("/y")));
  EXPECT_EQ(world.cluster(kName)->slot, slot) << "the slot stays with the name";
  world.remove("i");
  EXPECT_EQ(world.cluster(kName), nullptr);
  EXPECT_EQ(world.snapshot->clusters.get(slot), nullptr);
  world.put("i", ingress("b", "h", path("/", "Prefix", "other")));
  EXPECT_NE(world.route("http://h/")->destinations[0].cluster, slot)
      << "a slot rests before it is given to another cluster";
}

TEST(Clusters, SlotsAreUsedAgainInTheEnd) {
  World world;
  for (int i = 0; i < 5000; ++i) world.put("i", ingress("a", "h", path("/", "Prefix", "s" + std::to_string(i))));
  EXPECT_LT(world.route("http://h/")->destinations[0].cluster, 600u);
}

TEST(Endpoints, FromSlices) {
  World world;
  world.put("i", ingress("a", "h", path("/")));
  world.put("s", service("svc"));
  EXPECT_EQ(world.endpoints(kName), "") << "no slices: no endpoints, 503";
  world.put("e1", slice("one", "svc", "10.0.0.2, 10.0.0.1"));
  EXPECT_EQ(world.endpoints(kName), "10.0.0.1:8080 10.0.0.2:8080");
  const config::VirtualHost* host = world.control.snapshot()->hosts.find("h");
  auto before = world.control.snapshot();
  world.put("e2", slice("two", "svc", "10.0.0.3, 10.0.0.1", "[{port: 8081}]"));
  EXPECT_EQ(world.endpoints(kName), "10.0.0.1:8080 10.0.0.1:8081 10.0.0.2:8080 10.0.0.3:8081");
  EXPECT_EQ(world.control.snapshot()->hosts.find("h"), host) << "endpoints don't rebuild routes";
  EXPECT_EQ(world.control.compiler().last_work().hosts, 0u);
  EXPECT_EQ(world.control.compiler().last_work().clusters, 1u);
  EXPECT_EQ(before->clusters.get(0)->endpoints->endpoints.size(), 2u) << "old snapshots stay as they were";
  world.remove("e1");
  EXPECT_EQ(world.endpoints(kName), "10.0.0.1:8081 10.0.0.3:8081");
  world.put("e2", slice("two", "other", "10.0.0.3"));
  EXPECT_EQ(world.endpoints(kName), "");
}

TEST(Endpoints, OnlyReadyAndOnlyThePort) {
  World world;
  world.put("i", ingress("a", "h", path("/")));
  world.put("s", service("svc", "[{name: http, port: 80}, {name: admin, port: 81}]"));
  world.put("e", R"(
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: x, labels: {kubernetes.io/service-name: svc, version: v1}}
addressType: IPv4
ports: [{name: admin, port: 9}, {name: http, port: 8}, {name: http, port: 7, protocol: UDP}]
endpoints:
- {addresses: [1.1.1.1], zone: z1, conditions: {ready: true}}
- {addresses: [1.1.1.2], conditions: {ready: false}}
- {addresses: [1.1.1.3]}
)");
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8 1.1.1.3:8");
  const config::Endpoint& endpoint = world.cluster(kName)->endpoints->endpoints[0];
  EXPECT_EQ(endpoint.zone, "z1");
  EXPECT_EQ(endpoint.labels.at(0).second, "v1");
}

TEST(Endpoints, FromEndpointsObject) {
  World world;
  world.put("i", ingress("a", "h", path("/")));
  world.put("s", service("svc"));
  const std::string endpoints =
      "{apiVersion: v1, kind: Endpoints, metadata: {name: svc}, subsets: [{addresses: [{ip: "
      "1.1.1.1}], notReadyAddresses: [{ip: "
      "1.1.1.2}], ports: [{port: 8}]}, {addresses: [{ip: 'fd00::1'}], ports: [{name: x, port: "
      "9}]}]}";
  world.put("e", endpoints);
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8 [fd00::1]:9");
  world.put("t", slice("one", "svc", "2.2.2.2"));
  EXPECT_EQ(world.endpoints(kName), "2.2.2.2:8080") << "slices replace it";
  world.remove("t");
  world.remove("e");
  EXPECT_EQ(world.endpoints(kName), "");
}

TEST(Endpoints, Subsets) {
  World world;
  world.put("i", ingress("a", "h", "      - {path: /, pathType: Prefix, backend: {resource: {kind: K, name: n}}}\n",
                         "    higress.io/destination: |\n      50% svc.default.svc.cluster.local:80 v1\n      50% "
                         "svc.default.svc.cluster.local:80 v2\n"));
  world.put("s", service("svc") + slice("one", "svc", "1.1.1.1", "[{port: 8}]", ", version: v1") +
                     slice("two", "svc", "1.1.1.2", "[{port: 8}]", ", version: v2"));
  EXPECT_EQ(world.endpoints("outbound|80|v1|svc.default.svc.cluster.local"), "1.1.1.1:8");
  EXPECT_EQ(world.endpoints("outbound|80|v2|svc.default.svc.cluster.local"), "1.1.1.2:8");
}

TEST(Endpoints, Health) {
  World world;
  world.put("f", ingress("a", "h", path("/")) + service("svc") + slice("one", "svc", "1.1.1.1, 1.1.1.2"));
  auto bad = *net::Address::parse_ip("1.1.1.2", 8080);
  auto snapshot = world.control.set_health(kName, bad, false);
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8080 1.1.1.2:8080!");
  EXPECT_EQ(world.control.set_health(kName, bad, false), snapshot) << "nothing new, no new snapshot";
  world.put("g", slice("two", "svc", "1.1.1.3"));
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8080 1.1.1.2:8080! 1.1.1.3:8080");
  world.control.set_health(kName, bad, true);
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8080 1.1.1.2:8080 1.1.1.3:8080");
}

TEST(Dns, ExternalName) {
  World world;
  world.put("f",
            ingress("a", "h", path("/", "Prefix", "svc", "number: 443")) +
                service("svc", "[{name: https, port: 443}]", ", type: ExternalName, externalName: Api.Example.com."));
  const std::string name = "outbound|443||svc.default.svc.cluster.local";
  EXPECT_EQ(world.control.dns_names(), std::vector<std::string>{"api.example.com"});
  EXPECT_EQ(world.endpoints(name), "");
  world.control.set_resolved("api.example.com",
                             {*net::Address::parse_ip("2.2.2.2"), *net::Address::parse_ip("1.1.1.1", 99)});
  EXPECT_EQ(world.endpoints(name), "1.1.1.1:443 2.2.2.2:443");
  EXPECT_EQ(world.cluster(name)->tls->sni, "api.example.com");
  EXPECT_EQ(world.cluster(name)->endpoints->endpoints[0].hostname, "api.example.com");
  world.put("f2", ingress("b", "g", path("/x")));
  EXPECT_EQ(world.endpoints(name), "1.1.1.1:443 2.2.2.2:443") << "a rebuild keeps what was resolved";
  world.remove("f");
  EXPECT_TRUE(world.control.dns_names().empty());
}

TEST(Dns, ExternalNameOfAServiceIsAnAlias) {
  World world;
  world.put("f",
            ingress("a", "h", path("/")) +
                service("svc", "[{port: 80}]", ", type: ExternalName, externalName: real.default.svc.cluster.local") +
                service("real") + slice("one", "real", "1.1.1.1"));
  EXPECT_TRUE(world.control.dns_names().empty());
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8080");
  world.put("g", slice("two", "real", "1.1.1.2"));
  EXPECT_EQ(world.endpoints(kName), "1.1.1.1:8080 1.1.1.2:8080");
}

TEST(Registries, StaticAndDns) {
  World world;
  world.put("b", bridge("  - {type: static, name: one, domain: '1.1.1.1:80,[::1]:81', port: 8080}\n"
                        "  - {type: dns, name: two, domain: 'a.example.com,b.example.com', port: 443, protocol: "
                        "https}\n"
                        "  - {type: dns, name: three, domain: c.example.com, port: 50051, protocol: grpcs}\n"));
  EXPECT_EQ(world.endpoints("outbound|8080||one.static"), "1.1.1.1:80 [::1]:81") << "exists without a route";
  EXPECT_EQ(world.control.dns_names(), (std::vector<std::string>{"a.example.com", "b.example.com", "c.example.com"}));
  EXPECT_EQ(world.cluster("outbound|443||two.dns")->tls->sni, "");
  EXPECT_EQ(world.cluster("outbound|443||two.dns")->protocol, config::UpstreamProtocol::kHttp1);
  EXPECT_EQ(world.cluster("outbound|50051||three.dns")->tls->sni, "c.example.com");
  EXPECT_EQ(world.cluster("outbound|50051||three.dns")->protocol, config::UpstreamProtocol::kHttp2);
  world.control.set_resolved("b.example.com", {*net::Address::parse_ip("3.3.3.3")});
  EXPECT_EQ(world.endpoints("outbound|443||two.dns"), "3.3.3.3:443");

  uint32_t slot = world.cluster("outbound|443||two.dns")->slot;
  world.put("b", bridge("  - {type: dns, name: two, domain: b.example.com, port: 443}\n"));
  EXPECT_EQ(world.cluster("outbound|443||two.dns")->slot, slot);
  EXPECT_EQ(world.endpoints("outbound|443||two.dns"), "3.3.3.3:443");
  EXPECT_EQ(world.cluster("outbound|443||two.dns")->tls, nullptr);
  EXPECT_EQ(world.cluster("outbound|8080||one.static"), nullptr);
  world.remove("b");
  EXPECT_EQ(world.dump(), World().dump());
}

TEST(Registries, RefusedEntryKeepsItsLastGoodVersion) {
  World world;
  world.put("b", bridge("  - {type: static, name: one, domain: '1.1.1.1:80', port: 80}\n  - {type: "
                        "static, name: two, domain: '2.2.2.2:80', port: 80}\n"));
  world.put("b", bridge("  - {type: static, name: one, domain: '1.1.1.1', port: 80}\n  - {type: "
                        "static, name: two, domain: '2.2.2.3:80', port: 80}\n"));
  EXPECT_EQ(world.endpoints("outbound|80||one.static"), "1.1.1.1:80");
  EXPECT_EQ(world.endpoints("outbound|80||two.static"), "2.2.2.3:80");
  EXPECT_NE(world.all().find("\"1.1.1.1\" is not an address"), std::string::npos);
  world.put("b", bridge("  - {type: static, name: two, domain: '2.2.2.3:80', port: 80}\n"));
  EXPECT_EQ(world.endpoints("outbound|80||one.static"), "-");
}

TEST(Registries, OnlyTheDefaultBridgeOfTheSystemNamespace) {
  World world;
  std::string text = bridge("  - {type: static, name: one, domain: '1.1.1.1:80', port: 80}\n");
  text.replace(text.find("higress-system"), 14, "elsewhere-ns12");
  world.put("b", text);
  EXPECT_EQ(world.cluster("outbound|80||one.static"), nullptr);
}

TEST(Registries, DestinationWithoutPort) {
  World world;
  const std::string text =
      ingress("a", "h", "      - {path: /, pathType: Prefix, backend: {resource: {kind: K, name: n}}}\n",
              note("higress.io/destination", "one.static"));
  world.put("i", text);
  EXPECT_EQ(world.target("http://h/"), "outbound|80||one.static");
  world.put("b", bridge("  - {type: static, name: one, domain: '1.1.1.1:80', port: 8080}\n"));
  EXPECT_EQ(world.target("http://h/"), "outbound|8080||one.static");
  world.remove("b");
  EXPECT_EQ(world.target("http://h/"), "outbound|80||one.static");
  EXPECT_NE(world.all().find("no Service or registry is called \"one.static\"; requests get 503"), std::string::npos);
}

TEST(Registries, WrongPort) {
  World world;
  world.put("i", bridge("  - {type: static, name: one, domain: '1.1.1.1:80', port: 8080}\n") +
                     ingress("a", "h", "      - {path: /, pathType: Prefix, backend: {resource: {kind: K, name: n}}}\n",
                             note("higress.io/destination", "one.static:81")));
  EXPECT_NE(world.all().find("one.static has no port 81, only 8080; requests get 503"), std::string::npos);
  EXPECT_EQ(world.endpoints("outbound|81||one.static"), "");
}

TEST(Protocols, Words) {
  struct Case {
    const char* app_protocol;
    const char* name;
    bool http2, tls;
  } cases[] = {
      {"http", "", false, false},
      {"https", "", false, true},
      {"kubernetes.io/h2c", "", true, false},
      {"kubernetes.io/ws", "", false, false},
      {"kubernetes.io/wss", "", false, true},
      {"grpc", "", true, false},
      {"grpcs", "", true, true},
      {"http2", "", true, false},
      {"GRPC", "", true, false},
      {"", "http", false, false},
      {"", "http2", true, false},
      {"", "http2-x", true, false},
      {"", "grpc-x", true, false},
      {"", "grpc-web", true, false},
      {"", "grpc-web-x", true, false},
      {"", "https-x", false, true},
      {"", "tcp-x", false, false},
      {"", "web", false, false},
      {"", "grpcx", false, false},
      {"unknown", "grpc", true, false},
      {"http", "grpc", false, false},
  };
  for (const Case& c : cases) {
    resource::ServicePort port;
    port.app_protocol = c.app_protocol;
    port.name = c.name;
    Protocol protocol = protocol_of(port);
    EXPECT_EQ(protocol.version == config::UpstreamProtocol::kHttp2, c.http2) << c.app_protocol << " " << c.name;
    EXPECT_EQ(protocol.tls, c.tls) << c.app_protocol << " " << c.name;
  }
}

TEST(ServiceOptions, OldestIngressDecides) {
  World world;
  world.put("s", service("svc"));
  world.put("young", ingress("young", "y", path("/"), note("higress.io/load-balance", "random"), born(2)));
  EXPECT_EQ(world.cluster(kName)->load_balancing, config::LoadBalancing::kRandom);
  world.put("none", ingress("none", "n", path("/"), "", born(0)));
  EXPECT_EQ(world.cluster(kName)->load_balancing, config::LoadBalancing::kRandom)
      << "an Ingress that says nothing decides nothing";
  world.put("old", ingress("old", "o", path("/"), note("higress.io/backend-protocol", "grpc"), born(1)));
  EXPECT_EQ(world.cluster(kName)->load_balancing, config::LoadBalancing::kLeastRequest)
      << "values of others are ignored as a block";
  EXPECT_EQ(world.cluster(kName)->protocol, config::UpstreamProtocol::kHttp2);
  EXPECT_NE(world.all().find("Ingress default/young: spec.rules[0].http.paths[0].backend: an older "
                             "Ingress decides the upstream annotations"),
            std::string::npos)
      << world.all();
  world.remove("old");
  EXPECT_EQ(world.cluster(kName)->load_balancing, config::LoadBalancing::kRandom);
  EXPECT_EQ(world.cluster(kName)->protocol, config::UpstreamProtocol::kHttp1);
}

TEST(ServiceOptions, HashAndAffinity) {
  World world;
  auto apply = [&](const std::string& annotations) -> const config::Cluster& {
    world.put("f", service("svc") + ingress("a", "h", path("/"), annotations));
    return *world.cluster(kName);
  };
  using S = config::HashPolicy::Source;
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$request_uri")).hash.source, S::kPath);
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$host")).hash.source, S::kAuthority);
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$remote_addr")).hash.source, S::kSourceAddress);
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$http_X-User_id")).hash.name, "x-user_id");
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$arg_Q")).hash.name, "Q");
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$arg_Q")).load_balancing, config::LoadBalancing::kRingHash);
  EXPECT_EQ(apply(note("higress.io/upstream-hash-by", "$nothing$host")).load_balancing,
            config::LoadBalancing::kRoundRobin);
  EXPECT_EQ(apply(note("higress.io/load-balance", "round_robin")).load_balancing, config::LoadBalancing::kRoundRobin);
  EXPECT_EQ(apply(note("higress.io/load-balance", "ewma")).load_balancing, config::LoadBalancing::kPeakEwma);
  const config::Cluster& cookie =
      apply(note("higress.io/affinity", "cookie") + note("higress.io/upstream-hash-by", "$host") +
            note("higress.io/session-cookie-expires", "7"));
  EXPECT_EQ(cookie.hash.source, S::kCookie);
  EXPECT_EQ(cookie.hash.name, "INGRESSCOOKIE");
  EXPECT_EQ(cookie.hash.cookie->path, "/");
  EXPECT_EQ(cookie.hash.cookie->max_age.count(), 7);
  EXPECT_EQ(apply(note("higress.io/session-cookie-name", "c") + note("higress.io/session-cookie-max-age", "9"))
                .hash.cookie->max_age.count(),
            9);
}

TEST(ServiceOptions, UpstreamTls) {
  World world;
  auto apply = [&](const std::string& annotations) {
    world.put("f", service("svc") + ingress("a", "h", path("/"), annotations));
    return world.cluster(kName);
  };
  EXPECT_EQ(apply(note("higress.io/backend-protocol", "HTTP"))->tls, nullptr);
  EXPECT_NE(apply(note("higress.io/backend-protocol", "https"))->tls, nullptr);
  EXPECT_EQ(apply(note("higress.io/backend-protocol", "HTTPS"))->protocol, config::UpstreamProtocol::kHttp1);
  EXPECT_EQ(apply(note("higress.io/backend-protocol", "GRPCS"))->protocol, config::UpstreamProtocol::kHttp2);
  EXPECT_EQ(apply(note("higress.io/backend-protocol", "HTTPS") + note("higress.io/proxy-ssl-name", "x.y") +
                  note("higress.io/proxy-ssl-server-name", "on"))
                ->tls->sni,
            "x.y");
  EXPECT_EQ(apply(note("higress.io/backend-protocol", "HTTPS") + note("higress.io/proxy-ssl-name", "x.y"))->tls->sni,
            "");
  // A client certificate that isn't there closes the way rather than opening it without.
  EXPECT_EQ(apply(note("higress.io/backend-protocol", "HTTPS") + note("higress.io/proxy-ssl-secret", "none"))->tls,
            nullptr);
  EXPECT_NE(world.all().find("Secret default/none for the upstream (proxy-ssl-secret) does not exist"),
            std::string::npos)
      << world.all();
  world.put("e", slice("one", "svc", "1.1.1.1"));
  EXPECT_EQ(world.endpoints(kName), "");
}

TEST(Clusters, SlicesOfNames) {
  World world;
  auto names = [](const std::string& list) {
    return "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: FQDN, metadata: {name: n, labels: "
           "{kubernetes.io/service-name: svc}}, ports: [{port: 8443}], endpoints: [{addresses: [" +
           list + "]}]}\n";
  };
  const std::string cluster = "outbound|80||svc.default.svc.cluster.local";
  world.put("i", service("svc") + ingress("a", "h", path("/")));
  world.put("n", names("b.example, a.example"));
  EXPECT_EQ(world.control.dns_names(), (std::vector<std::string>{"a.example", "b.example"}));
  world.put("s", slice("x", "svc", "1.2.3.4"));
  EXPECT_EQ(world.endpoints(cluster), "1.2.3.4:8080") << "addresses are used at once";
  world.control.set_resolved("a.example", {*net::Address::parse_ip("9.9.9.9", 0)});
  EXPECT_EQ(world.endpoints(cluster), "1.2.3.4:8080 9.9.9.9:8443");
  world.put("n", names("b.example"));
  EXPECT_EQ(world.control.dns_names(), (std::vector<std::string>{"b.example"}));
  EXPECT_EQ(world.endpoints(cluster), "1.2.3.4:8080");
  world.remove("n");
  EXPECT_EQ(world.control.dns_names(), (std::vector<std::string>{}));
}

}  // namespace
}  // namespace sluice::compile
