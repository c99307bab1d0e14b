#pragma once
// Which Secrets and ConfigMaps an object names, so that a source needs to keep only those.

#include <string>
#include <vector>

#include "resource/objects.h"

namespace sluice::resource {

// "namespace/name" of every Secret that an Ingress may use, sorted, each once: of spec.tls, with the CA that may stand
// beside it (<name>-cacert), and of annotations whose name ends in "-secret". Names are not checked: a Secret that does
// not exist is simply never found.
std::vector<std::string> secret_references(const Ingress& ingress);

// "namespace/name" of every ConfigMap that an Ingress names, by annotations whose name ends in "custom-headers" or
// "-set-headers".
std::vector<std::string> config_map_references(const Ingress& ingress);

// The Secrets of ConfigMap higress-https (resource/credentials.h).
std::vector<std::string> secret_references(const ConfigMap& map);

}  // namespace sluice::resource
