#pragma once
// JSON values that can be changed, for what the API edits: read with the limits of resource/, written as JSON or YAML.
// A value never nests deeper than kMaxDepth; keys are sorted.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "resource/node.h"

namespace sluice::api::kube {

using Json = nlohmann::json;

inline constexpr unsigned kMaxDepth = 64;

Json to_json(const resource::Node& node);
// The error is a phrase: "is not JSON: …".
Result<Json> parse_json(std::string_view text);
// One document; none at all is null.
Result<Json> parse_yaml(std::string_view text);

// Compact JSON.
std::string to_text(const Json& value);
// A YAML document in block style, with a line end. Reads back as the same value, by YAML 1.1 and by 1.2.
std::string to_yaml(const Json& value);

// 1 for a scalar.
unsigned depth_of(const Json& value);
// Itself and all values within.
size_t count_values(const Json& value);

// The member of an object, or null if there is none, or `object` is none.
const Json* find(const Json& object, std::string_view key);
// The text of a member that is a string; else empty.
std::string text_of(const Json& object, std::string_view key);

}  // namespace sluice::api::kube
