#include "plugins/message_edit.h"

namespace sluice::plugins {

using http::HeaderId;

void set_authority(http::RequestHead& request, std::string_view authority) {
  if (!request.authority.empty() && !request.headers.has(HeaderId::kXEnvoyOriginalHost)) {
    request.headers.add(HeaderId::kXEnvoyOriginalHost, request.authority);
  }
  request.authority = authority;
}

void set_target(http::RequestHead& request, std::string_view target) {
  if (!request.headers.has(HeaderId::kXEnvoyOriginalPath)) {
    request.headers.add(HeaderId::kXEnvoyOriginalPath, request.path);
  }
  request.path = target;
}

void add_vary(http::HeaderMap& headers, std::string_view name) {
  const std::string_view before = headers.get_joined(HeaderId::kVary);
  if (before.empty()) return headers.set(HeaderId::kVary, name);
  if (http::list_has_token(before, name) || http::list_has_token(before, "*")) return;
  headers.set(HeaderId::kVary, headers.arena()->concat(before, ", ", name));
}

}  // namespace sluice::plugins
