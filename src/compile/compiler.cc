#include "compile/compiler.h"

#include <algorithm>

namespace sluice::compile {

using resource::Kind;

namespace {

// Older than any Ingress: nobody else decides how spans travel.
const Age kTracingAge{INT64_MIN, "tracing"};

}  // namespace

Compiler::Compiler(const resource::Store& store, Options options)
    : store_(store),
      options_(std::move(options)),
      clusters_(store_, options_, contexts_),
      tls_(store_, options_, contexts_),
      globals_(std::make_shared<config::Globals>()),
      snapshot_(std::make_shared<config::Snapshot>()) {
  defaults_.as_nginx = options_.as_nginx;
}

Compiler::~Compiler() = default;

void Compiler::set_resolved(const std::string& name, std::vector<net::Address> addresses) {
  clusters_.set_resolved(name, std::move(addresses));
}

void Compiler::set_health(const std::string& cluster, const net::Address& endpoint, bool healthy) {
  clusters_.set_health(cluster, endpoint, healthy);
}

Compiler::SnapshotPointer Compiler::apply(const resource::Changes& changes) {
  work_ = {};
  // All of the store has changed already: first every index learns of it, then what depends on them
  // is built.
  for (const resource::Change& change : changes) on_change(change);

  // Ages decide conflicts, so that the order of work doesn't matter; it is fixed for the sake of
  // slot numbers.
  compiled_.assign(marked_.begin(), marked_.end());
  std::sort(compiled_.begin(), compiled_.end());
  marked_.clear();
  for (const resource::ObjectKey& key : compiled_) compile(key);
  work_.ingresses = compiled_.size();

  auto next = std::make_shared<config::Snapshot>(*snapshot_);
  work_.clusters = clusters_.flush(*next);
  work_.tls_hosts = tls_.flush(*next, hosts_);
  work_.hosts = hosts_.flush(*next);
  if (next->globals != globals_) next->globals = globals_;
  if (!work_.any()) return snapshot_;
  ++next->version;
  snapshot_ = std::move(next);
  return snapshot_;
}

void Compiler::on_change(const resource::Change& change) {
  switch (change.key.kind) {
    case Kind::kIngress:
      marked_.insert(change.key);
      return;
    case Kind::kService:
      clusters_.on_change(change);
      recompile_users(clusters_.service_host(change.key.ns, change.key.name));
      return;
    case Kind::kEndpoints:
    case Kind::kEndpointSlice:
      return clusters_.on_change(change);
    case Kind::kMcpBridge:
      clusters_.on_change(change);
      for (const auto* bridge : {as<resource::McpBridge>(change.before), as<resource::McpBridge>(change.after)}) {
        if (!bridge) continue;
        for (const resource::Registry& registry : bridge->registries) recompile_users(registry.host());
      }
      return;
    case Kind::kSecret:
      clusters_.on_change(change);
      tls_.on_secret(change.key);
      recompile_users(change.key.to_string());
      return;
    case Kind::kConfigMap:
      recompile_users(change.key.to_string());
      if (change.key.ns != options_.system_namespace) return;
      if (change.key.name == kGlobalsConfigMap) on_globals(change.after);
      if (change.key.name == resource::kCredentialsConfigMap) on_credentials(change.after);
      return;
    case Kind::kWasmPlugin:
    case Kind::kHttp2Rpc:
      return;  // see unused_diagnostic()
    case Kind::kIngressClass:
      return;  // an Ingress names its class; nothing of the class object is looked at
  }
}

void Compiler::on_globals(const resource::ObjectPtr& object) {
  globals_diagnostics_.clear();
  if (!object) {
    // Deleted: the options stay, if there ever were any.
    if (defaults_.auth.unreadable) set_global_auth({});
    return;
  }
  const auto& map = *as<resource::ConfigMap>(object);
  auto parsed = parse_globals(map, filters_, options_, globals_diagnostics_);
  if (!parsed) {
    if (!globals_known_ && !globals_diagnostics_.empty()) on_unreadable_globals(map);
    return;
  }
  globals_known_ = true;
  set_defaults(std::move(parsed->ingresses));
  set_tracing(parsed->tracing, parsed->globals);
  tls_.set_defaults(parsed->tls);
  globals_ = std::make_shared<const config::Globals>(std::move(parsed->globals));
  clusters_.set_upstream_idle_timeout(globals_->upstream_idle_timeout);
  work_.globals = true;
}

// There are no previous options to go on with. Routes that a globalAuth should protect must not be open meanwhile; the
// text may be no YAML at all, so that the word alone decides.
void Compiler::on_unreadable_globals(const resource::ConfigMap& map) {
  const resource::Pair* text = resource::find(map.data, kGlobalsKey);
  ExternalAuthOptions auth;
  auth.unreadable = text && text->value.find("globalAuth") != std::string::npos;
  if (auth.unreadable) {
    resource::Diagnostic closed = globals_diagnostics_.back();
    closed.field = "data." + std::string(kGlobalsKey) + ": globalAuth";
    closed.message = "no version has been good since the start: routes that it holds for answer 503 until one is";
    globals_diagnostics_.push_back(std::move(closed));
  }
  set_global_auth(std::move(auth));
}

void Compiler::set_global_auth(ExternalAuthOptions auth) {
  IngressDefaults defaults = defaults_;
  defaults.auth = std::move(auth);
  set_defaults(std::move(defaults));
}

void Compiler::set_defaults(IngressDefaults defaults) {
  if (defaults == defaults_) return;
  defaults_ = std::move(defaults);
  for (const auto& [key, entry] : ingresses_) marked_.insert(key);
}

// The provider's service is a cluster as those of routes are, kept as long as tracing goes there.
void Compiler::set_tracing(const std::optional<TracingOptions>& options, config::Globals& globals) {
  const std::optional<TracingTarget> before = std::exchange(tracing_, std::nullopt);
  if (options) {
    const ClusterKey key{options->service, options->port, {}};
    auto service = std::make_shared<ServiceOptions>();
    service->any = true;
    using Provider = config::Tracing::Provider;
    const bool grpc =
        options->tracing.provider == Provider::kOtlpGrpc || options->tracing.provider == Provider::kSkyWalking;
    service->protocol = grpc ? ServiceOptions::Protocol::kGrpc : ServiceOptions::Protocol::kUnset;
    if (before) clusters_.withdraw(before->key.host, before->key.port, kTracingAge);
    if (grpc) clusters_.offer(key.host, key.port, kTracingAge, std::move(service));
    tracing_ = TracingTarget{key, clusters_.acquire(key)};
    auto tracing = std::make_shared<config::Tracing>(options->tracing);
    tracing->cluster = tracing_->slot;
    tracing->cluster_name = key.name();
    globals.tracing = std::move(tracing);
  } else if (before) {
    clusters_.withdraw(before->key.host, before->key.port, kTracingAge);
  }
  if (before) clusters_.release(before->slot);
}

void Compiler::on_credentials(const resource::ObjectPtr& object) {
  credentials_diagnostics_.clear();
  if (!object) return tls_.set_credentials({});
  auto parsed = resource::parse_credentials(*as<resource::ConfigMap>(object), credentials_diagnostics_);
  if (parsed) tls_.set_credentials(std::move(*parsed));
}

void Compiler::recompile_users(const std::string& host) {
  auto at = needs_.find(host);
  if (at != needs_.end()) marked_.insert(at->second.begin(), at->second.end());
}

void Compiler::index_needs(const resource::ObjectKey& key, const IngressEntry& entry, bool insert) {
  for (const std::string& host : entry.compiled.needs) {
    if (insert) {
      needs_[host].insert(key);
      continue;
    }
    auto at = needs_.find(host);
    if (at == needs_.end()) continue;
    at->second.erase(key);
    if (at->second.empty()) needs_.erase(at);
  }
}

void Compiler::remove_ingress(IngressEntry& entry) {
  hosts_.remove(entry);
  tls_.remove(entry);
  index_needs(entry.object->key(), entry, false);
  for (const auto& use : entry.compiled.clusters) {
    if (entry.compiled.service_options && use.backend) clusters_.withdraw(use.host, use.port, entry.age);
    clusters_.release(use.slot);
  }
}

void Compiler::compile(const resource::ObjectKey& key) {
  auto object = std::static_pointer_cast<const resource::Ingress>(store_.find(key));
  std::unique_ptr<IngressEntry> fresh;
  if (object && is_accepted(*object, options_)) {
    fresh = std::make_unique<IngressEntry>();
    fresh->age = Age::of(object->meta);
    fresh->compiled = compile_ingress(*object, store_, options_, defaults_, clusters_, filters_);
    fresh->object = std::move(object);
  }
  // The new one takes its clusters before the old one gives them back, so that they keep their
  // slots.
  auto at = ingresses_.find(key);
  if (at != ingresses_.end()) remove_ingress(*at->second);
  if (!fresh) {
    if (at != ingresses_.end()) ingresses_.erase(at);
    return;
  }
  IngressEntry& entry = *fresh;
  if (at != ingresses_.end()) {
    at->second = std::move(fresh);
  } else {
    ingresses_.emplace(key, std::move(fresh));
  }
  if (entry.compiled.service_options) {
    for (const auto& use : entry.compiled.clusters) {
      if (use.backend) clusters_.offer(use.host, use.port, entry.age, entry.compiled.service_options);
    }
  }
  index_needs(key, entry, true);
  hosts_.add(entry);
  tls_.add(entry);
}

void Compiler::ingress_diagnostics(const IngressEntry& entry, resource::Diagnostics& out) const {
  const resource::Ingress& ingress = *entry.object;
  out.insert(out.end(), entry.compiled.diagnostics.begin(), entry.compiled.diagnostics.end());
  hosts_.diagnostics(entry, out);
  tls_.diagnostics(entry, out);
  auto add = [&](resource::Severity severity, const CompiledIngress::ClusterUse& use, std::string message) {
    out.push_back({severity, ingress.meta.file ? *ingress.meta.file : std::string(), use.mark.line, use.mark.column,
                   ingress.key().to_string(), use.field, std::move(message)});
  };
  for (const auto& use : entry.compiled.clusters) {
    if (std::string problem = clusters_.problem(use.slot); !problem.empty()) {
      add(resource::Severity::kWarning, use, std::move(problem));
    }
    if (entry.compiled.service_options && use.backend && clusters_.is_overruled(use.host, use.port, entry.age)) {
      add(resource::Severity::kWarning, use,
          "an older Ingress decides the upstream annotations (load-balance, backend-protocol, …) "
          "of " +
              use.host + ":" + std::to_string(use.port) + "; those of this Ingress have no effect on it");
    }
  }
}

resource::Diagnostics Compiler::globals_diagnostics() const {
  resource::Diagnostics out = globals_diagnostics_;
  if (!tracing_) return out;
  if (std::string problem = clusters_.problem(tracing_->slot); !problem.empty()) {
    const resource::ObjectKey key{Kind::kConfigMap, options_.system_namespace, kGlobalsConfigMap};
    const resource::ObjectPtr object = store_.find(key);
    const std::string file = object && object->meta.file ? *object->meta.file : std::string();
    out.push_back({resource::Severity::kWarning, file, object ? object->meta.mark.line : 0, 0, key.to_string(),
                   "data.higress: tracing", std::move(problem) + "; spans are lost"});
  }
  return out;
}

// Objects that are checked and kept, but that nothing uses yet.
std::optional<resource::Diagnostic> Compiler::unused_diagnostic(const resource::Object& object) const {
  const bool plugin = object.kind == Kind::kWasmPlugin;
  if (!plugin && object.kind != Kind::kHttp2Rpc) return std::nullopt;
  return resource::Diagnostic{resource::Severity::kWarning,
                              object.meta.file ? *object.meta.file : std::string(),
                              object.meta.mark.line,
                              object.meta.mark.column,
                              object.key().to_string(),
                              {},
                              plugin ? "plugins are not run by this version: requests pass without it"
                                     : "Dubbo is not spoken by this version: it has no effect"};
}

resource::Diagnostics Compiler::diagnostics() const {
  resource::Diagnostics out = globals_diagnostics();
  out.insert(out.end(), credentials_diagnostics_.begin(), credentials_diagnostics_.end());
  std::vector<const IngressEntry*> entries;
  for (const auto& [key, entry] : ingresses_) entries.push_back(entry.get());
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->age.name < b->age.name; });
  for (const IngressEntry* entry : entries) ingress_diagnostics(*entry, out);
  clusters_.diagnostics(out);
  store_.for_each([&](const resource::ObjectPtr& object) {
    if (auto unused = unused_diagnostic(*object)) out.push_back(std::move(*unused));
  });
  return out;
}

resource::Diagnostics Compiler::diagnostics(const resource::ObjectKey& key) const {
  resource::Diagnostics out;
  if (key.kind == Kind::kWasmPlugin || key.kind == Kind::kHttp2Rpc) {
    const resource::ObjectPtr object = store_.find(key);
    if (object) out.push_back(*unused_diagnostic(*object));
    return out;
  }
  if (key.kind == Kind::kIngress) {
    if (auto at = ingresses_.find(key); at != ingresses_.end()) ingress_diagnostics(*at->second, out);
  } else if (key.kind == Kind::kConfigMap) {
    if (key.ns != options_.system_namespace) return out;
    if (key.name == kGlobalsConfigMap) out = globals_diagnostics();
    if (key.name == resource::kCredentialsConfigMap) out = credentials_diagnostics_;
  } else if (key.kind == Kind::kSecret) {
    tls_.diagnostics_of_secret(key, out);
    resource::Diagnostics all;
    clusters_.diagnostics(all);
    for (auto& diagnostic : all) {
      if (diagnostic.object == key.to_string()) out.push_back(std::move(diagnostic));
    }
  }
  return out;
}

}  // namespace sluice::compile
