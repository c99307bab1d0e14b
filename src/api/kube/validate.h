#pragma once
// What an object that a client writes must be like.

#include <optional>
#include <string>
#include <vector>

#include "api/kube/errors.h"
#include "api/kube/json.h"
#include "api/kube/object_store.h"

namespace sluice::api::kube {

// What becomes of fields that no object of the kind has.
enum class FieldValidation { kIgnore, kWarn, kStrict };

Subject subject_of(const ObjectKey& key);

// The object as the client sent it, before it is normalised: fields and their types. Unknown fields that `before` has
// too are no concern.
std::optional<ApiError> check_given(const KindInfo& info, const Json& object, FieldValidation validation,
                                    std::vector<std::string>& warnings, const Json* before = nullptr);
// The object as it would be stored: metadata, and everything that the gateway's own parser checks.
std::optional<ApiError> check_object(const ObjectKey& key, const Json& object, std::vector<std::string>& warnings);

}  // namespace sluice::api::kube
