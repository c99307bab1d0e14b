#include "compile/ingress_routes.h"

#include <algorithm>
#include <map>

#include "compile/annotation_values.h"
#include "compile/auth_secret.h"
#include "compile/canary.h"
#include "compile/filter_config.h"
#include "compile/globals.h"
#include "compile/route_options.h"
#include "plugins/message_edit.h"
#include "plugins/refusal.h"
#include "plugins/schema.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

using resource::in_quotes;
using resource::IngressBackend;
using resource::Severity;

constexpr uint16_t kListenerPort = 80;  // of a destination that names no port and has none of its own

class IngressCompiler {
 public:
  IngressCompiler(const resource::Ingress& ingress, const resource::Store& store, const Options& options,
                  const IngressDefaults& defaults, ClusterTable& clusters, FilterCache& filters)
      : ingress_(ingress),
        store_(store),
        options_(options),
        defaults_(defaults),
        clusters_(clusters),
        filters_(filters) {}

  CompiledIngress compile() {
    annotations_ = parse_annotations(ingress_, defaults_.as_nginx, out_.diagnostics);
    if (annotations_.external_auth.url.empty() && !annotations_.external_auth.fields.empty()) {
      report_annotation(Severity::kWarning, "auth-snippet", "has no effect without auth-url");
    }
    if (annotations_.external_auth.url.empty() && annotations_.external_auth.global) {
      annotations_.external_auth = defaults_.auth;
    }
    if (annotations_.service.any) out_.service_options = std::make_shared<ServiceOptions>(annotations_.service);
    name_ = ingress_.meta.ns == options_.system_namespace ? ingress_.meta.name
                                                          : ingress_.meta.ns + "/" + ingress_.meta.name;
    if (annotations_.canary.enable) canary_rule();
    ingress_name_ = ingress_.meta.ns + "/" + ingress_.meta.name;
    build_shared_parts();
    if (!canary_) access_notes(annotations_.addresses, notes_);
    for (size_t i = 0; i < ingress_.rules.size(); ++i) rule(ingress_.rules[i], i);
    if (!canary_) {
      default_backend();
      app_root();
      aliases();
      www_redirects();
      tls();
      if (annotations_.ssl_passthrough) passthrough();
    }
    out_.canary = canary_ != nullptr;
    out_.as_nginx = annotations_.as_nginx;
    out_.makes_regexes =
        annotations_.as_nginx && !canary_ && (annotations_.use_regex || !annotations_.rewrite_target.empty());
    return std::move(out_);
  }

 private:
  void report(Severity severity, std::string field, resource::Mark mark, std::string message) {
    out_.diagnostics.push_back({severity, ingress_.meta.file ? *ingress_.meta.file : std::string(), mark.line,
                                mark.column, ingress_.key().to_string(), std::move(field), std::move(message)});
  }

  // Annotations are reported where they stand in the file.
  void report_annotation(Severity severity, std::string_view key, std::string message) {
    for (const resource::Pair& pair : ingress_.meta.annotations) {
      if (!pair.key.ends_with(key) && pair.key.find(key) == pair.key.npos) continue;
      return report(severity, "metadata.annotations[" + pair.key + "]", pair.mark, std::move(message));
    }
    report(severity, "metadata.annotations", ingress_.meta.mark, std::move(message));
  }

  CompiledIngress::Host& host(const std::string& name) {
    for (auto& known : out_.hosts) {
      if (known.name == name) return known;
    }
    return out_.hosts.emplace_back(CompiledIngress::Host{.name = name});
  }

  // --- what all routes of the Ingress share ---

  void build_shared_parts() {
    const config::RouteTracing& tracing = annotations_.tracing;
    using Switch = config::RouteTracing::Switch;
    if (tracing.enable != Switch::kUnset || tracing.trust_incoming != Switch::kUnset || !tracing.operation.empty()) {
      tracing_ = std::make_shared<const config::RouteTracing>(tracing);
    }
    if (annotations_.retry.any) retry_ = retry_policy(annotations_.retry, annotations_.as_nginx);
    const RedirectOptions& redirects = annotations_.redirect;
    if (annotations_.as_nginx && redirects.temporal.empty() && redirects.permanent.empty() && !redirects.force_https) {
      if (redirects.to_https.value_or(true)) redirect_with_tls_ = redirect({.to_https = true});
    } else {
      redirect_ = redirect(redirects);
    }
    affinity_ = sticky_affinity();
    if (!canary_) {
      refusal_ = annotations_.refusal;
      if (annotations_.auth.any()) authentication();
      client_certificates();
      if (!annotations_.custom_headers.empty()) custom_headers();
      if (!annotations_.external_auth.url.empty()) external_authentication();
      if (annotations_.external_auth.unreadable) {
        refuse("enable-global-auth",
               "the globalAuth of ConfigMap " + options_.system_namespace + "/" + kGlobalsConfigMap + " can't be read");
      }
      if (annotations_.mirror.any()) mirror();
      fallback();
    }
    for (const std::string& method : annotations_.methods) method_length_ += static_cast<uint32_t>(method.size() + 1);
    if (method_length_) --method_length_;
    conditions_key_ = "|" + annotations_.raw_methods + "|";
    for (const config::ValueMatch& match : annotations_.conditions) {
      bool query = match.source == config::ValueMatch::Source::kQuery;
      ++(query ? query_conditions_ : header_conditions_);
      conditions_key_ += std::to_string(static_cast<int>(match.source)) + match.name + "\x01" +
                         std::to_string(static_cast<int>(match.kind)) + match.value + "\x02";
    }
  }

  // A canary's routes are copies of its base's: only what makes it one counts, beside its header edits.
  void canary_rule() {
    CanaryOptions& options = annotations_.canary;
    if (options.header.empty() && (!options.header_value.empty() || !options.header_pattern.empty())) {
      report_annotation(Severity::kWarning, "canary-by-header-", "has no effect without canary-by-header");
    }
    auto rule = std::make_shared<CanaryRule>();
    if (annotations_.as_nginx) {
      rule->cascade = canary_cascade(options);
    } else {
      rule->condition = canary_condition(options);
    }
    rule->weight = static_cast<uint64_t>(options.weight);
    if (options.weight_total) rule->weight_total = static_cast<uint64_t>(*options.weight_total);
    canary_ = std::move(rule);
    std::string unused;
    for (const std::string& key : without_effect_in_canary(ingress_)) unused += (unused.empty() ? "" : ", ") + key;
    if (!unused.empty()) {
      report_annotation(Severity::kWarning, "/canary",
                        "of a canary Ingress these have no effect, those of its base apply: " + unused);
    }
    if (ingress_.default_backend.type != IngressBackend::Type::kNone) {
      report(Severity::kWarning, "spec.defaultBackend", ingress_.meta.mark, "has no effect in a canary Ingress");
    }
  }

  // --- access ---

  void refuse(std::string_view key, std::string why) {
    report_annotation(Severity::kError, key, why + "; the Ingress's routes answer 503");
    if (refusal_.empty()) refusal_ = std::move(why);
  }

  void authentication() {
    const AuthOptions& auth = annotations_.auth;
    if (auth.type.empty()) return refuse("auth-secret", "is given without a valid auth-type");
    if (auth.secret.empty()) return refuse("auth-type", "is given without a valid auth-secret");
    const std::string name = "Secret " + auth.secret.to_string();
    out_.needs.push_back(name);
    const auto* secret = store_.get<resource::Secret>(auth.secret.ns, auth.secret.name);
    if (!secret) return refuse("auth-secret", name + " does not exist");
    auto users = read_users(*secret, auth.secret_is_map);
    if (!users) return refuse("auth-secret", name + ": " + users.error().message);
    auth_users_ = std::move(*users);
    notes_.push_back("basic authentication by " + name);
  }

  void client_certificates() {
    using Verify = TlsOptions::Verify;
    const TlsOptions& tls = annotations_.tls;
    if (tls.asks_clients()) {
      if (tls.verify != Verify::kOn) notes_.push_back("a client certificate is optional");
      if (!annotations_.client_certificate.match_subject.empty()) {
        notes_.push_back("client certificates must match " + annotations_.client_certificate.match_subject);
      }
      return;
    }
    if (!annotations_.client_certificate.match_subject.empty()) {
      return refuse("auth-tls-match-cn", "there are no client certificates without auth-tls-secret");
    }
    if (tls.client_ca.empty() && (tls.verify_depth >= 0 || tls.error_page || tls.verify != Verify::kOn)) {
      report_annotation(Severity::kWarning, "auth-tls-", "has no effect without auth-tls-secret");
    }
  }

  // A ConfigMap's entries, followed live. Null, and the routes closed, if there is none.
  const resource::ConfigMap* guarding_map(std::string_view annotation, const SecretRef& ref) {
    const std::string name = "ConfigMap " + ref.to_string();
    out_.needs.push_back(name);
    const auto* map = store_.get<resource::ConfigMap>(ref.ns, ref.name);
    if (!map) refuse(annotation, name + " does not exist");
    return map;
  }

  void external_authentication() {
    const ExternalAuthOptions& options = annotations_.external_auth;
    notes_.push_back("external authentication by " + options.url);
    if (!options.headers_map.empty()) {
      const resource::ConfigMap* map = guarding_map("auth-proxy-set-headers", options.headers_map);
      if (!map) return;
      for (const resource::Pair& entry : map->data) auth_headers_.emplace_back(entry.key, entry.value);
    }
    auth_headers_.insert(auth_headers_.end(), options.fields.begin(), options.fields.end());
  }

  // One that is missing, or a field that can't be set, is left out.
  void custom_headers() {
    const SecretRef& ref = annotations_.custom_headers;
    const std::string name = "ConfigMap " + ref.to_string();
    out_.needs.push_back(name);
    const auto* map = store_.get<resource::ConfigMap>(ref.ns, ref.name);
    if (!map) return report_annotation(Severity::kError, "custom-headers", name + " does not exist; no field is set");
    for (const resource::Pair& entry : map->data) {
      std::string field = entry.key, value = entry.value;
      std::string problem = plugins::check_header_name(field);
      if (problem.empty() && (plugins::is_framing_field(field) || field == "host")) problem = "can't be set";
      if (problem.empty()) problem = plugins::check_header_value(value);
      if (problem.empty()) {
        custom_headers_.emplace_back(std::move(field), std::move(value));
      } else {
        report_annotation(Severity::kError, "custom-headers",
                          name + ": " + in_quotes(entry.key) + " is left out: " + problem);
      }
    }
  }

  // Where requests for a host are decided about. Null: by nobody, or nobody can be asked (then the routes are closed).
  const AuthTarget* auth_target(const std::string& host_name) {
    const ExternalAuthOptions& options = annotations_.external_auth;
    if (canary_ || options.url.empty()) return nullptr;
    const bool by_rule = options.host == "$host";
    if (by_rule && host_name.starts_with('*')) {
      if (refusal_.empty()) {
        refuse("auth-url",
               "$host stands for the rule's host, and " + in_quotes(host_name) + " is none that can be asked");
      }
      return nullptr;
    }
    const std::string& host = by_rule ? host_name : options.host;
    AuthTarget& target = auth_targets_[host];
    if (!target.cluster.empty()) return &target;
    out_.needs.push_back(host);
    const ClusterKey key = clusters_.key_of_url(host, options.port, options.https);
    acquire_auxiliary(key, "auth-url");
    target = {key.name(), host, auth_headers_};
    return &target;
  }

  // --- other services ---

  // The first port of a Service, or the given one if it has it. Nothing, and a message, if there is no such Service.
  std::optional<ClusterKey> existing_service(std::string_view annotation, const std::string& ns,
                                             const std::string& name, uint16_t port) {
    ClusterKey key{clusters_.service_host(ns, name), port, {}};
    out_.needs.push_back(key.host);
    const auto first = clusters_.first_port(key.host);
    if (!first) {
      report_annotation(Severity::kError, annotation,
                        "Service " + ns + "/" + name + " does not exist or has no port; the annotation has no effect");
      return std::nullopt;
    }
    if (port && !clusters_.has_port(key.host, port)) {
      report_annotation(Severity::kWarning, annotation,
                        "Service " + ns + "/" + name + " has no port " + std::to_string(port) + "; its first port " +
                            std::to_string(*first) + " is used");
      key.port = 0;
    }
    if (!key.port) key.port = *first;
    return key;
  }

  uint32_t acquire_auxiliary(const ClusterKey& key, std::string_view annotation) {
    const uint32_t slot = clusters_.acquire(key);
    out_.clusters.push_back(
        {slot, key.host, key.port, "metadata.annotations " + std::string(annotation), ingress_.meta.mark, false});
    return slot;
  }

  void mirror() {
    const MirrorOptions& options = annotations_.mirror;
    std::optional<ClusterKey> key;
    const char* annotation = "mirror-target-service";
    if (!options.url_host.empty()) {
      annotation = "mirror-target";
      out_.needs.push_back(options.url_host);
      key = clusters_.key_of_url(options.url_host, options.url_port, options.url_https);
    } else if (!options.fqdn.empty()) {
      annotation = "mirror-target-fqdn";
      key = ClusterKey{options.fqdn, static_cast<uint16_t>(options.fqdn_port), {}};
    } else {
      key = existing_service("mirror-target-service", options.service_ns, options.service, options.service_port);
    }
    if (!key || options.percentage <= 0) return;
    acquire_auxiliary(*key, annotation);
    mirror_cluster_ = key->name();
    notes_.push_back("copies " + std::to_string(options.percentage) + "% of the requests to " + mirror_cluster_);
  }

  void fallback() {
    const FallbackOptions& options = annotations_.fallback;
    if (options.service.empty()) {
      if (!options.error_codes.empty()) {
        report_annotation(Severity::kWarning, "custom-http-errors", "has no effect without a valid default-backend");
      }
      return;
    }
    const auto key = existing_service("default-backend", options.ns, options.service, 0);
    if (!key) return;
    auto out = std::make_shared<config::Fallback>();
    out->cluster = acquire_auxiliary(*key, "default-backend");
    out->cluster_name = key->name();
    out->service = options.ns + "/" + options.service;
    if (options.intercept) out->statuses = options.error_codes;
    if (annotations_.as_nginx) {
      out->ingress_ns = ingress_.meta.ns;
      out->ingress = ingress_.meta.name;
    }
    std::string note = "falls back to " + out->cluster_name + " without a usable endpoint";
    for (uint16_t status : out->statuses) note += ", " + std::to_string(status);
    notes_.push_back(std::move(note));
    fallback_ = std::move(out);
  }

  // --- rules ---

  void rule(const resource::IngressRule& rule, size_t index) {
    std::string name = rule.host.empty() ? "*" : rule.host;
    host(name);  // exists even if all its paths are dropped: defaultBackend and TLS look at it
    for (size_t i = 0; i < rule.paths.size(); ++i) {
      std::string field = "spec.rules[" + std::to_string(index) + "].http.paths[" + std::to_string(i) + "]";
      path(name, rule.paths[i], std::move(field));
    }
  }

  void path(const std::string& host_name, const resource::IngressPath& path, std::string field) {
    auto match = rule_path(path, field);
    if (!match) return;
    auto route = std::make_shared<config::Route>();
    route->name = name_;
    route->path = std::move(*match);
    if (!destinations(path.backend, field + ".backend", path.mark, *route)) return;
    HostRoute out;
    out.rule_key = std::to_string(static_cast<int>(route->path.kind)) + route->path.text + conditions_key_;
    finish(*route, host_name, field, &out);
    out.affinity = affinity_;
    if (canary_) {
      out.role = HostRoute::Role::kCanary;
      out.canary = canary_;
    }
    out.route = std::move(route);
    out.mark = path.mark;
    out.field = std::move(field);
    out.method_length = method_length_;
    out.header_conditions = header_conditions_;
    out.query_conditions = query_conditions_;
    out.seal();
    host(host_name).routes.push_back(std::move(out));
  }

  std::optional<config::PathMatch> rule_path(const resource::IngressPath& path, const std::string& field) {
    std::string error;
    auto out = path_match(path, annotations_, &error);
    if (!out) report(Severity::kError, field + ".path", path.mark, error + "; the path is left out");
    return out;
  }

  // A client keeps the side of a canary by the cookie of its affinity.
  std::shared_ptr<const config::HashPolicy> sticky_affinity() const {
    const ServiceOptions& options = annotations_.service;
    if (!options.affinity || !options.affinity_sticky.value_or(annotations_.as_nginx)) return nullptr;
    return std::make_shared<const config::HashPolicy>(affinity_policy(options));
  }

  // Everything but path and backend. `place`: learns where the filters are that edit headers.
  void finish(config::Route& route, const std::string& host_name, const std::string& field,
              HostRoute* place = nullptr) {
    route.origin = ingress_.key().to_string() + " " + field;
    route.methods = annotations_.methods;
    route.conditions = annotations_.conditions;
    route.timeout = std::chrono::seconds(annotations_.timeout_seconds);
    route.read_timeout = std::chrono::seconds(annotations_.read_timeout_seconds);
    route.send_timeout = std::chrono::seconds(annotations_.send_timeout_seconds);
    route.retry = retry_;
    const std::shared_ptr<const config::Redirect>& redirect =
        redirect_with_tls_ && find_tls(ingress_, host_name) ? redirect_with_tls_ : redirect_;
    route.redirect = redirect;
    route.fallback = fallback_;
    route.access_log = annotations_.access_log;
    route.http10 = annotations_.http10;
    route.tracing = tracing_;
    route.notes = notes_;
    for (const Destination& destination : pending_) route.total_weight += destination.weight;
    for (Destination& destination : pending_) route.destinations.push_back(std::move(destination));
    pending_.clear();
    const RouteFacts facts{route.path,
                           redirect.get(),
                           auth_users_.empty() ? nullptr : &auth_users_,
                           mirror_cluster_,
                           custom_headers_,
                           ingress_name_,
                           auth_target(host_name)};
    std::string refusal = refusal_;
    for (const FilterSpec& spec : route_filters(annotations_, facts)) {
      if (canary_ && spec.stage != FilterSpec::Stage::kHeaderEdits) continue;
      auto factory = filters_.get(spec, route.origin);
      if (factory) {
        if (place && spec.stage == FilterSpec::Stage::kEarly) ++place->header_filters_at;
        if (place && spec.stage == FilterSpec::Stage::kHeaderEdits) ++place->header_filters;
        route.filters.push_back(std::move(*factory));
        continue;
      }
      std::string message = "filter " + spec.name + ": " + factory.error().message;
      if (spec.guards) {
        if (refusal.empty()) refusal = message;
        message += "; the routes answer 503";
      }
      if (reported_filters_.insert(message).second)
        report_annotation(Severity::kError, spec.source, std::move(message));
    }
    if (refusal.empty()) return;
    // Must not be served as it is configured.
    route.filters = {plugins::refusal()};
    route.redirect = nullptr;
    route.notes = {"refused: " + refusal};
    if (place) place->header_filters_at = 1, place->header_filters = 0;
  }

  // --- backends ---

  using Destination = config::Destination;

  void use_cluster(ClusterKey key, uint32_t weight, const std::string& field, resource::Mark mark) {
    uint32_t slot = clusters_.acquire(key);
    out_.clusters.push_back({slot, key.host, key.port, field, mark, true});
    Destination destination;
    destination.cluster = slot;
    destination.weight = weight;
    destination.cluster_name = key.name();
    pending_.push_back(std::move(destination));
  }

  // Fills pending_. False: the backend is no good and its path is left out.
  bool destinations(const IngressBackend& backend, const std::string& field, resource::Mark mark,
                    config::Route& route) {
    pending_.clear();
    if (backend.mark.line) mark = backend.mark;
    if (backend.type == IngressBackend::Type::kService) return service_destination(backend, field, mark);
    return resource_destinations(field, mark);
  }

  bool service_destination(const IngressBackend& backend, const std::string& field, resource::Mark mark) {
    std::string service = clusters_.service_host(ingress_.meta.ns, backend.service);
    uint16_t port = backend.port.number;
    if (!port) {
      out_.needs.push_back(service);
      auto number = clusters_.port_by_name(ingress_.meta.ns, backend.service, backend.port.name);
      if (!number) {
        report(Severity::kError, field + ".service.port.name", mark,
               "Service " + ingress_.meta.ns + "/" + backend.service + " has no port named " +
                   in_quotes(backend.port.name) + "; the path is left out until it has");
        return false;
      }
      port = *number;
    }
    use_cluster({std::move(service), port, {}}, 1, field, mark);
    return true;
  }

  bool resource_destinations(const std::string& field, resource::Mark mark) {
    if (annotations_.destinations.empty()) {
      report(Severity::kError, field + ".resource", mark,
             "a resource backend needs a valid annotation higress.io/destination; the path is left "
             "out");
      return false;
    }
    for (const DestinationLine& line : annotations_.destinations) {
      uint16_t port = line.port;
      if (!port) {
        out_.needs.push_back(line.host);
        port = clusters_.only_port(line.host).value_or(kListenerPort);
      }
      use_cluster({line.host, port, line.subset}, line.weight, field, mark);
    }
    return true;
  }

  void default_backend() {
    const IngressBackend& backend = ingress_.default_backend;
    if (backend.type == IngressBackend::Type::kNone) return;
    const std::string field = "spec.defaultBackend";
    if (backend.type == IngressBackend::Type::kResource &&
        (backend.resource_group != "networking.higress.io" || backend.resource_kind != "McpBridge" ||
         backend.resource_name != "default")) {
      return report(Severity::kError, field + ".resource", backend.mark,
                    "must be apiGroup networking.higress.io, kind McpBridge, name default");
    }
    auto route = std::make_shared<config::Route>();
    if (!destinations(backend, field, backend.mark, *route)) return;
    route->name = name_ + "-default";
    finish(*route, "*", field);
    route->methods.clear();
    route->conditions.clear();
    HostRoute out;
    out.role = HostRoute::Role::kDefaultBackend;
    out.route = std::move(route);
    out.field = field;
    out.mark = backend.mark;
    out.seal();
    host("*");
    for (auto& known : out_.hosts) known.routes.push_back(out);
  }

  void app_root() {
    if (annotations_.app_root.empty()) return;
    for (auto& known : out_.hosts) {
      auto redirect = std::make_shared<config::Redirect>();
      redirect->status = 302;
      redirect->path = annotations_.app_root;
      redirect->relative = annotations_.relative_redirects;
      auto out = redirect_route(std::move(redirect), "app-root");
      if (!out) continue;
      out->route->name = known.name + "-app-root";
      out->route->path.kind = config::PathMatch::Kind::kExact;
      out->route->path.text = "/";
      out->role = HostRoute::Role::kAppRoot;
      out->seal();
      known.routes.push_back(std::move(*out));
    }
  }

  // --- further hosts ---

  bool has_host(const std::string& name) const {
    return std::any_of(out_.hosts.begin(), out_.hosts.end(), [&](const auto& known) { return known.name == name; });
  }

  void aliases() {
    if (annotations_.aliases.empty()) return;
    if (out_.hosts.empty() || out_.hosts[0].name == "*") {
      return report_annotation(Severity::kWarning, "server-alias",
                               "has no effect: the Ingress's first rule has no host");
    }
    for (const std::string& name : annotations_.aliases) {
      if (has_host(name)) continue;
      CompiledIngress::Host alias = out_.hosts[0];
      alias.claim = CompiledIngress::Host::Claim::kAlias;
      alias.stands_for = std::exchange(alias.name, name);
      out_.hosts.push_back(std::move(alias));
    }
  }

  void www_redirects() {
    if (!annotations_.from_to_www) return;
    using Claim = CompiledIngress::Host::Claim;
    for (size_t i = 0, n = out_.hosts.size(); i < n; ++i) {
      const std::string name = out_.hosts[i].name;
      if (out_.hosts[i].claim != Claim::kRule || name.starts_with('*')) continue;
      std::string other = name.starts_with("www.") ? name.substr(4) : "www." + name;
      if (has_host(other)) continue;
      auto redirect = std::make_shared<config::Redirect>();
      redirect->status = 308;
      redirect->host = name;
      if (auto route = redirect_route(redirect, "from-to-www-redirect")) {
        route->route->name = other + "-www-redirect";
        route->rule_key = "www";
        route->seal();
        out_.hosts.push_back({other, {std::move(*route)}, Claim::kWwwRedirect, name});
      }
    }
  }

  // A route for all paths that redirects. Nothing, and a message, if that can't be.
  std::optional<HostRoute> redirect_route(std::shared_ptr<config::Redirect> redirect, const std::string& annotation) {
    auto route = std::make_shared<config::Route>();
    route->origin = ingress_.key().to_string() + " metadata.annotations " + annotation;
    auto filter = filters_.get(redirect_filter(*redirect, annotation), route->origin);
    if (!filter) {
      report_annotation(Severity::kError, annotation, filter.error().message);
      return std::nullopt;
    }
    route->filters.push_back(std::move(*filter));
    route->redirect = std::move(redirect);
    HostRoute out;
    out.route = std::move(route);
    out.field = "metadata.annotations " + annotation;
    out.mark = ingress_.meta.mark;
    return out;
  }

  // --- TLS ---

  void tls() {
    out_.tls_options = annotations_.tls;
    for (const auto& known : out_.hosts) {
      const resource::IngressTls* entry = find_tls(ingress_, known.name);
      if (!entry && !known.stands_for.empty()) entry = find_tls(ingress_, known.stands_for);
      if (!entry && !annotations_.tls.any && ingress_.tls.empty()) continue;
      CompiledIngress::TlsUse use{known.name, {}};
      use.claimed = known.claim == CompiledIngress::Host::Claim::kRule;
      use.asks = !entry && !ingress_.tls.empty();
      if (entry) use.secret = {ingress_.meta.ns, entry->secret};
      out_.tls.push_back(std::move(use));
    }
  }

  void passthrough() {
    PassthroughUse use;
    use.refused = !refusal_.empty();
    for (const auto& [texts, networks] :
         {std::pair{&annotations_.addresses.allow, &use.allow}, std::pair{&annotations_.addresses.deny, &use.deny}}) {
      for (const std::string& text : *texts) {
        if (auto network = net::Cidr::parse(text)) networks->push_back(std::move(*network));
      }
    }
    std::string unused;
    for (const std::string& key : without_effect_in_passthrough(ingress_)) unused += (unused.empty() ? "" : ", ") + key;
    if (!unused.empty()) {
      report_annotation(Severity::kWarning, "ssl-passthrough",
                        "TLS connections are passed through, so that these hold for plain HTTP only: " + unused);
    }
    out_.passthrough = std::move(use);
  }

  const resource::Ingress& ingress_;
  const resource::Store& store_;
  const Options& options_;
  const IngressDefaults& defaults_;
  ClusterTable& clusters_;
  FilterCache& filters_;
  IngressOptions annotations_;
  CompiledIngress out_;
  std::string name_;
  std::shared_ptr<const config::RetryPolicy> retry_;
  std::shared_ptr<const config::Redirect> redirect_;
  std::shared_ptr<const config::Redirect> redirect_with_tls_;  // of hosts with a certificate, before redirect_
  std::shared_ptr<const config::Fallback> fallback_;
  std::shared_ptr<const CanaryRule> canary_;  // null: not a canary Ingress
  std::string refusal_;                       // why the routes must not be served; empty: they may
  std::shared_ptr<const config::HashPolicy> affinity_;
  std::vector<std::string> auth_users_;
  HeaderEdits auth_headers_, custom_headers_;
  std::shared_ptr<const config::RouteTracing> tracing_;
  std::map<std::string, AuthTarget> auth_targets_;  // by host
  std::string mirror_cluster_, ingress_name_;
  std::vector<std::string> notes_;
  std::string conditions_key_;
  uint32_t method_length_ = 0, header_conditions_ = 0, query_conditions_ = 0;
  std::vector<Destination> pending_;
  std::set<std::string> reported_filters_;
};

}  // namespace

Result<plugins::FactoryPointer> FilterCache::get(const FilterSpec& spec, const std::string& route) {
  std::string key = fingerprint(spec);
  if (spec.stateful) key += "\n" + route;
  if (auto at = shared_.find(key); at != shared_.end()) {
    if (auto factory = at->second.lock()) return plugins::FactoryPointer(std::move(factory));
  }
  const plugins::Plugin* plugin = plugins::find(spec.name);
  if (!plugin) return Error{"there is no native plugin of this name"};
  auto factory = plugin->parse(spec.config);
  if (!factory) return factory;
  if (shared_.size() >= sweep_at_) {
    std::erase_if(shared_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(256, shared_.size() * 2);
  }
  shared_[std::move(key)] = *factory;
  return factory;
}

bool is_accepted(const resource::Ingress& ingress, const Options& options) {
  const std::string& wanted = options.ingress_class;
  if (wanted.empty()) return true;
  if (const resource::Pair* given = resource::find(ingress.meta.annotations, "kubernetes.io/ingress.class")) {
    return given->value == wanted || (wanted == "nginx" && given->value.empty());
  }
  const std::string name = ingress.class_name.value_or("");
  return name == wanted || (wanted == "nginx" && name.empty());
}

CompiledIngress compile_ingress(const resource::Ingress& ingress, const resource::Store& store, const Options& options,
                                const IngressDefaults& defaults, ClusterTable& clusters, FilterCache& filters) {
  return IngressCompiler(ingress, store, options, defaults, clusters, filters).compile();
}

}  // namespace sluice::compile
