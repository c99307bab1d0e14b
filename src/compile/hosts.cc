#include "compile/hosts.h"

#include <algorithm>

#include "config/router.h"

namespace sluice::compile {
namespace {

using config::PathMatch;

bool is_regex(const HostRoute& r) {
  return r.route->path.kind == PathMatch::Kind::kPrefixRegex || r.route->path.kind == PathMatch::Kind::kFullRegex;
}

bool is_root_prefix(const HostRoute& r) {
  return r.route->path.kind == PathMatch::Kind::kPrefix && r.route->path.text.empty();
}

bool has_conditions(const HostRoute& r) {
  return !r.route->methods.empty() || r.header_conditions > 0 || r.query_conditions > 0;
}

// The class of a route: lower comes first.
int rank(const HostRoute& r) {
  if (r.role == HostRoute::Role::kDefaultBackend) return 5;
  if (r.role == HostRoute::Role::kAppRoot) return 2;
  if (is_regex(r)) return 3;
  if (is_root_prefix(r) && !has_conditions(r)) return 4;
  return r.route->path.kind == PathMatch::Kind::kExact ? 0 : 1;
}

// Whether `a` belongs before `b`, both of one rank.
bool before(const HostRoute& a, const HostRoute& b) {
  size_t a_length = a.route->path.text.size(), b_length = b.route->path.text.size();
  if (a.route->path.kind == b.route->path.kind && a_length != b_length) return a_length > b_length;
  if (a.route->methods.empty() != b.route->methods.empty()) return !a.route->methods.empty();
  if (a.method_length != b.method_length) return a.method_length < b.method_length;
  if (a.header_conditions != b.header_conditions) return a.header_conditions > b.header_conditions;
  return a.query_conditions > b.query_conditions;
}

// Two kinds of regular expressions that are compared by length among themselves only have no total order. What Higress
// does with them is an insertion sort for all but very long lists, and so is this.
void sort_regexes(std::span<const HostRoute*> routes) {
  for (size_t i = 1; i < routes.size(); ++i) {
    const HostRoute* moved = routes[i];
    size_t at = i;
    for (; at > 0 && before(*moved, *routes[at - 1]); --at) routes[at] = routes[at - 1];
    routes[at] = moved;
  }
}

}  // namespace

void sort_routes(std::vector<const HostRoute*>& routes) {
  struct Key {
    const HostRoute* route;
    int rank;
    uint32_t position;
  };
  std::vector<Key> keys;
  keys.reserve(routes.size());
  for (uint32_t i = 0; i < routes.size(); ++i) keys.push_back({routes[i], rank(*routes[i]), i});
  std::sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) {
    if (a.rank != b.rank) return a.rank < b.rank;
    if (a.rank != 3) {
      if (before(*a.route, *b.route)) return true;
      if (before(*b.route, *a.route)) return false;
    }
    return a.position < b.position;
  });
  size_t first_regex = keys.size(), last_regex = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    routes[i] = keys[i].route;
    if (keys[i].rank != 3) continue;
    first_regex = std::min(first_regex, i);
    last_regex = i + 1;
  }
  if (first_regex < last_regex) sort_regexes(std::span(routes).subspan(first_regex, last_regex - first_regex));
}

void HostTable::add(const IngressEntry& entry) {
  for (const CompiledIngress::Host& host : entry.compiled.hosts) {
    hosts_[host.name].contributors[&entry] = &host;
    marked_.insert(host.name);
  }
}

void HostTable::remove(const IngressEntry& entry) {
  for (const CompiledIngress::Host& host : entry.compiled.hosts) {
    auto at = hosts_.find(host.name);
    if (at == hosts_.end()) continue;
    at->second.contributors.erase(&entry);
    std::erase_if(at->second.losses, [&](const Loss& loss) { return loss.entry == &entry; });
    marked_.insert(host.name);
  }
}

void HostTable::set_requires_mtls(const std::string& host, bool required) {
  bool changed = required ? mtls_.insert(host).second : mtls_.erase(host) > 0;
  if (changed) marked_.insert(host);
}

size_t HostTable::flush(config::Snapshot& next) {
  size_t count = marked_.size();
  for (const std::string& name : marked_) {
    auto at = hosts_.find(name);
    if (at == hosts_.end()) continue;
    std::shared_ptr<const config::VirtualHost> built = build(name, at->second);
    // A host without any route is none: its requests go on to the next wildcard.
    next.hosts.set(name, built->routes.empty() ? nullptr : std::move(built));
    if (at->second.contributors.empty()) hosts_.erase(at);
  }
  marked_.clear();
  return count;
}

void HostTable::lose(Host& host, const Candidate& loser, std::string message) {
  const resource::Ingress& ingress = *loser.entry->object;
  host.losses.push_back({loser.entry,
                         {resource::Severity::kError, ingress.meta.file ? *ingress.meta.file : std::string(),
                          loser.route->mark.line, loser.route->mark.column, ingress.key().to_string(),
                          loser.route->field, std::move(message)}});
}

// All path rules in age order without those whose key an older one holds.
std::vector<HostTable::Candidate> HostTable::living_rules(Host& host) {
  std::vector<Candidate> out;
  std::unordered_map<std::string_view, Candidate> holders;
  for (const auto& [entry, routes] : host.contributors) {
    for (const HostRoute& route : routes->routes) {
      if (route.role != HostRoute::Role::kPath) continue;
      Candidate candidate{&route, entry};
      auto [holder, fresh] = holders.emplace(route.rule_key, candidate);
      if (fresh) {
        out.push_back(candidate);
      } else {
        lose(host, candidate, "the same rule is in " + holder->second.route->route->origin +
                                  ", which is older; this one has no effect");
      }
    }
  }
  return out;
}

void HostTable::add_default_backend(const std::string& name, Host& host, std::vector<Candidate>& rules) {
  bool has_root = std::any_of(rules.begin(), rules.end(), [](const Candidate& c) { return is_root_prefix(*c.route); });
  std::vector<Candidate> defaults;
  for (const auto& [entry, routes] : host.contributors) {
    for (const HostRoute& route : routes->routes) {
      if (route.role == HostRoute::Role::kDefaultBackend) defaults.push_back({&route, entry});
    }
  }
  if (has_root || defaults.empty()) return;
  // Of several, the newest counts for `*` and the oldest for a named host.
  const Candidate winner = name == "*" ? defaults.back() : defaults.front();
  for (const Candidate& candidate : defaults) {
    if (candidate.entry == winner.entry) continue;
    lose(host, candidate, "host " + name + " has its default backend from " + winner.entry->object->key().to_string() +
                              "; this one has no effect there");
  }
  rules.push_back(winner);
}

void HostTable::add_app_root(Host& host, std::vector<Candidate>& rules) {
  std::optional<Candidate> newest;
  for (const auto& [entry, routes] : host.contributors) {
    for (const HostRoute& route : routes->routes) {
      if (route.role == HostRoute::Role::kAppRoot) newest = Candidate{&route, entry};
    }
  }
  if (newest && !rules.empty()) rules.push_back(*newest);
}

std::shared_ptr<const config::VirtualHost> HostTable::build(const std::string& name, Host& host) const {
  host.losses.clear();
  std::vector<Candidate> rules = living_rules(host);
  add_default_backend(name, host, rules);
  add_app_root(host, rules);
  std::vector<const HostRoute*> sorted;
  sorted.reserve(rules.size());
  for (const Candidate& rule : rules) sorted.push_back(rule.route);
  sort_routes(sorted);
  auto out = std::make_shared<config::VirtualHost>();
  out->domain = name;
  out->routes.reserve(sorted.size());
  for (const HostRoute* route : sorted) out->routes.push_back(route->route);
  out->index = config::RouteIndex::build(out->routes);
  out->requires_mtls_sni = mtls_.contains(name);
  return out;
}

void HostTable::diagnostics(const IngressEntry& entry, resource::Diagnostics& out) const {
  for (const auto& use : entry.compiled.hosts) {
    auto at = hosts_.find(use.name);
    if (at == hosts_.end()) continue;
    for (const Loss& loss : at->second.losses) {
      if (loss.entry == &entry) out.push_back(loss.diagnostic);
    }
  }
}

}  // namespace sluice::compile
