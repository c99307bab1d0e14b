// Annotations of services and hosts.

#include <algorithm>

#include "compile/annotation_parsers.h"
#include "resource/reader.h"

namespace sluice::compile::read {
namespace {

using resource::in_quotes;
using S = ServiceOptions;

bool cookie_age(const AnnotationCall& c, std::optional<int64_t>* out) {
  int64_t seconds;
  if (!parse_int(c.raw, &seconds, c.error)) return false;
  if (seconds < 0) {
    *c.error = in_quotes(c.raw) + " is not a number of seconds";
    return false;
  }
  *out = seconds;
  return c.out.service.any = true;
}

bool tls_version(const AnnotationCall& c, std::string* out) {
  static constexpr std::string_view kVersions[] = {"TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3"};
  auto at = std::find(std::begin(kVersions), std::end(kVersions), c.value);
  if (at == std::end(kVersions)) {
    *c.error = in_quotes(c.value) + " is not one of TLSv1.0, TLSv1.1, TLSv1.2, TLSv1.3";
    return false;
  }
  if (at - kVersions < 2) *c.error = in_quotes(c.value) + " is not offered: TLSv1.2 is the lowest version";
  *out = std::max<std::string_view>(*at, "TLSv1.2");
  return c.out.tls.any = true;
}

}  // namespace

bool protocol(const AnnotationCall& c) {
  size_t index;
  if (!one_word(c, {"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPCS"}, &index)) {
    *c.error += "; HTTP is used";
    index = 0;
  }
  c.out.service.protocol = static_cast<S::Protocol>(index + 1);
  return c.out.service.any = true;
}

bool load_balance(const AnnotationCall& c) {
  using config::LoadBalancing;
  static constexpr LoadBalancing kKinds[] = {LoadBalancing::kRoundRobin,   LoadBalancing::kRandom,
                                             LoadBalancing::kLeastRequest, LoadBalancing::kLeastRequest,
                                             LoadBalancing::kPeakEwma,     LoadBalancing::kLeastRequest,
                                             LoadBalancing::kLeastRequest};
  size_t index;
  if (!one_word(c, {"round_robin", "random", "least_conn", "least_request", "ewma", "passthrough", "mcp-sse"},
                &index)) {
    *c.error += "; least_request is used";
    index = 3;
  } else if (index >= 5) {
    *c.error = in_quotes(c.value) + " has no meaning here; least_request is used";
  }
  c.out.service.load_balancing = kKinds[index];
  return c.out.service.any = true;
}

bool hash_by(const AnnotationCall& c) {
  if (!parse_hash_by(c.value, &c.out.service.hash, c.error)) {
    c.out.service.load_balancing = config::LoadBalancing::kRoundRobin;
  }
  return c.out.service.any = true;
}

bool affinity(const AnnotationCall& c) {
  if (c.value != "cookie") *c.error = in_quotes(c.value) + " is not cookie; cookie is used";
  return c.out.service.any = c.out.service.affinity = true;
}
bool affinity_mode(const AnnotationCall& c) {
  size_t index;
  if (!one_word(c, {"balanced", "persistent"}, &index)) return false;
  c.out.service.cookie.persistent = index == 1;
  return c.out.service.any = true;
}
bool affinity_canary_behavior(const AnnotationCall& c) {
  size_t index;
  if (!one_word(c, {"legacy", "sticky"}, &index)) return false;
  c.out.service.affinity_sticky = index == 1;
  return c.out.service.any = true;
}
bool cookie_name(const AnnotationCall& c) {
  if (!is_header_name(c.value)) return *c.error = in_quotes(c.value) + " is not a cookie name", false;
  c.out.service.cookie_name = c.value;
  return c.out.service.any = c.out.service.affinity = true;
}
bool cookie_path(const AnnotationCall& c) {
  const bool plain = std::none_of(c.value.begin(), c.value.end(),
                                  [](char b) { return b == ';' || static_cast<unsigned char>(b) <= ' ' || b == 0x7f; });
  if (c.value[0] != '/' || !plain) {
    return *c.error = in_quotes(c.value) + " is not a path such as /shop, without spaces and ';'", false;
  }
  c.out.service.cookie.path = c.value;
  return c.out.service.any = c.out.service.affinity = true;
}
bool cookie_max_age(const AnnotationCall& c) { return cookie_age(c, &c.out.service.cookie_max_age); }
bool cookie_expires(const AnnotationCall& c) { return cookie_age(c, &c.out.service.cookie_expires); }

bool ssl_secret(const AnnotationCall& c) {
  if (!parse_secret_ref(c.value, c.ns, &c.out.service.client_secret, c.error)) return false;
  return c.out.service.any = true;
}
bool ssl_verify(const AnnotationCall& c) {
  bool on;
  if (!on_off(c, &on)) return false;
  c.out.service.verify = on;
  return c.out.service.any = true;
}
bool ssl_name(const AnnotationCall& c) { return c.out.service.ssl_name = c.value, c.out.service.any = true; }
bool ssl_server_name(const AnnotationCall& c) {
  if (!on_off(c, &c.out.service.send_server_name)) return false;
  return c.out.service.any = true;
}

bool auth_tls_secret(const AnnotationCall& c) {
  if (!parse_secret_ref(c.value, c.ns, &c.out.tls.client_ca, c.error)) return false;
  return c.out.tls.any = true;
}
// Names that are not offered are dropped; if none is left the default list applies.
bool cipher_list(const AnnotationCall& c, std::string* out) {
  std::string list;
  for (const std::string& name : split_list(c.value, ": ,")) add_cipher(name, &list, c.error);
  *out = std::move(list);
  return true;
}
bool ssl_cipher(const AnnotationCall& c) { return cipher_list(c, &c.out.tls.ciphers) && (c.out.tls.any = true); }
bool tls_min_version(const AnnotationCall& c) { return tls_version(c, &c.out.tls.min_version); }
bool tls_max_version(const AnnotationCall& c) { return tls_version(c, &c.out.tls.max_version); }

bool upstream(const AnnotationCall& c) {
  return c.out.service.any = parse_upstream(c.raw, &c.out.service.policy, c.error);
}

}  // namespace sluice::compile::read
