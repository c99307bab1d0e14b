#include "compile/hosts.h"

#include <algorithm>
#include <span>
#include <tuple>

#include "compile/annotation_values.h"
#include "compile/canary.h"
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

// Everything of the order but the path's length, which regular expressions of different kinds don't
// compare.
uint64_t low_key(const HostRoute& r) {
  auto few = [](uint32_t n) { return std::min<uint64_t>(n, 0xffff); };
  uint64_t methods = r.route->methods.empty() ? 0xffff : std::min<uint64_t>(r.method_length, 0xfffe);
  return methods << 32 | (0xffff - few(r.header_conditions)) << 16 | (0xffff - few(r.query_conditions));
}

// Whether the regular expression `a` belongs before `b`.
bool regex_before(const HostRoute& a, const HostRoute& b) {
  size_t a_length = a.route->path.text.size(), b_length = b.route->path.text.size();
  if (a.route->path.kind == b.route->path.kind && a_length != b_length) return a_length > b_length;
  return a.sort_low < b.sort_low;
}

constexpr uint64_t kRegexKey = uint64_t{3} << 32;

// Two kinds of regular expressions that are compared by length among themselves only have no total
// order. What Higress does with them is an insertion sort for all but very long lists, and so is
// this.
void sort_regexes(std::span<const HostRoute*> routes) {
  for (size_t i = 1; i < routes.size(); ++i) {
    const HostRoute* moved = routes[i];
    size_t at = i;
    for (; at > 0 && regex_before(*moved, *routes[at - 1]); --at) routes[at] = routes[at - 1];
    routes[at] = moved;
  }
}

}  // namespace

void HostRoute::seal() {
  rule_hash = std::hash<std::string>()(rule_key);
  sort_low = low_key(*this);
  sort_high = static_cast<uint64_t>(rank(*this)) << 32;
  if (sort_high != kRegexKey) sort_high |= 0xffffffff - std::min<uint64_t>(route->path.text.size(), 0xffffffff);
}

void sort_routes(std::vector<const HostRoute*>& routes) {
  struct Key {
    uint64_t high, low;
    uint32_t position;
    const HostRoute* route;
  };
  std::vector<Key> keys;
  keys.reserve(routes.size());
  for (uint32_t i = 0; i < routes.size(); ++i) {
    bool regex = routes[i]->sort_high == kRegexKey;
    keys.push_back({routes[i]->sort_high, regex ? 0 : routes[i]->sort_low, i, routes[i]});
  }
  std::sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) {
    return std::tie(a.high, a.low, a.position) < std::tie(b.high, b.low, b.position);
  });
  size_t first_regex = keys.size(), last_regex = 0;
  for (size_t i = 0; i < keys.size(); ++i) {
    routes[i] = keys[i].route;
    if (keys[i].high != kRegexKey) continue;
    first_regex = std::min(first_regex, i);
    last_regex = i + 1;
  }
  if (first_regex < last_regex) sort_regexes(std::span(routes).subspan(first_regex, last_regex - first_regex));
}

void HostTable::add(const IngressEntry& entry) {
  for (const CompiledIngress::Host& host : entry.compiled.hosts) {
    for (const HostRoute& route : host.routes) route.route->stats_slot = stats_slot(route.route->name);
    hosts_[host.name].contributors[&entry] = &host;
    if (!host.stands_for.empty()) hosts_[host.stands_for].aliases.insert(host.name);
    mark(host.name);
  }
}

uint32_t HostTable::stats_slot(const std::string& route_name) {
  if (auto at = stats_slots_.find(route_name); at != stats_slots_.end()) return at->second;
  const uint32_t slot = static_cast<uint32_t>(stats_slots_.size()) + 1;
  if (slot >= config::Snapshot::kMaxRouteNames) return 0;
  stats_slots_.emplace(route_name, slot);
  new_names_.emplace_back(slot, std::make_shared<const std::string>(route_name));
  return slot;
}

void HostTable::remove(const IngressEntry& entry) {
  for (const CompiledIngress::Host& host : entry.compiled.hosts) {
    auto at = hosts_.find(host.name);
    if (at == hosts_.end()) continue;
    at->second.contributors.erase(&entry);
    std::erase_if(at->second.losses, [&](const Loss& loss) { return loss.entry == &entry; });
    mark(host.name);
  }
}

// An alias has the canaries of its host.
void HostTable::mark(const std::string& name) {
  marked_.insert(name);
  if (auto at = hosts_.find(name); at != hosts_.end())
    marked_.insert(at->second.aliases.begin(), at->second.aliases.end());
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
  if (std::exchange(passthroughs_changed_, false)) {
    next.passthrough_hosts = passthroughs_.size()
                                 ? std::make_shared<const config::PersistentMap<config::PassthroughHost>>(passthroughs_)
                                 : nullptr;
  }
  marked_.clear();
  next.route_names.set_all(new_names_);
  new_names_.clear();
  return count;
}

void HostTable::set_passthrough(const std::string& name, std::shared_ptr<const config::PassthroughHost> built) {
  if (!built && !passthroughs_.find(name)) return;
  passthroughs_.set(name, std::move(built));
  passthroughs_changed_ = true;
}

void HostTable::lose(Host& host, const Candidate& loser, std::string message, resource::Severity severity) {
  const resource::Ingress& ingress = *loser.entry->object;
  host.losses.push_back(
      {loser.entry,
       {severity, ingress.meta.file ? *ingress.meta.file : std::string(), loser.route->mark.line,
        loser.route->mark.column, ingress.key().to_string(), loser.route->field, std::move(message)}});
}

void HostTable::choose_contributors(const std::string& name, Host& host) const {
  using Claim = CompiledIngress::Host::Claim;
  host.effective.clear();
  Claim strongest = Claim::kWwwRedirect;
  for (const auto& [entry, routes] : host.contributors) strongest = std::min(strongest, routes->claim);
  for (const auto& [entry, routes] : host.contributors) {
    if (routes->claim == strongest && (strongest == Claim::kRule || host.effective.empty())) {
      host.effective.emplace_back(entry, routes);
    } else if (!routes->routes.empty()) {
      const char* annotation = routes->claim == Claim::kAlias ? "server-alias" : "from-to-www-redirect";
      lose(host, {&routes->routes[0], entry},
           "host " + name + (strongest == Claim::kRule ? " has rules of its own" : " is an alias of an older Ingress") +
               "; " + annotation + " has no effect on it");
    }
  }
  if (strongest != Claim::kAlias) return;
  const auto [owner, alias] = host.effective[0];
  auto base = hosts_.find(alias->stands_for);
  if (base == hosts_.end()) return;
  for (const auto& [entry, routes] : base->second.contributors) {
    const bool canary = !routes->routes.empty() && routes->routes[0].role == HostRoute::Role::kCanary;
    if (canary) host.effective.emplace_back(entry, routes);
  }
}

// All path rules in age order without those whose key an older one holds.
std::vector<HostTable::Candidate> HostTable::living_rules(Host& host) {
  std::vector<Candidate> out;
  for (const auto& [entry, routes] : host.effective) {
    for (const HostRoute& route : routes->routes) {
      if (route.role == HostRoute::Role::kPath) out.push_back({&route, entry});
    }
  }
  // Open addressing; the holders by position in `out`, from 1.
  size_t capacity = 4;
  while (capacity < out.size() * 2) capacity *= 2;
  std::vector<uint32_t> holders(capacity, 0);
  size_t kept = 0;
  for (const Candidate& candidate : out) {
    size_t slot = candidate.route->rule_hash & (capacity - 1);
    while (holders[slot] && (out[holders[slot] - 1].route->rule_hash != candidate.route->rule_hash ||
                             out[holders[slot] - 1].route->rule_key != candidate.route->rule_key)) {
      slot = (slot + 1) & (capacity - 1);
    }
    if (holders[slot]) {
      lose(host, candidate,
           "the same rule is in " + out[holders[slot] - 1].route->route->origin +
               ", which is older; this one has no effect");
      continue;
    }
    out[kept++] = candidate;
    holders[slot] = static_cast<uint32_t>(kept);
  }
  out.resize(kept);
  return out;
}

HostTable::Canaries HostTable::canaries_of(Host& host, const std::vector<Candidate>& rules) {
  std::vector<Candidate> canaries;
  for (const auto& [entry, routes] : host.effective) {
    for (const HostRoute& route : routes->routes) {
      if (route.role == HostRoute::Role::kCanary) canaries.push_back({&route, entry});
    }
  }
  Canaries out;
  if (canaries.empty()) return out;
  std::unordered_map<std::string_view, const HostRoute*> by_key;
  for (const Candidate& rule : rules) by_key.emplace(rule.route->rule_key, rule.route);
  for (const Candidate& canary : canaries) {
    auto base = by_key.find(canary.route->rule_key);
    if (base == by_key.end()) {
      lose(host, canary,
           "the canary has no base: no other Ingress has this host, path and conditions; it has no effect");
    } else {
      out[base->second].push_back(canary.route);
    }
  }
  return out;
}

// A base and what its canaries make of it, in the order in which they are tried.
static void append_with_canaries(const HostRoute& base, const std::vector<const HostRoute*>& canaries,
                                 std::vector<std::shared_ptr<const config::Route>>& out) {
  std::vector<const HostRoute*> weighted;
  for (const HostRoute* canary : canaries) {
    for (const CanaryRule::Decision& decision : canary->canary->cascade) {
      out.push_back(decision.canary ? conditional_canary(base, *canary, decision.condition)
                                    : kept_from_canary(base, *canary, decision.condition));
    }
    if (canary->canary->condition) {
      out.push_back(conditional_canary(base, *canary, *canary->canary->condition));
    } else if (canary->canary->cascade.empty() || canary->canary->weight > 0) {
      weighted.push_back(canary);
    }
  }
  out.push_back(weighted.empty() ? base.route : weighted_canaries(base, weighted));
}

// nginx: where one Ingress of a host makes its paths regular expressions, those of the others are too.
void HostTable::make_regexes(Host& host, std::vector<Candidate>& rules) {
  host.remade.clear();
  const bool wanted = std::any_of(host.effective.begin(), host.effective.end(),
                                  [](const Contributor& c) { return c.first->compiled.makes_regexes; });
  if (!wanted) return;
  for (Candidate& rule : rules) {
    if (!rule.entry->compiled.as_nginx || is_regex(*rule.route)) continue;
    config::PathMatch path;
    path.kind = PathMatch::Kind::kPrefixRegex;
    path.ignore_case = true;
    path.text = rule.route->route->path.text.empty() ? "/" : rule.route->route->path.text;
    std::string problem;
    if (!compile_regex("(?i)" + path.text + ".*", &path.regex, &problem)) {
      lose(host, rule,
           "another Ingress of the host makes its paths regular expressions, and " + problem + "; it stays a plain one",
           resource::Severity::kWarning);
      continue;
    }
    HostRoute& remade = host.remade.emplace_back(*rule.route);
    auto route = std::make_shared<config::Route>(*rule.route->route);
    route->path = std::move(path);
    remade.route = std::move(route);
    remade.seal();
    rule.route = &remade;
  }
}

void HostTable::add_default_backend(const std::string& name, Host& host, std::vector<Candidate>& rules) {
  bool has_root = std::any_of(rules.begin(), rules.end(), [](const Candidate& c) { return is_root_prefix(*c.route); });
  std::vector<Candidate> defaults;
  for (const auto& [entry, routes] : host.effective) {
    for (const HostRoute& route : routes->routes) {
      if (route.role == HostRoute::Role::kDefaultBackend) defaults.push_back({&route, entry});
    }
  }
  if (has_root || defaults.empty()) return;
  // Of several, the newest counts for `*` and the oldest for a named host.
  const Candidate winner = name == "*" ? defaults.back() : defaults.front();
  for (const Candidate& candidate : defaults) {
    if (candidate.entry == winner.entry) continue;
    lose(host, candidate,
         "host " + name + " has its default backend from " + winner.entry->object->key().to_string() +
             "; this one has no effect there");
  }
  rules.push_back(winner);
}

void HostTable::add_app_root(Host& host, std::vector<Candidate>& rules) {
  std::optional<Candidate> newest;
  for (const auto& [entry, routes] : host.effective) {
    for (const HostRoute& route : routes->routes) {
      if (route.role == HostRoute::Role::kAppRoot) newest = Candidate{&route, entry};
    }
  }
  if (newest && !rules.empty()) rules.push_back(*newest);
}

// As in ingress-nginx: the oldest Ingress decides, and the service of `/` gets the connections, whatever other paths
// there are.
std::shared_ptr<const config::PassthroughHost> HostTable::passthrough(const std::string& name, Host& host,
                                                                      const std::vector<Candidate>& rules) {
  using Severity = resource::Severity;
  const IngressEntry* oldest = nullptr;
  for (const auto& [entry, routes] : host.effective) {
    if (entry->compiled.canary || routes->routes.empty()) continue;
    if (!oldest && routes->claim != CompiledIngress::Host::Claim::kWwwRedirect) oldest = entry;
    if (!oldest || entry == oldest) continue;
    const Candidate loser{&routes->routes[0], entry};
    const std::string other = oldest->object->key().to_string();
    if (!oldest->compiled.passthrough && entry->compiled.passthrough) {
      lose(host, loser,
           "ssl-passthrough has no effect on host " + name + ": TLS for it ends here, as " + other +
               ", which is older, has it");
    } else if (oldest->compiled.passthrough) {
      lose(host, loser,
           "TLS connections for host " + name + " are passed through, as " + other +
               ", which is older, has it; rules of this Ingress are for plain HTTP",
           Severity::kWarning);
    }
  }
  if (!oldest || !oldest->compiled.passthrough) return nullptr;
  const HostRoute* root = nullptr;
  const HostRoute* own = nullptr;  // of the oldest Ingress, to report at
  for (const Candidate& rule : rules) {
    const std::string& path = rule.route->route->path.text;
    if (rule.entry == oldest && !own) own = rule.route;
    const bool is_root = path == "/" || path.empty();
    if (is_root && !root) root = rule.route;
    if (!is_root && rule.entry == oldest) {
      lose(host, rule, "is for plain HTTP only: with ssl-passthrough all TLS connections go to the service of path /",
           Severity::kWarning);
    }
  }
  if (name == "*" || !root) {
    if (own) {
      lose(host, {own, oldest},
           name == "*" ? "ssl-passthrough has no effect: it needs a rule with a host"
                       : "ssl-passthrough has no effect on host " + name +
                             ": it needs a rule with path /, whose service gets the connections");
    }
    return nullptr;
  }
  const PassthroughUse& use = *oldest->compiled.passthrough;
  auto out = std::make_shared<config::PassthroughHost>();
  out->domain = name;
  out->route = root->route;
  out->allow = use.allow;
  out->deny = use.deny;
  out->refused = use.refused;
  return out;
}

std::shared_ptr<const config::VirtualHost> HostTable::build(const std::string& name, Host& host) {
  host.losses.clear();
  choose_contributors(name, host);
  std::vector<Candidate> rules = living_rules(host);
  make_regexes(host, rules);
  const Canaries canaries = canaries_of(host, rules);
  set_passthrough(name, passthrough(name, host, rules));
  add_default_backend(name, host, rules);
  add_app_root(host, rules);
  std::vector<const HostRoute*> sorted;
  sorted.reserve(rules.size());
  for (const Candidate& rule : rules) sorted.push_back(rule.route);
  sort_routes(sorted);
  auto out = std::make_shared<config::VirtualHost>();
  out->domain = name;
  out->routes.reserve(sorted.size());
  for (const HostRoute* route : sorted) {
    auto at = canaries.empty() ? canaries.end() : canaries.find(route);
    if (at == canaries.end()) {
      out->routes.push_back(route->route);
    } else {
      append_with_canaries(*route, at->second, out->routes);
    }
  }
  config::index_paths(*out);
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
