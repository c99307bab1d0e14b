#pragma once
// The global options: ConfigMap `higress-config` of the system namespace, key `higress`.

#include <optional>

#include "compile/ingress_routes.h"
#include "config/snapshot.h"
#include "resource/diagnostic.h"
#include "resource/objects.h"

namespace sluice::compile {

inline constexpr const char* kGlobalsConfigMap = "higress-config";
inline constexpr const char* kGlobalsKey = "higress";

// Tracing with the service it goes to, which is yet to become a cluster.
struct TracingOptions {
  config::Tracing tracing;
  std::string service;
  uint16_t port = 0;
};

// Of the TLS listener, for hosts whose Ingresses say nothing else.
struct TlsDefaults {
  std::string min_version, max_version, ciphers;  // as TlsOptions
  bool offer_http2 = true;
  bool operator==(const TlsDefaults&) const = default;
};

struct GlobalOptions {
  config::Globals globals;
  TlsDefaults tls;
  std::optional<TracingOptions> tracing;
  IngressDefaults ingresses;
};

inline constexpr const char* kMeshKey = "mesh";

// Reads the options over their defaults. Nothing if any of them is wrong: then the whole version is
// refused, `out` says why, and the previous options stay in force. Nothing and no message if the
// key is absent.
std::optional<GlobalOptions> parse_globals(const resource::ConfigMap& map, FilterCache& filters, const Options& options,
                                           resource::Diagnostics& out);

}  // namespace sluice::compile
