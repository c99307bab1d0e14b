#pragma once
// The fields of objects: which ones a client has given that no such object has (field validation), and what the
// OpenAPI document says of them. Both come from the shapes in kinds.cc.

#include <optional>
#include <string>
#include <vector>

#include "api/kube/json.h"
#include "api/kube/kinds.h"

namespace sluice::api::kube {

struct FieldFindings {
  std::vector<std::string> unknown;       // paths: "spec.foo"
  std::optional<std::string> wrong_type;  // the first: a phrase that names the field and what it should be
};

// `object` is a whole object of that kind.
FieldFindings check_fields(const KindInfo& info, const Json& object);

// A schema of OpenAPI 3.0 for objects of that kind.
Json schema_of(const KindInfo& info);

}  // namespace sluice::api::kube
