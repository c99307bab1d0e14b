#pragma once
// What a request is refused with, as a Status object of the Kubernetes API.

#include <string>
#include <utility>
#include <vector>

namespace sluice::api::kube {

// What an error is about. `resource` is the plural.
struct Subject {
  std::string group;
  std::string resource;
  std::string kind;
  std::string name;
};

struct ApiError {
  int code = 500;
  std::string reason;  // "NotFound"
  std::string message;
  Subject subject;
  struct Cause {
    std::string field;
    std::string message;
    std::string reason = "FieldValueInvalid";
  };
  std::vector<Cause> causes;

  // The Status object as JSON.
  std::string to_json() const;
};

ApiError not_found(const Subject& subject);
ApiError no_such_path();
ApiError already_exists(const Subject& subject);
// The object has another resourceVersion than the client expects.
ApiError conflict(const Subject& subject, const std::string& why = {});
// 422: the fields that are wrong.
ApiError invalid(const Subject& subject, std::vector<ApiError::Cause> causes);
ApiError bad_request(std::string message);
ApiError forbidden(const Subject& subject, const std::string& why);
ApiError unauthorized();
ApiError method_not_allowed(const std::string& method);
ApiError unsupported_media_type(const std::string& accepted);
ApiError too_large(size_t limit);
ApiError expired();
ApiError too_many_requests(std::string message);
ApiError internal_error(std::string message);

}  // namespace sluice::api::kube
