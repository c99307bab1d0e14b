#include "api/kube/errors.h"

#include <nlohmann/json.hpp>

#include "api/kube/json.h"

namespace sluice::api::kube {
namespace {

// "ingresses.networking.k8s.io", as the API writes it.
std::string qualified(const std::string& word, const std::string& group) {
  return group.empty() ? word : word + "." + group;
}

std::string named(const Subject& subject) {
  return qualified(subject.resource, subject.group) + " \"" + subject.name + "\"";
}

}  // namespace

std::string ApiError::to_json() const {
  Json details = Json::object();
  if (!subject.name.empty()) details["name"] = subject.name;
  if (!subject.group.empty()) details["group"] = subject.group;
  // The API says the kind of an invalid object and the resource otherwise.
  const std::string& kind = code == 422 ? subject.kind : subject.resource;
  if (!kind.empty()) details["kind"] = kind;
  for (const Cause& cause : causes) {
    Json entry = {{"reason", cause.reason}, {"message", cause.message}};
    if (!cause.field.empty()) entry["field"] = cause.field;
    details["causes"].push_back(std::move(entry));
  }
  Json status = {{"kind", "Status"},    {"apiVersion", "v1"}, {"metadata", Json::object()},
                 {"status", "Failure"}, {"message", message}, {"reason", reason},
                 {"code", code}};
  if (!details.empty()) status["details"] = std::move(details);
  return to_text(status);
}

ApiError not_found(const Subject& subject) { return {404, "NotFound", named(subject) + " not found", subject, {}}; }

ApiError no_such_path() { return {404, "NotFound", "the server could not find the requested resource", {}, {}}; }

ApiError already_exists(const Subject& subject) {
  return {409, "AlreadyExists", named(subject) + " already exists", subject, {}};
}

ApiError conflict(const Subject& subject, const std::string& why) {
  return {
      409,
      "Conflict",
      "Operation cannot be fulfilled on " + named(subject) + ": " +
          (why.empty() ? "the object has been modified; please apply your changes to the latest version and try again"
                       : why),
      subject,
      {}};
}

ApiError invalid(const Subject& subject, std::vector<ApiError::Cause> causes) {
  std::string list;
  for (const ApiError::Cause& cause : causes) {
    list += (list.empty() ? "" : ", ") + (cause.field.empty() ? "" : cause.field + ": ") + cause.message;
  }
  if (causes.size() > 1) list = "[" + list + "]";
  return {422, "Invalid", qualified(subject.kind, subject.group) + " \"" + subject.name + "\" is invalid: " + list,
          subject, std::move(causes)};
}

ApiError bad_request(std::string message) { return {400, "BadRequest", std::move(message), {}, {}}; }

ApiError forbidden(const Subject& subject, const std::string& why) {
  return {403, "Forbidden", named(subject) + " is forbidden: " + why, subject, {}};
}

ApiError unauthorized() { return {401, "Unauthorized", "Unauthorized", {}, {}}; }

ApiError method_not_allowed(const std::string& method) {
  return {405, "MethodNotAllowed", "the server does not allow " + method + " on the requested resource", {}, {}};
}

ApiError unsupported_media_type(const std::string& accepted) {
  return {415,
          "UnsupportedMediaType",
          "the body of the request was in an unknown format - accepted media types include: " + accepted,
          {},
          {}};
}

ApiError too_large(size_t limit) {
  return {413,
          "RequestEntityTooLarge",
          "the body of the request is larger than " + std::to_string(limit) + " bytes",
          {},
          {}};
}

ApiError expired() { return {410, "Expired", "too old resource version: list again and watch from there", {}, {}}; }

ApiError too_many_requests(std::string message) { return {429, "TooManyRequests", std::move(message), {}, {}}; }

ApiError internal_error(std::string message) { return {500, "InternalError", std::move(message), {}, {}}; }

}  // namespace sluice::api::kube
