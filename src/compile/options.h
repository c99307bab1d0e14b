#pragma once
// What the compiler is told by flags, and the vocabulary its parts share.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>

#include "resource/objects.h"

namespace sluice::net {
class TlsTicketKeys;
}

namespace sluice::compile {

struct Options {
  std::string ingress_class = "higress";  // empty: every Ingress; "nginx": also those without a class
  std::string system_namespace = "higress-system";
  std::string domain_suffix = "cluster.local";
  // What is wrong with an access-log format; empty: nothing. Null: formats are not checked.
  std::function<std::string(std::string_view)> check_access_log_format;
  bool as_nginx =
      false;  // where nginx and Higress differ and neither Ingress nor higress-config says whose meaning holds
  bool offer_http2 = true;                          // by ALPN on the TLS listener
  std::shared_ptr<net::TlsTicketKeys> ticket_keys;  // null: no session tickets
};

// Age order of objects: the oldest first, ties by "name.namespace". An unknown age counts as the
// oldest.
struct Age {
  int64_t created = 0;
  std::string name;

  static Age of(const resource::Meta& meta) { return {meta.created, meta.name + "." + meta.ns}; }
  auto operator<=>(const Age&) const = default;
};

}  // namespace sluice::compile
