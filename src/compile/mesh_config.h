#pragma once
// The options of Istio's MeshConfig that Higress's users set: key `mesh` of the ConfigMap `higress-config`.

#include "compile/globals.h"
#include "resource/reader.h"

namespace sluice::compile {

// Reads the options over what `out` has. Keys that have no meaning here are let pass; those that would have one but are
// not supported are warned of.
void read_mesh(const resource::Field& root, resource::Reader& reader, const Options& options, GlobalOptions& out);

}  // namespace sluice::compile
