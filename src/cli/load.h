#pragma once
// Loading objects without a data plane, for `check`, `explain` and `migrate`.

#include <memory>
#include <string>

#include "compile/control_plane.h"

namespace CLI {
class App;
}

namespace sluice::cli {

struct LoadFlags {
  std::string directory;
  std::string ingress_class = "higress";
  std::string system_namespace = "higress-system";
  std::string compat = "higress";
};

void add_load_options(CLI::App* command, LoadFlags& flags);

// Loads the directory. Null (after a message): it can't be read.
std::unique_ptr<compile::ControlPlane> load_directory(const LoadFlags& flags, resource::Diagnostics* diagnostics,
                                                      size_t* objects);
// Lists all objects of a cluster once. Null (after a message): it can't be read.
std::unique_ptr<compile::ControlPlane> load_cluster(const LoadFlags& flags, const std::string& kubeconfig,
                                                    const std::string& context);

}  // namespace sluice::cli
