#include "api/kube/validate.h"

#include <nlohmann/json.hpp>
#include <set>

#include "api/kube/fields.h"
#include "resource/json.h"
#include "resource/parse.h"
#include "resource/reader.h"

namespace sluice::api::kube {
namespace {

constexpr size_t kMaxName = 240;  // so that a file of that name can be
constexpr size_t kMaxAnnotations = 256 << 10;
constexpr size_t kMaxUnknownTold = 10;

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// 1 to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit.
bool is_qualified(std::string_view text) {
  if (text.empty() || text.size() > 63 || !is_alphanumeric(text.front()) || !is_alphanumeric(text.back())) return false;
  for (const char c : text) {
    if (!is_alphanumeric(c) && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

bool is_label_key(std::string_view key) {
  const size_t slash = key.find('/');
  if (slash == key.npos) return is_qualified(key);
  return resource::is_dns_name(key.substr(0, slash)) && is_qualified(key.substr(slash + 1));
}

void check_metadata(const Json& metadata, std::vector<ApiError::Cause>& causes) {
  if (text_of(metadata, "name").size() > kMaxName) {
    causes.push_back({"metadata.name", "Too long: may not be more than " + std::to_string(kMaxName) + " characters"});
  }
  if (const Json* labels = find(metadata, "labels")) {
    for (const auto& [key, value] : labels->items()) {
      const auto& text = value.get_ref<const std::string&>();
      if (!is_label_key(key)) {
        causes.push_back({"metadata.labels", "Invalid value: " + resource::in_quotes(key) + ": is not a label's name"});
      } else if (!text.empty() && !is_qualified(text)) {
        causes.push_back({"metadata.labels",
                          "Invalid value: " + resource::in_quotes(text) +
                              ": a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends "
                              "with a letter or digit"});
      }
    }
  }
  if (const Json* annotations = find(metadata, "annotations")) {
    size_t bytes = 0;
    for (const auto& [key, value] : annotations->items()) {
      bytes += key.size() + value.get_ref<const std::string&>().size();
      if (!is_label_key(key)) {
        causes.push_back(
            {"metadata.annotations", "Invalid value: " + resource::in_quotes(key) + ": is not an annotation's name"});
      }
    }
    if (bytes > kMaxAnnotations) {
      causes.push_back(
          {"metadata.annotations", "Too long: may not be more than " + std::to_string(kMaxAnnotations) + " bytes"});
    }
  }
}

}  // namespace

Subject subject_of(const ObjectKey& key) {
  return {std::string(key.kind->group), std::string(key.kind->plural), std::string(key.kind->kind), key.name};
}

std::optional<ApiError> check_given(const KindInfo& info, const Json& object, FieldValidation validation,
                                    std::vector<std::string>& warnings, const Json* before) {
  if (!object.is_object()) return bad_request("the body of the request should be an object");
  const std::string kind = text_of(object, "kind"), version = text_of(object, "apiVersion");
  if (kind.empty()) return bad_request("Object 'Kind' is missing");
  if (version.empty()) return bad_request("Object 'apiVersion' is missing");
  if (kind != info.kind || version != info.api_version()) {
    return bad_request("the object is a " + version + " " + kind + ", the path is that of " + info.api_version() + " " +
                       std::string(info.kind));
  }
  FieldFindings found = check_fields(info, object);
  if (found.wrong_type) {
    return bad_request(std::string(info.kind) + " in version \"" + std::string(info.version) +
                       "\" cannot be handled: " + *found.wrong_type);
  }
  if (before && !found.unknown.empty()) {
    const std::vector<std::string> old = check_fields(info, *before).unknown;
    const std::set<std::string> known(old.begin(), old.end());
    std::erase_if(found.unknown, [&](const std::string& field) { return known.contains(field); });
  }
  if (validation == FieldValidation::kIgnore || found.unknown.empty()) return std::nullopt;
  std::string list;
  for (size_t i = 0; i < found.unknown.size() && i < kMaxUnknownTold; ++i) {
    const std::string text = "unknown field " + resource::in_quotes(found.unknown[i]);
    if (validation == FieldValidation::kWarn) warnings.push_back(text);
    list += (list.empty() ? "" : ", ") + text;
  }
  if (validation == FieldValidation::kWarn) return std::nullopt;
  return bad_request("strict decoding error: " + list);
}

std::optional<ApiError> check_object(const ObjectKey& key, const Json& object, std::vector<std::string>& warnings) {
  std::vector<ApiError::Cause> causes;
  check_metadata(*find(object, "metadata"), causes);
  if (!key.kind->note.empty()) warnings.push_back(std::string(key.kind->kind) + " is " + std::string(key.kind->note));
  if (key.kind->read_by_gateway) {
    resource::JsonParser parser;
    const resource::Node* node = parser.parse(to_text(object));
    if (!node) return bad_request("the object " + parser.error());
    const auto parsed = resource::parse_object(*node, std::make_shared<const std::string>());
    for (const resource::Diagnostic& finding : parsed.diagnostics) {
      if (finding.severity == resource::Severity::kError) {
        causes.push_back({finding.field, finding.message});
      } else {
        warnings.push_back((finding.field.empty() ? "" : finding.field + ": ") + finding.message);
      }
    }
  }
  if (causes.empty()) return std::nullopt;
  return invalid(subject_of(key), std::move(causes));
}

}  // namespace sluice::api::kube
