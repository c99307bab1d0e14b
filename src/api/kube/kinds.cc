#include "api/kube/kinds.h"

namespace sluice::api::kube {
namespace {

// Shapes: "s" a string, "i" a whole number, "b" a boolean, "n" a number or a string, "*" anything, [X] a list of X,
// {"": X} a map to X.
constexpr std::string_view kIngress = R"({
  "spec": {
    "ingressClassName": "s",
    "defaultBackend": {"service": {"name": "s", "port": {"name": "s", "number": "i"}},
                       "resource": {"apiGroup": "s", "kind": "s", "name": "s"}},
    "tls": [{"hosts": ["s"], "secretName": "s"}],
    "rules": [{"host": "s", "http": {"paths": [{"path": "s", "pathType": "s", "backend": {
      "service": {"name": "s", "port": {"name": "s", "number": "i"}},
      "resource": {"apiGroup": "s", "kind": "s", "name": "s"}}}]}}]},
  "status": {"loadBalancer": {"ingress": [{"ip": "s", "hostname": "s", "ports": [
    {"port": "i", "protocol": "s", "error": "s"}]}]}}
})";

constexpr std::string_view kIngressClass = R"({
  "spec": {"controller": "s",
           "parameters": {"apiGroup": "s", "kind": "s", "name": "s", "namespace": "s", "scope": "s"}}
})";

constexpr std::string_view kService = R"({
  "spec": {
    "type": "s", "clusterIP": "s", "clusterIPs": ["s"], "externalIPs": ["s"], "externalName": "s",
    "externalTrafficPolicy": "s", "internalTrafficPolicy": "s", "trafficDistribution": "s", "healthCheckNodePort": "i",
    "ipFamilies": ["s"], "ipFamilyPolicy": "s", "loadBalancerClass": "s", "loadBalancerIP": "s",
    "loadBalancerSourceRanges": ["s"], "allocateLoadBalancerNodePorts": "b", "publishNotReadyAddresses": "b",
    "sessionAffinity": "s", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": "i"}}, "selector": {"": "s"},
    "ports": [{"name": "s", "protocol": "s", "appProtocol": "s", "port": "i", "targetPort": "n", "nodePort": "i"}]},
  "status": {"loadBalancer": {"ingress": [{"ip": "s", "ipMode": "s", "hostname": "s", "ports": [
    {"port": "i", "protocol": "s", "error": "s"}]}]}, "conditions": ["*"]}
})";

constexpr std::string_view kEndpoints = R"({
  "subsets": [{
    "addresses": [{"ip": "s", "hostname": "s", "nodeName": "s", "targetRef": "*"}],
    "notReadyAddresses": [{"ip": "s", "hostname": "s", "nodeName": "s", "targetRef": "*"}],
    "ports": [{"name": "s", "port": "i", "protocol": "s", "appProtocol": "s"}]}]
})";

constexpr std::string_view kEndpointSlice = R"({
  "addressType": "s",
  "ports": [{"name": "s", "port": "i", "protocol": "s", "appProtocol": "s"}],
  "endpoints": [{"addresses": ["s"], "conditions": {"ready": "b", "serving": "b", "terminating": "b"}, "hostname": "s",
                 "nodeName": "s", "zone": "s", "targetRef": "*", "deprecatedTopology": {"": "s"},
                 "hints": {"forZones": [{"name": "s"}], "forNodes": [{"name": "s"}]}}]
})";

constexpr std::string_view kSecret = R"({"type": "s", "immutable": "b", "data": {"": "s"}, "stringData": {"": "s"}})";
constexpr std::string_view kConfigMap = R"({"immutable": "b", "data": {"": "s"}, "binaryData": {"": "s"}})";
constexpr std::string_view kNamespace = R"({"spec": {"finalizers": ["s"]}, "status": "*"})";
constexpr std::string_view kFree = R"({"spec": "*", "status": "*"})";

constexpr std::string_view kNotRead = "kept, but not read by this gateway";

}  // namespace

std::string KindInfo::api_version() const {
  return group.empty() ? std::string(version) : std::string(group) + "/" + std::string(version);
}

std::span<const KindInfo> kinds() {
  static const std::vector<KindInfo> kinds = {
      {"ConfigMap", "", "v1", "configmaps", "configmap", {"cm"}, true, false, false, true, {}, kConfigMap},
      {"Endpoints", "", "v1", "endpoints", "endpoints", {"ep"}, true, false, false, true, {}, kEndpoints},
      {"Namespace", "", "v1", "namespaces", "namespace", {"ns"}, false, false, false, false, {}, kNamespace},
      {"Secret", "", "v1", "secrets", "secret", {}, true, false, false, true, {}, kSecret},
      {"Service", "", "v1", "services", "service", {"svc"}, true, true, false, true, {}, kService},
      {"Ingress", "networking.k8s.io", "v1", "ingresses", "ingress", {"ing"}, true, false, false, true, {}, kIngress},
      {"IngressClass",
       "networking.k8s.io",
       "v1",
       "ingressclasses",
       "ingressclass",
       {},
       false,
       false,
       false,
       true,
       {},
       kIngressClass},
      {"EndpointSlice",
       "discovery.k8s.io",
       "v1",
       "endpointslices",
       "endpointslice",
       {},
       true,
       false,
       false,
       true,
       {},
       kEndpointSlice},
      {"McpBridge", "networking.higress.io", "v1", "mcpbridges", "mcpbridge", {}, true, false, true, true, {}, kFree},
      {"Http2Rpc",
       "networking.higress.io",
       "v1",
       "http2rpcs",
       "http2rpc",
       {},
       true,
       false,
       true,
       false,
       kNotRead,
       kFree},
      {"WasmPlugin",
       "extensions.higress.io",
       "v1alpha1",
       "wasmplugins",
       "wasmplugin",
       {},
       true,
       false,
       true,
       false,
       kNotRead,
       kFree},
  };
  return kinds;
}

const KindInfo* find_kind(std::string_view group, std::string_view version, std::string_view plural) {
  for (const KindInfo& info : kinds()) {
    if (info.plural == plural && info.group == group && info.version == version) return &info;
  }
  return nullptr;
}

const KindInfo* kind_of(std::string_view api_version, std::string_view kind) {
  const size_t slash = api_version.find('/');
  const std::string_view group = slash == api_version.npos ? std::string_view() : api_version.substr(0, slash);
  for (const KindInfo& info : kinds()) {
    if (info.kind != kind) continue;
    if (info.group == group || (kind == "Ingress" && group == "extensions")) return &info;
  }
  return nullptr;
}

std::span<const GroupVersion> groups() {
  static constexpr GroupVersion kGroups[] = {{"networking.k8s.io", "v1"},
                                             {"discovery.k8s.io", "v1"},
                                             {"networking.higress.io", "v1"},
                                             {"extensions.higress.io", "v1alpha1"}};
  return kGroups;
}

}  // namespace sluice::api::kube
