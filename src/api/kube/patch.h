#pragma once
// The patches of the Kubernetes API, applied to a value. An error is a phrase; the target is then of no use any more.
// Results are bounded: in depth by kMaxDepth, in size by what the patch holds plus kMaxCopied values.

#include <optional>
#include <string_view>

#include "api/kube/json.h"

namespace sluice::api::kube {

inline constexpr size_t kMaxPatchOperations = 10'000;
inline constexpr size_t kMaxCopied = 1'000'000;  // values copied by all `copy` operations of one patch

// RFC 6902.
Status apply_json_patch(Json& target, const Json& patch);
// RFC 7386.
Status apply_merge_patch(Json& target, const Json& patch);
// Kubernetes' strategic merge of an object of that kind: lists that have a merge key are merged by it; directives
// $patch, $retainKeys, $setElementOrder/… and $deleteFromPrimitiveList/… are obeyed.
Status apply_strategic_patch(Json& target, const Json& patch, std::string_view kind);
// What server-side apply makes of the fields that are given: as a strategic merge (custom kinds too) in which there are
// no directives and null is a value like others.
Status apply_configuration(Json& target, const Json& configuration, std::string_view kind);

// The key by which a list is merged, empty for a set of scalars; nothing if it is replaced as a whole. `path`:
// "spec.ports".
std::optional<std::string_view> merge_key_of(std::string_view kind, std::string_view path);

}  // namespace sluice::api::kube
