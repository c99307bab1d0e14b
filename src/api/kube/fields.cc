#include "api/kube/fields.h"

#include <map>
#include <nlohmann/json.hpp>

namespace sluice::api::kube {
namespace {

constexpr std::string_view kMetadata = R"({
  "name": "s", "generateName": "s", "namespace": "s", "selfLink": "s", "uid": "s", "resourceVersion": "s",
  "generation": "i", "creationTimestamp": "s", "deletionTimestamp": "s", "deletionGracePeriodSeconds": "i",
  "labels": {"": "s"}, "annotations": {"": "s"}, "finalizers": ["s"], "managedFields": "*",
  "ownerReferences": [{"apiVersion": "s", "kind": "s", "name": "s", "uid": "s", "controller": "b",
                       "blockOwnerDeletion": "b"}]
})";

const Json& shape_of(const KindInfo& info) {
  static const std::map<std::string_view, Json> shapes = [] {
    std::map<std::string_view, Json> out;
    for (const KindInfo& kind : kinds()) {
      Json shape = Json::parse(kind.shape, nullptr, false);
      shape["apiVersion"] = shape["kind"] = "s";
      shape["metadata"] = Json::parse(kMetadata, nullptr, false);
      out.emplace(kind.kind, std::move(shape));
    }
    return out;
  }();
  return shapes.find(info.kind)->second;
}

class Checker {
 public:
  explicit Checker(FieldFindings& out) : out_(out) {}

  void check(const Json& value, const Json& shape, const std::string& path) {
    if (value.is_null()) return;
    if (shape.is_object()) return object(value, shape, path);
    if (shape.is_array()) return list(value, shape[0], path);
    const char type = shape.get_ref<const std::string&>()[0];
    if (type == 's' && !value.is_string()) wrong(path, "a string");
    if (type == 'b' && !value.is_boolean()) wrong(path, "true or false");
    if (type == 'i' && !value.is_number_integer()) wrong(path, "a whole number");
    if (type == 'n' && !value.is_string() && !value.is_number_integer()) wrong(path, "a whole number or a string");
  }

 private:
  void object(const Json& value, const Json& shape, const std::string& path) {
    if (!value.is_object()) return wrong(path, "an object");
    const auto any = shape.find("");
    for (const auto& [key, member] : value.items()) {
      const std::string at = path.empty() ? key : path + "." + key;
      const auto known = any != shape.end() ? any : shape.find(key);
      if (known == shape.end()) {
        out_.unknown.push_back(at);
      } else {
        check(member, *known, at);
      }
    }
  }

  void list(const Json& value, const Json& shape, const std::string& path) {
    if (!value.is_array()) return wrong(path, "a list");
    for (size_t i = 0; i < value.size(); ++i) check(value[i], shape, path + "[" + std::to_string(i) + "]");
  }

  void wrong(const std::string& path, const char* expected) {
    if (!out_.wrong_type) out_.wrong_type = path + " should be " + expected;
  }

  FieldFindings& out_;
};

Json schema(const Json& shape) {
  if (shape.is_array()) return {{"type", "array"}, {"items", schema(shape[0])}};
  if (shape.is_object()) {
    const auto any = shape.find("");
    if (any != shape.end()) return {{"type", "object"}, {"additionalProperties", schema(*any)}};
    Json properties = Json::object();
    for (const auto& [key, member] : shape.items()) properties[key] = schema(member);
    return {{"type", "object"}, {"properties", std::move(properties)}};
  }
  switch (shape.get_ref<const std::string&>()[0]) {
    case 's':
      return {{"type", "string"}};
    case 'b':
      return {{"type", "boolean"}};
    case 'i':
      return {{"type", "integer"}, {"format", "int32"}};
    case 'n':
      return {{"format", "int-or-string"}, {"x-kubernetes-int-or-string", true}};
    default:
      return {{"type", "object"}, {"x-kubernetes-preserve-unknown-fields", true}};
  }
}

}  // namespace

FieldFindings check_fields(const KindInfo& info, const Json& object) {
  FieldFindings out;
  Checker(out).check(object, shape_of(info), {});
  return out;
}

Json schema_of(const KindInfo& info) {
  Json out = schema(shape_of(info));
  out["x-kubernetes-group-version-kind"] =
      Json::array({{{"group", info.group}, {"version", info.version}, {"kind", info.kind}}});
  return out;
}

}  // namespace sluice::api::kube
