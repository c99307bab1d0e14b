#pragma once
// The binary form of Kubernetes' built-in objects, which typed clients (among them `kubectl create KIND …`) send: four
// bytes "k8s\0", then a runtime.Unknown whose `raw` is the object as a protocol-buffers message.

#include <string_view>

#include "api/kube/json.h"
#include "api/kube/kinds.h"

namespace sluice::api::kube {

inline constexpr std::string_view kProtobufType = "application/vnd.kubernetes.protobuf";
inline constexpr size_t kMaxProtobufValues = 500'000;

// False for kinds that have no such form: those defined by a CustomResourceDefinition.
bool has_protobuf(const KindInfo& info);
// The object as its JSON form would be; what the sender's Go structure leaves empty is left out, and so are fields of
// later versions and metadata.managedFields. The error is a phrase: "is not an object in …".
Result<Json> object_from_protobuf(const KindInfo& info, std::string_view body);
// DeleteOptions: preconditions, dryRun and what else they have.
Result<Json> delete_options_from_protobuf(std::string_view body);

}  // namespace sluice::api::kube
