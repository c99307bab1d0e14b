#include "plugins/message_edit.h"

#include <algorithm>
#include <iterator>

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

bool is_framing_field(std::string_view name) {
  static constexpr std::string_view kFraming[] = {"connection", "content-length",    "http2-settings",
                                                  "keep-alive", "proxy-connection",  "te",
                                                  "trailer",    "transfer-encoding", "upgrade"};
  return std::find(std::begin(kFraming), std::end(kFraming), name) != std::end(kFraming);
}

void add_vary(http::HeaderMap& headers, std::string_view name) {
  const std::string_view before = headers.get_joined(HeaderId::kVary);
  if (before.empty()) return headers.set(HeaderId::kVary, name);
  if (http::list_has_token(before, name) || http::list_has_token(before, "*")) return;
  headers.set(HeaderId::kVary, headers.arena()->concat(before, ", ", name));
}

}  // namespace sluice::plugins
