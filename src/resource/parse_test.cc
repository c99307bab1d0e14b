#include "resource/parse.h"

#include <gtest/gtest.h>

#include "resource/reader.h"

namespace sluice::resource {
namespace {

ParsedFile parse(std::string_view text) {
  return parse_manifests(text, std::make_shared<const std::string>("conf/a.yaml"));
}

std::string messages(std::string_view text) {
  std::string out;
  for (const Diagnostic& d : parse(text).diagnostics) out += d.render() + "\n";
  return out;
}

const char kIngressHead[] = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: foo}\n";

template <typename T>
const T& only(const ParsedFile& file) {
  EXPECT_EQ(file.objects.size(), 1u);
  EXPECT_TRUE(file.objects.at(0).object) << (file.diagnostics.empty() ? "" : file.diagnostics[0].render());
  return static_cast<const T&>(*file.objects.at(0).object);
}

TEST(Parse, Ingress) {
  auto file = parse(R"(
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: foo
  namespace: bar
  creationTimestamp: "2024-01-31T12:00:00Z"
  labels: {b: x, a: y}
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: "{}"
    higress.io/timeout: "5"
spec:
  ingressClassName: higress
  defaultBackend:
    resource: {apiGroup: networking.higress.io, kind: McpBridge, name: default}
  tls:
  - hosts: [Foo.com]
    secretName: cert
  rules:
  - host: FOO.com
    http:
      paths:
      - path: /a
        pathType: Exact
        backend: {service: {name: svc, port: {number: 80}}}
      - backend: {service: {name: svc, port: {name: http}}}
  - http: {paths: [{path: /, pathType: ImplementationSpecific, backend: {resource: {kind: K, name: n}}}]}
)");
  EXPECT_TRUE(file.diagnostics.empty()) << file.diagnostics[0].render();
  const auto& ingress = only<Ingress>(file);
  EXPECT_EQ(ingress.meta.ns, "bar");
  EXPECT_EQ(ingress.meta.created, 1706702400);
  EXPECT_TRUE(ingress.meta.labels.empty()) << "nothing reads them";
  EXPECT_EQ(ingress.meta.annotations.size(), 1u) << "others' annotations are not kept";
  EXPECT_EQ(find(ingress.meta.annotations, "higress.io/timeout")->value, "5");
  EXPECT_EQ(find(ingress.meta.annotations, "higress.io/timeout")->mark.line, 11u);
  EXPECT_EQ(ingress.class_name, "higress");
  EXPECT_EQ(ingress.default_backend.resource_kind, "McpBridge");
  ASSERT_EQ(ingress.rules.size(), 2u);
  EXPECT_EQ(ingress.rules[0].host, "foo.com");
  EXPECT_EQ(ingress.rules[0].paths[0].type, PathType::kExact);
  EXPECT_EQ(ingress.rules[0].paths[0].backend.port.number, 80);
  EXPECT_EQ(ingress.rules[0].paths[1].type, PathType::kUnset);
  EXPECT_EQ(ingress.rules[0].paths[1].backend.port.name, "http");
  EXPECT_EQ(ingress.tls[0].hosts[0], "foo.com");
  EXPECT_EQ(ingress.rules[1].paths[0].backend.type, IngressBackend::Type::kResource);
}

TEST(Parse, OldIngress) {
  auto file = parse(
      "apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: foo}\nspec:\n  backend: "
      "{serviceName: d, servicePort: 1}\n"
      "  rules:\n  - http: {paths: [{path: /a, backend: {serviceName: s, servicePort: web}}]}\n");
  const auto& ingress = only<Ingress>(file);
  EXPECT_EQ(ingress.meta.ns, "default");
  EXPECT_EQ(ingress.default_backend.port.number, 1);
  EXPECT_EQ(ingress.rules[0].paths[0].backend.port.name, "web");
}

TEST(Parse, IngressErrors) {
  struct Case {
    const char* spec;
    const char* want;
  } cases[] = {
      {"", "conf/a.yaml:1:1: Ingress default/foo: spec: is missing"},
      {"spec: {}",
       "conf/a.yaml:4:7: Ingress default/foo: spec: needs rules or a defaultBackend: without them "
       "it has no effect"},
      {"spec: x", "conf/a.yaml:4:7: Ingress default/foo: spec: expected a mapping, found a string (\"x\")"},
      {"spec: {rules: {}}", "conf/a.yaml:4:15: Ingress default/foo: spec.rules: expected a list, found a mapping"},
      {"spec: {rules: [{host: 'a b', http: {paths: []}}]}",
       "conf/a.yaml:4:23: Ingress default/foo: spec.rules[0].host: \"a b\" is not a host name: "
       "letters, digits, '-' and '.', "
       "the first label may be '*'"},
      {"spec: {rules: [{host: a.*.b, http: {paths: []}}]}",
       "conf/a.yaml:4:23: Ingress default/foo: spec.rules[0].host: \"a.*.b\" is not a host name: "
       "letters, digits, '-' and "
       "'.', the first label may be '*'"},
      {"spec: {rules: [{http: {}}]}",
       "conf/a.yaml:4:23: Ingress default/foo: spec.rules[0].http.paths: is missing: a rule needs "
       "at least one path"},
      {"spec: {rules: [{http: {paths: [{path: /a, pathType: Prefx, backend: {service: {name: s, "
       "port: {number: 1}}}}]}}]}",
       "conf/a.yaml:4:53: Ingress default/foo: spec.rules[0].http.paths[0].pathType: \"Prefx\" is "
       "not one of Exact, Prefix, "
       "ImplementationSpecific"},
      {"spec: {rules: [{http: {paths: [{path: a, backend: {service: {name: s, port: {number: "
       "1}}}}]}}]}",
       "conf/a.yaml:4:39: Ingress default/foo: spec.rules[0].http.paths[0].path: \"a\" must begin "
       "with '/'"},
      {"spec: {rules: [{http: {paths: [{path: \"/a\\u0001\", backend: {service: {name: s, port: "
       "{number: 1}}}}]}}]}",
       "conf/a.yaml:4:39: Ingress default/foo: spec.rules[0].http.paths[0].path: \"/a\\x01\" has a "
       "control character"},
      {"spec: {rules: [{http: {paths: [{path: /a}]}}]}",
       "conf/a.yaml:4:32: Ingress default/foo: spec.rules[0].http.paths[0].backend: is missing"},
      {"spec: {defaultBackend: {}}",
       "conf/a.yaml:4:24: Ingress default/foo: spec.defaultBackend: needs a service or a resource"},
      {"spec: {defaultBackend: {service: {name: s, port: {number: 1}}, resource: {kind: k, name: "
       "n}}}",
       "conf/a.yaml:4:24: Ingress default/foo: spec.defaultBackend: has both service and resource; "
       "only one of them can be given"},
      {"spec: {defaultBackend: {service: {name: S_, port: {number: 1}}}}",
       "conf/a.yaml:4:41: Ingress default/foo: spec.defaultBackend.service.name: \"S_\" is not a "
       "service name: lower-case "
       "letters, digits and '-'"},
      {"spec: {defaultBackend: {service: {name: s}}}",
       "conf/a.yaml:4:34: Ingress default/foo: spec.defaultBackend.service.port: is missing: give "
       "port.number or port.name"},
      {"spec: {defaultBackend: {service: {name: s, port: {number: 1, name: a}}}}",
       "conf/a.yaml:4:50: Ingress default/foo: spec.defaultBackend.service.port: has both number "
       "and name; only one of them "
       "can be given"},
      {"spec: {defaultBackend: {service: {name: s, port: {number: 65536}}}}",
       "conf/a.yaml:4:59: Ingress default/foo: spec.defaultBackend.service.port.number: 65536 is "
       "not within 1 to 65535"},
      {"spec: {defaultBackend: {service: {name: s, port: {number: eighty}}}}",
       "conf/a.yaml:4:59: Ingress default/foo: spec.defaultBackend.service.port.number: expected a "
       "whole number, found a "
       "string (\"eighty\")"},
      {"spec: {defaultBackend: {service: {name: 5, port: {number: 80}}}}",
       "conf/a.yaml:4:41: Ingress default/foo: spec.defaultBackend.service.name: must be a string: "
       "write \"5\" in quotes"},
      {"spec: {defaultBackend: {resource: {name: n}}}",
       "conf/a.yaml:4:35: Ingress default/foo: spec.defaultBackend.resource.kind: is missing"},
      {"spec: {defaultBackend: {serviceName: s}}",
       "conf/a.yaml:4:24: Ingress default/foo: spec.defaultBackend.servicePort: is missing"},
  };
  for (const Case& c : cases) {
    std::string got = messages(std::string(kIngressHead) + c.spec);
    EXPECT_EQ(got.substr(0, got.find('\n')), c.want) << c.spec;
    EXPECT_FALSE(parse(std::string(kIngressHead) + c.spec).objects.at(0).object) << c.spec;
  }
}

TEST(Parse, Warnings) {
  struct Case {
    const char* spec;
    const char* want;
  } cases[] = {
      {"spec: {defaultBackend: {service: {name: s, port: {number: 1}}}, ingresClassName: x}",
       "conf/a.yaml:4:82: warning: Ingress default/foo: spec.ingresClassName: unknown field\n"},
      {"spec: {rules: [{http: {paths: [{path: /a, pathtype: Exact, backend: {service: {name: s, "
       "port: {number: 1}}}}]}}]}",
       "conf/a.yaml:4:53: warning: Ingress default/foo: spec.rules[0].http.paths[0].pathtype: "
       "unknown field; did you mean "
       "pathType?\n"},
      {"spec: {rules: [{http: {paths: [{path: /a/../b, backend: {service: {name: s, port: {number: "
       "1}}}}]}}]}",
       "conf/a.yaml:4:39: warning: Ingress default/foo: spec.rules[0].http.paths[0].path: "
       "\"/a/../b\" can never match: '.' "
       "and '..' are resolved before matching\n"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(messages(std::string(kIngressHead) + c.spec), c.want);
    EXPECT_TRUE(parse(std::string(kIngressHead) + c.spec).objects.at(0).object);
  }
  EXPECT_EQ(messages("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, creationTimestamp: "
                     "soon}\ndata: {x: 5}"),
            "conf/a.yaml:3:40: warning: ConfigMap default/a: metadata.creationTimestamp: \"soon\" "
            "is not a time such as "
            "2024-01-31T12:00:00Z; the age is taken as unknown\n"
            "conf/a.yaml:4:11: warning: ConfigMap default/a: data.x: should be a string: write "
            "\"5\" in quotes\n");
}

TEST(Parse, Envelope) {
  struct Case {
    const char* text;
    const char* want;
    bool unidentified;
  } cases[] = {
      {"", "", false},
      {"---\n---\n", "", false},
      {"just text", "conf/a.yaml:1:1: expected an object with apiVersion and kind, found a string\n", true},
      {"[1]", "conf/a.yaml:1:1: expected an object with apiVersion and kind, found a list\n", true},
      {"a: 1", "conf/a.yaml:1:1: kind: is missing\nconf/a.yaml:1:1: apiVersion: is missing\n", true},
      {"{kind: Service, apiVersion: v1}", "conf/a.yaml:1:1: Service: metadata: is missing\n", true},
      {"{kind: Service, apiVersion: v1, metadata: {}}", "conf/a.yaml:1:43: Service: metadata.name: is missing\n", true},
      {"{kind: Service, apiVersion: v1, metadata: {name: A}}",
       "conf/a.yaml:1:50: Service: metadata.name: \"A\" is not a valid name: lower-case letters, "
       "digits, '-' and '.'\n",
       true},
      {"{kind: Service, apiVersion: v1, metadata: {name: a, namespace: b.c}}",
       "conf/a.yaml:1:64: Service: metadata.namespace: \"b.c\" is not a valid namespace: "
       "lower-case letters, digits and '-'\n",
       true},
      {"{kind: Unknown, apiVersion: v1, metadata: {name: a}}", "", false},
      {"{kind: Service, apiVersion: serving.knative.dev/v1, metadata: {name: a}}", "", false},
      {"a: [",
       "conf/a.yaml:2:1: syntax error: did not find expected node content while parsing a flow "
       "node\n",
       false},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(messages(c.text), c.want) << c.text;
    EXPECT_EQ(parse(c.text).has_unidentified, c.unidentified) << c.text;
  }
  EXPECT_FALSE(parse("a: [").readable);
  EXPECT_EQ(parse("{kind: X, apiVersion: a/v1}\n---\n{kind: X, apiVersion: a/v1}").unknown_kinds.size(), 1u);
}

TEST(Parse, Lists) {
  auto file = parse(R"(
kind: List
apiVersion: v1
items:
- {kind: ConfigMap, apiVersion: v1, metadata: {name: a}}
- {kind: ConfigMap, apiVersion: v1, metadata: {name: b}}
---
kind: ConfigMapList
apiVersion: v1
items: [{metadata: {name: c}}, {metadata: {}}]
---
kind: List
apiVersion: v1
items: x
)");
  ASSERT_EQ(file.objects.size(), 3u);
  EXPECT_EQ(file.objects[2].key.to_string(), "ConfigMap default/c");
  ASSERT_EQ(file.diagnostics.size(), 2u);
  EXPECT_EQ(file.diagnostics[0].render(), "conf/a.yaml:10:43: ConfigMap: items[1].metadata.name: is missing");
  EXPECT_EQ(file.diagnostics[1].render(), "conf/a.yaml:14:8: items: expected a list, found a string (\"x\")");
  Limits limits;
  limits.max_documents = 2;
  auto refused =
      parse_manifests("{kind: List, apiVersion: v1, items: [{}, {}, {}]}", std::make_shared<std::string>("f"), limits);
  EXPECT_FALSE(refused.readable);
  EXPECT_EQ(refused.diagnostics[0].render(), "f: more than 2 objects in one file");
}

TEST(Parse, Service) {
  auto file = parse(R"(
apiVersion: v1
kind: Service
metadata: {name: s}
spec:
  clusterIP: None
  selector: {app: x}
  ports:
  - {name: a, port: 80, targetPort: web, appProtocol: kubernetes.io/h2c}
  - {name: b, port: 81, targetPort: 8081, protocol: UDP}
)");
  const auto& service = only<Service>(file);
  EXPECT_EQ(service.cluster_ip, "None");
  EXPECT_EQ(service.ports[0].target.name, "web");
  EXPECT_EQ(service.ports[0].app_protocol, "kubernetes.io/h2c");
  EXPECT_EQ(service.ports[1].target.number, 8081);
  EXPECT_EQ(service.ports[1].protocol, "UDP");
  struct Case {
    const char* spec;
    const char* want;
  } cases[] = {
      {"", "conf/a.yaml:1:1: Service default/s: spec: is missing\n"},
      {"spec: {type: Foo}",
       "conf/a.yaml:4:14: Service default/s: spec.type: \"Foo\" is not one of ClusterIP, NodePort, "
       "LoadBalancer, ExternalName\n"},
      {"spec: {type: ExternalName}", "conf/a.yaml:4:7: Service default/s: spec.externalName: is missing\n"},
      {"spec: {type: ExternalName, externalName: 'a b'}",
       "conf/a.yaml:4:42: Service default/s: spec.externalName: \"a b\" is not a host name\n"},
      {"spec: {ports: [{}]}", "conf/a.yaml:4:16: Service default/s: spec.ports[0].port: is missing\n"},
      {"spec: {ports: [{port: 1, protocol: X}]}",
       "conf/a.yaml:4:36: Service default/s: spec.ports[0].protocol: \"X\" is not one of TCP, UDP, "
       "SCTP\n"},
      {"spec: {ports: [{port: 1}, {port: 2}]}",
       "conf/a.yaml:4:16: Service default/s: spec.ports[0].name: is missing: with several ports "
       "each needs a name\n"
       "conf/a.yaml:4:27: Service default/s: spec.ports[1].name: is missing: with several ports "
       "each needs a name\n"},
      {"spec: {ports: [{name: a, port: 1}, {name: a, port: 2}]}",
       "conf/a.yaml:4:43: Service default/s: spec.ports[1].name: \"a\" is the name of another port "
       "too\n"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(messages(std::string("apiVersion: v1\nkind: Service\nmetadata: {name: s}\n") + c.spec), c.want) << c.spec;
  }
}

TEST(Parse, EndpointSlice) {
  auto file = parse(R"(
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv6
ports: [{name: http, port: 80}]
endpoints:
- {addresses: ["fd00::1"], zone: z, conditions: {ready: true}}
- {addresses: ["fd00::2"], conditions: {ready: false}}
- {addresses: ["fd00::3"], conditions: {}}
)");
  const auto& slice = only<EndpointSlice>(file);
  EXPECT_EQ(slice.service, "s");
  EXPECT_TRUE(slice.endpoints[0].ready);
  EXPECT_FALSE(slice.endpoints[1].ready);
  EXPECT_TRUE(slice.endpoints[2].ready);
  EXPECT_EQ(slice.endpoints[0].zone, "z");
  const std::string head =
      "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels: "
      "{kubernetes.io/service-name: s}}\n";
  EXPECT_EQ(messages(head),
            "conf/a.yaml:1:1: EndpointSlice default/s: addressType: is missing: one of IPv4, IPv6, "
            "FQDN\n");
  EXPECT_EQ(messages(head + "addressType: IPv4\nendpoints: [{addresses: ['::1']}, {addresses: []}]"),
            "conf/a.yaml:5:26: EndpointSlice default/s: endpoints[0].addresses[0]: \"::1\" is not an "
            "IPv4 address\n"
            "conf/a.yaml:5:47: EndpointSlice default/s: endpoints[1].addresses: needs at least one "
            "address\n");
  EXPECT_EQ(messages("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: "
                     "s}\naddressType: IPv4\n"),
            "conf/a.yaml:3:11: warning: EndpointSlice default/s: metadata.labels: has no "
            "kubernetes.io/service-name: these "
            "endpoints belong to no Service\n");
}

TEST(Parse, Endpoints) {
  auto file = parse(
      "{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: [{ip: "
      "1.2.3.4}], notReadyAddresses: "
      "[{ip: 1.2.3.5}], ports: [{port: 80}]}]}");
  EXPECT_EQ(only<Endpoints>(file).subsets[0].addresses, std::vector<std::string>{"1.2.3.4"});
  EXPECT_EQ(messages("{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{addresses: "
                     "[{ip: x}]}]}"),
            "conf/a.yaml:1:84: Endpoints default/s: subsets[0].addresses[0].ip: \"x\" is not an IP "
            "address\n");
}

TEST(Parse, Secret) {
  auto file = parse(
      "{apiVersion: v1, kind: Secret, metadata: {name: s}, type: kubernetes.io/tls, data: "
      "{tls.crt: \"aGVs\\nbG8=\", "
      "tls.key: YQ==}, stringData: {tls.key: other, ca.crt: x}}");
  const auto& secret = only<Secret>(file);
  EXPECT_EQ(secret.certificate()->expose(), "hello");
  EXPECT_EQ(secret.private_key()->expose(), "other");
  EXPECT_EQ(secret.ca()->expose(), "x");
  // Nothing of a value is ever in a message.
  for (const char* bad : {"U0VDUkVU!", "U0VDUkVUX", "U0VDUkVU=", "U0VD=UkVU", "[U0VDUkVU]"}) {
    std::string text =
        messages(std::string("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {k.x: ") + bad + "}}");
    EXPECT_NE(text.find("Secret default/s: data[k.x]: "), std::string::npos) << text;
    EXPECT_EQ(text.find("U0VD"), std::string::npos) << text;
  }
  EXPECT_EQ(messages("{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {k: '***'}}"),
            "conf/a.yaml:1:63: Secret default/s: data.k: is not valid base64 (plain text belongs "
            "into stringData)\n");
}

TEST(Parse, McpBridge) {
  const std::string head =
      "apiVersion: networking.higress.io/v1\nkind: McpBridge\nmetadata: {name: default, namespace: "
      "higress-system}\nspec:\n  registries:\n";
  auto file = parse(head + R"(  - {type: static, name: a, domain: "1.2.3.4:80,[::1]:81", port: 80}
  - {type: dns, name: b, domain: "x.org, y.org", port: 443, protocol: HTTPS, sni: Z.org}
  - {type: dns, name: c, domain: "x.org", port: 443, protocol: triple}
)");
  const auto& bridge = only<McpBridge>(file);
  ASSERT_EQ(bridge.registries.size(), 3u);
  EXPECT_EQ(bridge.registries[0].host(), "a.static");
  EXPECT_EQ(bridge.registries[0].addresses[1], (std::pair<std::string, uint16_t>("::1", 81)));
  EXPECT_EQ(bridge.registries[1].host(), "b.dns");
  EXPECT_EQ(bridge.registries[1].domains, (std::vector<std::string>{"x.org", "y.org"}));
  EXPECT_EQ(bridge.registries[1].sni, "z.org");
  EXPECT_EQ(bridge.registries[2].protocol, "grpc");
  EXPECT_EQ(bridge.registries[2].sni, "x.org");

  struct Case {
    const char* item;
    const char* want;
  } cases[] = {
      {"{type: nacos2, name: n, domain: h, port: 1}", "registries[0].type: not supported yet: type nacos2"},
      {"{type: foo, name: n}",
       "registries[0].type: \"foo\" is not one of nacos, nacos2, nacos3, zookeeper, consul, "
       "eureka, static, dns"},
      {"{name: n}", "registries[0].type: is missing"},
      {"{type: dns}", "registries[0].name: is missing"},
      {"{type: dns, name: n_, domain: a.bc, port: 1}",
       "registries[0].name: \"n_\" is not a service name: letters, digits, '-' and '.'"},
      {"{type: dns, name: n, domain: a.bc}", "registries[0].port: is missing"},
      {"{type: dns, name: n, port: 1}", "registries[0].domain: is missing"},
      {"{type: dns, name: n, domain: 'a.bc:80', port: 1}",
       "registries[0].domain: \"a.bc:80\" is not a domain name: for type dns give names without a "
       "port, separated by commas"},
      {"{type: dns, name: n, domain: '1.2.3.4', port: 1}",
       "registries[0].domain: \"1.2.3.4\" is not a domain name: for type dns give names without a "
       "port, separated by commas"},
      {"{type: static, name: n, domain: '1.2.3.4', port: 1}",
       "registries[0].domain: \"1.2.3.4\" is not an address: for type static give ip:port, "
       "separated by commas"},
      {"{type: static, name: n, domain: '::1:80', port: 1}",
       "registries[0].domain: \"::1:80\" is not an address: for type static give ip:port, "
       "separated by commas"},
      {"{type: dns, name: n, domain: a.bc, port: 1, protocol: ftp}",
       "registries[0].protocol: \"ftp\" is not one of http, https, http2, grpc, grpcs, tri, "
       "triple, tcp, dubbo"},
      {"{type: dns, name: n, domain: a.bc, port: 1, proxyName: p}",
       "registries[0].proxyName: not supported yet: proxies"},
  };
  for (const Case& c : cases) {
    // The entry is refused alone.
    auto refused = parse(head + "  - " + c.item + "\n  - {type: static, name: ok, domain: '1.1.1.1:1', port: 1}\n");
    ASSERT_FALSE(refused.diagnostics.empty()) << c.item;
    EXPECT_NE(refused.diagnostics[0].render().find(c.want), std::string::npos) << refused.diagnostics[0].render();
    EXPECT_EQ(only<McpBridge>(refused).registries.size(), 1u);
  }
  auto twice = parse(head +
                     "  - {type: dns, name: n, domain: a.bc, port: 1}\n  - {type: dns, name: n, "
                     "domain: d.ef, port: 1}\n");
  EXPECT_EQ(only<McpBridge>(twice).registries[0].domains[0], "d.ef");
  EXPECT_NE(twice.diagnostics[0].render().find("\"n\" of this type is here twice; the last one counts"),
            std::string::npos);
}

TEST(Parse, Times) {
  auto created = [](const char* time) {
    auto file =
        parse(std::string("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, creationTimestamp: '") + time + "'}}");
    return file.objects.at(0).object->meta.created;
  };
  EXPECT_EQ(created("2024-01-31T12:00:00Z"), 1706702400);
  EXPECT_EQ(created("2024-01-31T12:00:00.123Z"), 1706702400);
  EXPECT_EQ(created("2024-01-31T14:00:00+02:00"), 1706702400);
  EXPECT_EQ(created("2024-01-31"), 0);
}

TEST(Parse, FingerprintTellsChanges) {
  auto print = [](const char* text) { return parse(text).objects.at(0).object->meta.fingerprint; };
  EXPECT_EQ(print("{kind: ConfigMap, apiVersion: v1, metadata: {name: a}}"),
            print("{kind: ConfigMap, apiVersion: v1, metadata: {name: a}}"));
  EXPECT_NE(print("{kind: ConfigMap, apiVersion: v1, metadata: {name: a}, data: {x: y}}"),
            print("{kind: ConfigMap, apiVersion: v1, metadata: {name: a}, data: {y: x}}"));
}

TEST(Names, Hosts) {
  for (const char* good : {"a", "a.b", "*.a.b", "*", "1.2.3.4", "::1", "xn--a.b-c"})
    EXPECT_TRUE(is_rule_host(good)) << good;
  for (const char* bad : {"", "a..b", ".a", "a.", "-a", "a-", "*a.b", "a.*", "a_b", "A", "*.*.a"})
    EXPECT_FALSE(is_rule_host(bad)) << bad;
  EXPECT_FALSE(is_dns_name(std::string(64, 'a')));
  EXPECT_EQ(in_quotes(std::string(100, 'x')), "\"" + std::string(80, 'x') + "…\"");
}

TEST(Parse, WasmPlugin) {
  ParsedFile file = parse(R"(
apiVersion: extensions.higress.io/v1alpha1
kind: WasmPlugin
metadata:
  name: key-auth-1.0.0
  namespace: higress-system
  labels: {higress.io/wasm-plugin-name: key-auth}
spec:
  url: oci://example.invalid/plugins/key-auth:1.0.0
  phase: AUTHN
  priority: 310
  failStrategy: FAIL_OPEN
  defaultConfigDisable: true
  defaultConfig: {global_auth: false}
  matchRules:
  - ingress: [default/foo]
    domain: ["*.a.com"]
    routeType: GRPC
    config: {keys: [apikey], consumers: [{name: a, credential: b}]}
)");
  ASSERT_EQ(file.diagnostics, Diagnostics());
  const auto& plugin = *as<WasmPlugin>(file.objects.at(0).object);
  EXPECT_EQ(plugin.name, "key-auth");
  EXPECT_EQ(plugin.phase, WasmPlugin::Phase::kAuthn);
  EXPECT_EQ(plugin.priority, 310);
  EXPECT_TRUE(plugin.fail_open && plugin.default_disabled);
  EXPECT_EQ(plugin.default_config.expose(), R"({"global_auth":false})");
  ASSERT_EQ(plugin.rules.size(), 1u);
  EXPECT_EQ(plugin.rules[0].ingresses, std::vector<std::string>{"default/foo"});
  EXPECT_TRUE(plugin.rules[0].grpc);
  EXPECT_EQ(plugin.rules[0].config.expose(), R"({"keys":["apikey"],"consumers":[{"name":"a","credential":"b"}]})");
}

TEST(Parse, WasmPluginErrors) {
  const std::string head = "apiVersion: extensions.higress.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: p}\nspec: ";
  const std::pair<std::string, std::string> cases[] = {
      {"{}", "spec.url"},
      {"{url: a, phase: LATER}", "UNSPECIFIED_PHASE, AUTHN, AUTHZ, STATS"},
      {"{url: a, priority: high}", "spec.priority"},
      {"{url: a, matchRules: [{config: {a: 1}}]}", "needs at least one of ingress, domain and service"},
      {"{url: a, defaultConfig: [1]}", "spec.defaultConfig"},
  };
  for (const auto& [spec, message] : cases) {
    ParsedFile file = parse(head + spec);
    ASSERT_EQ(file.diagnostics.size(), 1u) << spec;
    EXPECT_NE(file.diagnostics[0].render().find(message), std::string::npos) << file.diagnostics[0].render();
    EXPECT_FALSE(file.objects.at(0).object);
  }
}

TEST(Parse, Http2Rpc) {
  ParsedFile file = parse(R"(
apiVersion: networking.higress.io/v1
kind: Http2Rpc
metadata: {name: orders, namespace: higress-system}
spec:
  dubbo:
    service: com.example.Orders
    version: 1.0.0
    methods:
    - serviceMethod: find
      httpPath: /orders/{id}
      httpMethods: [GET]
      params: [{paramSource: PATH, paramKey: id, paramType: long}]
    - {serviceMethod: add, httpPath: /orders, httpMethods: [POST], headersAttach: "*", paramFromEntireBody: {paramType: com.example.Order}}
)");
  ASSERT_EQ(file.diagnostics, Diagnostics());
  const auto& rpc = *as<Http2Rpc>(file.objects.at(0).object);
  ASSERT_EQ(rpc.methods.size(), 2u);
  EXPECT_EQ(rpc.methods[0].parameters.at(0).source, Http2Rpc::Source::kPath);
  EXPECT_EQ(rpc.methods[1].entire_body_type, "com.example.Order");
  const std::string head = "apiVersion: networking.higress.io/v1\nkind: Http2Rpc\nmetadata: {name: p}\nspec: ";
  for (const auto& [spec, message] :
       {std::pair<std::string, std::string>{"{grpc: {}}", "grpc is not supported"},
        {"{dubbo: {service: a, version: b, methods: []}}", "at least one method"},
        {"{dubbo: {service: a, version: b, methods: [{serviceMethod: m, httpPath: x, httpMethods: [GET]}]}}",
         "must begin with '/'"}}) {
    ParsedFile bad = parse(head + spec);
    ASSERT_EQ(bad.diagnostics.size(), 1u) << spec;
    EXPECT_NE(bad.diagnostics[0].render().find(message), std::string::npos) << bad.diagnostics[0].render();
  }
}

}  // namespace
}  // namespace sluice::resource
