#pragma once
// Compiler: objects of the Store to snapshots, incrementally.
//
// apply() takes what changed and returns the next snapshot. The cost follows the change: an Ingress
// rebuilds its own routes and the hosts it contributes to; endpoints replace one endpoint set; a
// Secret rebuilds the TLS entries that show it; all else is shared with the snapshot before. The
// result is the same as that of compiling everything anew, except where a last good version is kept
// in force.
//
// Not thread-safe; belongs to the control thread. The snapshots may go anywhere.

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "compile/clusters.h"
#include "compile/globals.h"
#include "compile/hosts.h"
#include "compile/options.h"
#include "compile/tls_contexts.h"
#include "compile/tls_hosts.h"
#include "config/snapshot.h"
#include "resource/store.h"

namespace sluice::compile {

class Compiler {
 public:
  using SnapshotPointer = std::shared_ptr<const config::Snapshot>;

  // What the last call did, for logs and tests.
  struct Work {
    size_t ingresses = 0, hosts = 0, clusters = 0, tls_hosts = 0;
    bool globals = false;
    bool any() const { return ingresses || hosts || clusters || tls_hosts || globals; }
  };

  // The store must outlive the compiler. Its changes are passed to apply() after they were made.
  Compiler(const resource::Store& store, Options options);
  ~Compiler();

  SnapshotPointer apply(const resource::Changes& changes);

  // Addresses of a DNS name (ports don't matter). They replace the former ones; a name that fails
  // to resolve should keep what it had. Takes effect with the next apply() or refresh().
  void set_resolved(const std::string& name, std::vector<net::Address> addresses);
  // The verdict of active health checks. Same.
  void set_health(const std::string& cluster, const net::Address& endpoint, bool healthy);
  SnapshotPointer refresh() { return apply({}); }

  SnapshotPointer snapshot() const { return snapshot_; }
  const Work& last_work() const { return work_; }
  // The Ingresses that the last apply() compiled: changed ones, and users of a service whose ports
  // changed.
  const std::vector<resource::ObjectKey>& last_compiled() const { return compiled_; }
  const Options& options() const { return options_; }
  // DNS names that clusters need, sorted; resolve them and call set_resolved().
  std::vector<std::string> dns_names() const { return clusters_.dns_names(); }

  // Everything that compilation found wrong with the objects in force.
  resource::Diagnostics diagnostics() const;
  // The same for one object.
  resource::Diagnostics diagnostics(const resource::ObjectKey& key) const;

 private:
  void on_change(const resource::Change& change);
  void on_unreadable_globals(const resource::ConfigMap& map);
  void set_global_auth(ExternalAuthOptions auth);
  void set_defaults(IngressDefaults defaults);
  void on_globals(const resource::ObjectPtr& object);
  void set_tracing(const std::optional<TracingOptions>& options, config::Globals& globals);
  resource::Diagnostics globals_diagnostics() const;
  void on_credentials(const resource::ObjectPtr& object);
  std::optional<resource::Diagnostic> unused_diagnostic(const resource::Object& object) const;
  void remove_ingress(IngressEntry& entry);
  void compile(const resource::ObjectKey& key);
  void ingress_diagnostics(const IngressEntry& entry, resource::Diagnostics& out) const;
  // The index from service hosts to the Ingresses that looked at their ports.
  void index_needs(const resource::ObjectKey& key, const IngressEntry& entry, bool insert);
  void recompile_users(const std::string& host);

  const resource::Store& store_;
  const Options options_;
  TlsContexts contexts_;
  FilterCache filters_;
  ClusterTable clusters_;
  HostTable hosts_;
  TlsHosts tls_;

  std::unordered_map<resource::ObjectKey, std::unique_ptr<IngressEntry>, resource::ObjectKeyHash> ingresses_;
  std::unordered_map<std::string, std::unordered_set<resource::ObjectKey, resource::ObjectKeyHash>> needs_;
  std::unordered_set<resource::ObjectKey, resource::ObjectKeyHash> marked_;
  std::shared_ptr<const config::Globals> globals_;
  IngressDefaults defaults_;
  bool globals_known_ = false;  // a version of higress-config was good
  resource::Diagnostics globals_diagnostics_;
  struct TracingTarget {
    ClusterKey key;
    uint32_t slot;
  };
  std::optional<TracingTarget> tracing_;
  resource::Diagnostics credentials_diagnostics_;
  SnapshotPointer snapshot_;
  Work work_;
  std::vector<resource::ObjectKey> compiled_;
};

}  // namespace sluice::compile
