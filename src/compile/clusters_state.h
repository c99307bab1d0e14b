#pragma once
// The private state of one cluster of a ClusterTable, shared by clusters.cc (what exists and what
// changed) and clusters_build.cc (how one is made).

#include "compile/clusters.h"

namespace sluice::compile {

struct ClusterTable::State {
  ClusterKey key;
  std::string name;
  uint32_t slot = 0;
  uint32_t references = 0;
  bool marked = false;
  bool endpoints_only = false;  // of the mark
  std::shared_ptr<const config::Cluster> built;
  // Where the endpoints come from; set by build().
  std::string endpoints_host;                           // host whose Service gives them
  std::vector<std::string> hosts, dns_names, secrets;   // what it depends on
  std::shared_ptr<const config::UpstreamTls> last_tls;  // of the last build that worked …
  std::string last_tls_secret;                          // … and the Secret it was made with
  std::string problem;
  resource::Diagnostics diagnostics;
};

}  // namespace sluice::compile
