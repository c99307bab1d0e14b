#pragma once
// TlsHosts: which certificate each host presents. Of several Ingresses that give a host a
// certificate the oldest counts, and so it is for TLS options (auth-tls-secret, ssl-cipher,
// tls-min/max-protocol-version), separately.
//
// A broken key pair keeps the host's last good certificate and is reported. A missing Secret leaves
// the host without a certificate: handshakes for it fail, and no wildcard steps in.

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "compile/globals.h"
#include "compile/hosts.h"
#include "compile/tls_contexts.h"
#include "config/snapshot.h"
#include "resource/credentials.h"
#include "resource/store.h"

namespace sluice::compile {

class TlsHosts {
 public:
  TlsHosts(const resource::Store& store, const Options& options, TlsContexts& contexts)
      : store_(store), options_(options), contexts_(contexts) {}

  void add(const IngressEntry& entry);
  void remove(const IngressEntry& entry);
  void on_secret(const resource::ObjectKey& key);
  // The certificates for hosts that name none (ConfigMap higress-https).
  void set_credentials(resource::Credentials credentials);

  // What hosts have whose Ingresses say nothing else.
  void set_defaults(const TlsDefaults& defaults);

  // Rebuilds what is marked into the snapshot and tells the host table which hosts ask for client
  // certificates. Returns how many hosts were rebuilt.
  size_t flush(config::Snapshot& next, HostTable& hosts);

  void diagnostics(const IngressEntry& entry, resource::Diagnostics& out) const;
  // What is wrong with the hosts that show this Secret; of very many hosts, with the first of them.
  void diagnostics_of_secret(const resource::ObjectKey& key, resource::Diagnostics& out) const;

 private:
  struct ByAge {
    bool operator()(const IngressEntry* a, const IngressEntry* b) const { return a->age < b->age; }
  };
  struct Finding {
    const IngressEntry* entry;
    resource::Diagnostic diagnostic;
  };
  struct Host {
    std::map<const IngressEntry*, const CompiledIngress::TlsUse*, ByAge> contributors;
    std::vector<std::string> secrets;  // looked at by the last build
    std::shared_ptr<const config::TlsHost> built;
    std::string good_scope;  // whose clients the last good context lets in
    std::vector<Finding> findings;
  };

  std::shared_ptr<const config::TlsHost> build(const std::string& name, Host& host);
  // The Secret that the use asks for, or that higress-https has in its place; empty: none.
  SecretRef secret_of(const std::string& name, Host& host, const CompiledIngress::TlsUse& use);
  const resource::Secret* look(const std::string& name, Host& host, const SecretRef& ref);
  // Fills what options say. Returns whether client certificates are required.
  bool apply_options(const std::string& name, Host& host, const IngressEntry& entry, const SecretRef& certificate,
                     net::TlsServerConfig& config);
  void find(Host& host, const IngressEntry& entry, std::string field, std::string message,
            resource::Severity severity = resource::Severity::kError);
  // The same, but the Secret is to blame.
  void blame(Host& host, const IngressEntry& entry, const resource::Secret& secret, std::string message,
             resource::Severity severity = resource::Severity::kError);

  const resource::Store& store_;
  const Options& options_;
  TlsContexts& contexts_;
  resource::Credentials credentials_;
  TlsDefaults defaults_;
  std::unordered_map<std::string, Host> hosts_;
  std::unordered_map<std::string, std::unordered_set<std::string>> by_secret_;  // "ns/name" → hosts
  std::unordered_set<std::string> marked_;
};

}  // namespace sluice::compile
