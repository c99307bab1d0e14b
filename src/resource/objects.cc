#include "resource/objects.h"

#include <algorithm>

namespace sluice::resource {

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kIngress:
      return "Ingress";
    case Kind::kIngressClass:
      return "IngressClass";
    case Kind::kService:
      return "Service";
    case Kind::kEndpoints:
      return "Endpoints";
    case Kind::kEndpointSlice:
      return "EndpointSlice";
    case Kind::kSecret:
      return "Secret";
    case Kind::kConfigMap:
      return "ConfigMap";
    case Kind::kMcpBridge:
      return "McpBridge";
    case Kind::kWasmPlugin:
      return "WasmPlugin";
    case Kind::kHttp2Rpc:
      return "Http2Rpc";
  }
  return "?";
}

std::string ObjectKey::to_string() const {
  std::string out = name_of(kind);
  out += ' ';
  if (!ns.empty()) out.append(ns).append("/");
  return out + name;
}

const Pair* find(const Pairs& pairs, std::string_view key) {
  auto at = std::lower_bound(pairs.begin(), pairs.end(), key,
                             [](const Pair& pair, std::string_view k) { return pair.key < k; });
  return at != pairs.end() && at->key == key ? &*at : nullptr;
}

const SecretBytes* Secret::find(std::string_view key) const {
  for (const auto& [name, bytes] : data) {
    if (name == key) return bytes.empty() ? nullptr : &bytes;
  }
  return nullptr;
}

const SecretBytes* Secret::certificate() const {
  const SecretBytes* found = find("tls.crt");
  return found ? found : find("cert");
}
const SecretBytes* Secret::private_key() const {
  const SecretBytes* found = find("tls.key");
  return found ? found : find("key");
}
const SecretBytes* Secret::ca() const {
  const SecretBytes* found = find("ca.crt");
  return found ? found : find("cacert");
}

std::string Registry::host() const { return name + (type == Type::kStatic ? ".static" : ".dns"); }

}  // namespace sluice::resource
