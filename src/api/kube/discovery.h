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

}  // namespace sluice::api::kube
