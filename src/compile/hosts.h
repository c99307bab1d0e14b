#pragma once
// HostTable: what several Ingresses decide together within one host: which of two equal rules
// lives, in which order routes are tried, which defaultBackend and app-root apply.
//
// Order (the first match wins): exact paths, then prefixes, then app-root, then regular
// expressions, then catch-alls (prefix `/` without conditions), then the default backend. Within
// one kind: the longer path first; then routes with a method condition, of those the shorter list;
// then more header conditions; then more query conditions; then the older Ingress; then the order
// in its spec. Of regular expressions only those of one kind (prefix or full) are compared by
// length.
//
// A host is rebuilt only when an Ingress that contributes to it changed.

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "compile/ingress_routes.h"
#include "config/snapshot.h"

namespace sluice::compile {

// An accepted Ingress as the tables know it. The address is stable while it is registered anywhere.
struct IngressEntry {
  std::shared_ptr<const resource::Ingress> object;
  Age age;
  CompiledIngress compiled;
};

class HostTable {
 public:
  HostTable() : new_names_{{0, std::make_shared<const std::string>("other")}} {}
  // The entry's hosts become (or stop being) part of the table; their hosts are marked.
  void add(const IngressEntry& entry);
  void remove(const IngressEntry& entry);
  // The host's TLS began or ceased to ask for client certificates.
  void set_requires_mtls(const std::string& host, bool required);

  // Rebuilds the marked hosts into the snapshot. Returns how many.
  size_t flush(config::Snapshot& next);

  // Rules of the Ingress that have no effect.
  void diagnostics(const IngressEntry& entry, resource::Diagnostics& out) const;

 private:
  struct ByAge {
    bool operator()(const IngressEntry* a, const IngressEntry* b) const { return a->age < b->age; }
  };
  struct Candidate {
    const HostRoute* route;
    const IngressEntry* entry;
  };
  struct Loss {
    const IngressEntry* entry;
    resource::Diagnostic diagnostic;
  };
  using Contributor = std::pair<const IngressEntry*, const CompiledIngress::Host*>;
  struct Host {
    std::map<const IngressEntry*, const CompiledIngress::Host*, ByAge> contributors;
    std::vector<Contributor> effective;       // those that count, the oldest first; set by build()
    std::unordered_set<std::string> aliases;  // hosts that stand for this one, or did
    std::vector<Loss> losses;
    std::deque<HostRoute> remade;  // routes whose paths another Ingress makes regular expressions; set by build()
  };
  std::shared_ptr<const config::VirtualHost> build(const std::string& name, Host& host);
  void set_passthrough(const std::string& name, std::shared_ptr<const config::PassthroughHost> built);
  void mark(const std::string& name);
  // Whether TLS for the host is passed through, and where to; null: it is not.
  static std::shared_ptr<const config::PassthroughHost> passthrough(const std::string& name, Host& host,
                                                                    const std::vector<Candidate>& rules);
  // Finds out which of the contributors count.
  void choose_contributors(const std::string& name, Host& host) const;
  uint32_t stats_slot(const std::string& route_name);
  static void lose(Host& host, const Candidate& loser, std::string message,
                   resource::Severity severity = resource::Severity::kError);
  // Canaries by the base they belong to, oldest first.
  using Canaries = std::unordered_map<const HostRoute*, std::vector<const HostRoute*>>;
  static Canaries canaries_of(Host& host, const std::vector<Candidate>& rules);
  static std::vector<Candidate> living_rules(Host& host);
  static void make_regexes(Host& host, std::vector<Candidate>& rules);
  static void add_default_backend(const std::string& name, Host& host, std::vector<Candidate>& rules);
  static void add_app_root(Host& host, std::vector<Candidate>& rules);

  std::unordered_map<std::string, Host> hosts_;
  std::unordered_set<std::string> marked_;
  std::unordered_set<std::string> mtls_;
  config::PersistentMap<config::PassthroughHost> passthroughs_;
  bool passthroughs_changed_ = false;
  std::unordered_map<std::string, uint32_t> stats_slots_;  // by route name; never shrinks
  std::vector<std::pair<uint32_t, std::shared_ptr<const std::string>>> new_names_;
};

// Sorts candidates of one host as described above; the given order is the initial one. For tests
// and the table.
void sort_routes(std::vector<const HostRoute*>& routes);

}  // namespace sluice::compile
