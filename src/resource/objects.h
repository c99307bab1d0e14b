#pragma once
// The typed API objects the gateway reads, reduced to the fields it uses. All are immutable once
// parsed and shared by pointer. Every one of them passed the validation of resource/parse.h.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "resource/node.h"
#include "resource/secret_bytes.h"

namespace sluice::resource {

enum class Kind : uint8_t {
  kIngress,
  kIngressClass,
  kService,
  kEndpoints,
  kEndpointSlice,
  kSecret,
  kConfigMap,
  kMcpBridge,
  kWasmPlugin,
  kHttp2Rpc,
};
inline constexpr size_t kKindCount = 10;
const char* name_of(Kind kind);

// Identity of an object. `ns` is empty for kinds without a namespace.
struct ObjectKey {
  Kind kind = Kind::kIngress;
  std::string ns;
  std::string name;

  bool operator==(const ObjectKey&) const = default;
  auto operator<=>(const ObjectKey&) const = default;
  // "Ingress ns/name", as in messages.
  std::string to_string() const;
};

struct ObjectKeyHash {
  size_t operator()(const ObjectKey& key) const {
    size_t hash = std::hash<std::string>()(key.name);
    hash = hash * 31 + std::hash<std::string>()(key.ns);
    return hash * 31 + static_cast<size_t>(key.kind);
  }
};

// A key-value pair of metadata, sorted by key in its list.
struct Pair {
  std::string key;
  std::string value;
  Mark mark;  // of the value
};
using Pairs = std::vector<Pair>;
// The value of a key in a sorted list, or nullptr.
const Pair* find(const Pairs& pairs, std::string_view key);

struct Meta {
  std::string ns;
  std::string name;
  Pairs annotations;    // of an Ingress: those with a prefix that the gateway reads
  Pairs labels;         // of an EndpointSlice or a WasmPlugin
  int64_t created = 0;  // Unix seconds; 0: unknown (files usually don't say)
  std::shared_ptr<const std::string> file;
  Mark mark;                 // where the object begins
  uint64_t fingerprint = 0;  // hash of the content and of the lines it stands on; equal means unchanged
};

struct Object {
  explicit Object(Kind k) : kind(k) {}
  virtual ~Object() = default;
  ObjectKey key() const { return {kind, meta.ns, meta.name}; }

  const Kind kind;
  Meta meta;
};
using ObjectPtr = std::shared_ptr<const Object>;

// --- networking.k8s.io/v1 Ingress, IngressClass (v1beta1 is read into the same) ---

// A port by number or by name; number 0 and an empty name: none given.
struct PortRef {
  uint16_t number = 0;
  std::string name;
};

struct IngressBackend {
  enum class Type : uint8_t { kNone, kService, kResource } type = Type::kNone;
  std::string service;
  PortRef port;
  std::string resource_group, resource_kind, resource_name;
  Mark mark;
};

enum class PathType : uint8_t { kUnset, kExact, kPrefix, kImplementationSpecific };

struct IngressPath {
  std::string path;
  PathType type = PathType::kUnset;
  IngressBackend backend;
  Mark mark;
};

struct IngressRule {
  std::string host;  // lower case; empty: any
  std::vector<IngressPath> paths;
  Mark mark;
};

struct IngressTls {
  std::vector<std::string> hosts;  // lower case
  std::string secret;
  Mark mark;
};

struct Ingress : Object {
  static constexpr Kind kKind = Kind::kIngress;
  Ingress() : Object(kKind) {}
  std::optional<std::string> class_name;
  IngressBackend default_backend;
  std::vector<IngressRule> rules;
  std::vector<IngressTls> tls;
};

struct IngressClass : Object {
  static constexpr Kind kKind = Kind::kIngressClass;
  IngressClass() : Object(kKind) {}
  std::string controller;
};

// --- v1 Service, Endpoints; discovery.k8s.io/v1 EndpointSlice ---

struct ServicePort {
  std::string name;
  uint16_t port = 0;
  PortRef target;  // none given: the port itself
  std::string protocol = "TCP";
  std::string app_protocol;
};

struct Service : Object {
  static constexpr Kind kKind = Kind::kService;
  Service() : Object(kKind) {}
  enum class Type : uint8_t { kClusterIp, kNodePort, kLoadBalancer, kExternalName } type = Type::kClusterIp;
  std::string external_name;
  std::string cluster_ip;  // "None": headless
  std::vector<ServicePort> ports;
  Pairs selector;
};

struct SliceEndpoint {
  std::vector<std::string> addresses;
  bool ready = true;
  std::string zone;
};

struct SlicePort {
  std::string name;
  uint16_t port = 0;  // 0: all ports
  std::string protocol = "TCP";
  std::string app_protocol;
};

struct EndpointSlice : Object {
  static constexpr Kind kKind = Kind::kEndpointSlice;
  EndpointSlice() : Object(kKind) {}
  enum class AddressType : uint8_t { kIPv4, kIPv6, kFqdn } address_type = AddressType::kIPv4;
  std::string service;  // label kubernetes.io/service-name; empty: belongs to no Service
  std::vector<SliceEndpoint> endpoints;
  std::vector<SlicePort> ports;
};

// The addresses of one subset share its ports. Only ready addresses are kept.
struct EndpointsSubset {
  std::vector<std::string> addresses;
  std::vector<SlicePort> ports;
};

struct Endpoints : Object {
  static constexpr Kind kKind = Kind::kEndpoints;
  Endpoints() : Object(kKind) {}
  std::vector<EndpointsSubset> subsets;
};

// --- v1 Secret, ConfigMap ---

struct Secret : Object {
  static constexpr Kind kKind = Kind::kSecret;
  Secret() : Object(kKind) {}
  std::string type;
  std::vector<std::pair<std::string, SecretBytes>> data;  // decoded, sorted by key

  const SecretBytes* find(std::string_view key) const;
  // tls.crt or cert; tls.key or key; ca.crt or cacert. Null if absent or empty.
  const SecretBytes* certificate() const;
  const SecretBytes* private_key() const;
  const SecretBytes* ca() const;
};

struct ConfigMap : Object {
  static constexpr Kind kKind = Kind::kConfigMap;
  ConfigMap() : Object(kKind) {}
  Pairs data;
};

// --- networking.higress.io/v1 McpBridge ---

struct Registry {
  enum class Type : uint8_t { kStatic, kDns } type = Type::kStatic;
  std::string name;
  uint16_t port = 0;
  std::string protocol = "http";  // http https http2 grpc grpcs tcp dubbo
  std::string sni;
  std::string proxy_name;
  std::vector<std::pair<std::string, uint16_t>> addresses;  // static: IP and port
  std::vector<std::string> domains;                         // dns: lower case
  Mark mark;

  // "<name>.static" or "<name>.dns".
  std::string host() const;
};

// A registry that is refused (unsupported type, bad entry) is not among them; the object lives on
// without it. Where such an entry could be told by type and name, its host is in `refused`, so that
// its last good version can stay in use.
struct McpBridge : Object {
  static constexpr Kind kKind = Kind::kMcpBridge;
  McpBridge() : Object(kKind) {}
  std::vector<Registry> registries;
  std::vector<std::string> refused;
};

// --- extensions.higress.io/v1alpha1 WasmPlugin ---

// Configurations are kept as JSON; they may hold credentials.
struct WasmPlugin : Object {
  static constexpr Kind kKind = Kind::kWasmPlugin;
  enum class Phase : uint8_t { kUnspecified, kAuthn, kAuthz, kStats };
  struct MatchRule {
    std::vector<std::string> ingresses, domains, services;
    bool grpc = false;  // routeType
    bool disabled = false;
    SecretBytes config;
  };

  WasmPlugin() : Object(kKind) {}
  std::string url;
  std::string name;  // label higress.io/wasm-plugin-name; empty: none
  Phase phase = Phase::kUnspecified;
  int64_t priority = 0;
  bool fail_open = false;
  bool default_disabled = false;
  SecretBytes default_config;  // empty: none
  SecretBytes plugin_config;   // not empty: used as it is, and neither default nor rules are
  std::vector<MatchRule> rules;
};

// --- networking.higress.io/v1 Http2Rpc ---

struct Http2Rpc : Object {
  static constexpr Kind kKind = Kind::kHttp2Rpc;
  enum class Source : uint8_t { kQuery, kHeader, kPath, kBody };
  struct Parameter {
    Source source = Source::kQuery;
    std::string key;
    std::string type;  // of Java
  };
  struct Method {
    std::string service_method, http_path, http_method;
    std::string headers_attach;  // "": none; "*": all; or a list
    std::vector<Parameter> parameters;
    std::string entire_body_type;  // not empty: the body is the one parameter
  };

  Http2Rpc() : Object(kKind) {}
  std::string service, version, group;
  std::vector<Method> methods;
};

// The object as its type; null stays null. The kind must be right.
template <typename T>
const T* as(const ObjectPtr& object) {
  return static_cast<const T*>(object.get());
}

}  // namespace sluice::resource
