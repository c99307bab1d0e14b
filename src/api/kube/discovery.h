#pragma once
// The documents by which a client finds out what the API serves. Each is JSON text.

#include <optional>
#include <string>
#include <string_view>

namespace sluice::api::kube {

// The release of Kubernetes whose API this follows.
inline constexpr const char* kKubernetesVersion = "v1.36.0";

// /version, /api, /apis and below, /openapi/…; nothing for other paths.
std::optional<std::string> discovery_document(std::string_view path, std::string_view sluice_version);

inline constexpr const char* kAggregatedDiscovery =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
// All groups and their resources at once, at /api and /apis, for clients whose Accept header asks for it.
std::optional<std::string> aggregated_discovery(std::string_view path, std::string_view accept);

}  // namespace sluice::api::kube
