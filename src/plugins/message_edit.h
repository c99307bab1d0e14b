#pragma once
// Edits of heads that several plugins make, with the traces the upstream and the access log rely
// on.

#include <string_view>

#include "http/headers.h"

namespace sluice::plugins {

// Sends the request to another host name; `x-envoy-original-host` tells the one the client asked
// for. `authority` is borrowed for the life of the exchange.
void set_authority(http::RequestHead& request, std::string_view authority);

// Changes the target of the request; `x-envoy-original-path` tells the one the client asked for.
// `target` is borrowed.
void set_target(http::RequestHead& request, std::string_view target);

// Whether a field belongs to one connection or frames the message (RFC 9110 §7.6.1): the codecs write it, nobody else
// may.
bool is_framing_field(std::string_view name);

// Adds a field name to Vary, unless it is there already.
void add_vary(http::HeaderMap& headers, std::string_view name);

}  // namespace sluice::plugins
