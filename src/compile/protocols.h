#pragma once
// The protocol to speak to an upstream, from what a Service port or a registry says.

#include <optional>
#include <string_view>

#include "config/cluster.h"
#include "resource/objects.h"

namespace sluice::compile {

struct Protocol {
  config::UpstreamProtocol version = config::UpstreamProtocol::kHttp1;
  bool tls = false;
};

// `appProtocol` (also Kubernetes' kubernetes.io/h2c, /ws, /wss), else the port's name by Istio's
// convention: a protocol, or a protocol, a dash and anything. Unknown words, tcp included, are
// HTTP/1.1 without TLS.
inline std::optional<Protocol> protocol_by_word(std::string_view word) {
  constexpr auto h1 = config::UpstreamProtocol::kHttp1;
  constexpr auto h2 = config::UpstreamProtocol::kHttp2;
  if (word == "http" || word == "kubernetes.io/ws" || word == "tcp") return Protocol{h1, false};
  if (word == "https" || word == "kubernetes.io/wss" || word == "tls") return Protocol{h1, true};
  if (word == "http2" || word == "h2c" || word == "kubernetes.io/h2c" || word == "grpc" || word == "grpc-web") {
    return Protocol{h2, false};
  }
  if (word == "grpcs" || word == "h2") return Protocol{h2, true};
  return std::nullopt;
}

Protocol protocol_of(const resource::ServicePort& port);

}  // namespace sluice::compile
