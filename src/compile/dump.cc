#include "compile/dump.h"

#include <algorithm>

#include "filter/filter.h"
#include "net/tls.h"

namespace sluice::compile {

using config::Cluster;
using config::Destination;
using config::Endpoint;
using config::FilterChain;
using config::Globals;
using config::HashPolicy;
using config::LoadBalancing;
using config::PassthroughHost;
using config::PathMatch;
using config::PersistentMap;
using config::Redirect;
using config::RetryPolicy;
using config::Route;
using config::Snapshot;
using config::TlsHost;
using config::UpstreamProtocol;
using config::ValueMatch;
using config::VirtualHost;

namespace {

const char* name_of(ValueMatch::Source source) {
  switch (source) {
    case ValueMatch::Source::kHeader:
      return "header";
    case ValueMatch::Source::kQuery:
      return "query";
    case ValueMatch::Source::kMethod:
      return "method";
    case ValueMatch::Source::kAuthority:
      return "authority";
    case ValueMatch::Source::kPath:
      return "path";
    case ValueMatch::Source::kScheme:
      return "scheme";
  }
  return "?";
}

const char* name_of(HashPolicy::Source source) {
  switch (source) {
    case HashPolicy::Source::kNone:
      return "none";
    case HashPolicy::Source::kHeader:
      return "header";
    case HashPolicy::Source::kCookie:
      return "cookie";
    case HashPolicy::Source::kQuery:
      return "query";
    case HashPolicy::Source::kSourceAddress:
      return "source address";
    case HashPolicy::Source::kPath:
      return "path";
    case HashPolicy::Source::kTemplate:
      return "text";
    case HashPolicy::Source::kAuthority:
      return "authority";
  }
  return "?";
}

void write_hash(JsonWriter& out, const HashPolicy& hash) {
  if (hash.source == HashPolicy::Source::kNone) return;
  out.key("hash").begin_object().member("by", name_of(hash.source));
  if (!hash.name.empty()) out.member("name", hash.name);
  if (!hash.cookie) return;
  if (hash.cookie->persistent) out.member("persistent", true);
  if (!hash.cookie->path.empty()) out.member("cookie_path", hash.cookie->path);
  if (hash.cookie->max_age.count()) out.member("cookie_ttl_s", hash.cookie->max_age.count());
  out.end_object();
}

void write_filters(JsonWriter& out, const FilterChain& filters) {
  if (filters.empty()) return;
  out.key("filters").begin_array();
  for (const auto& filter : filters) out.value(filter->name());
  out.end_array();
}

void write_retry(JsonWriter& out, const RetryPolicy& retry) {
  static constexpr std::pair<uint32_t, const char*> kNames[] = {
      {RetryPolicy::kOn5xx, "5xx"},
      {RetryPolicy::kOnGatewayError, "gateway-error"},
      {RetryPolicy::kOnConnectFailure, "connect-failure"},
      {RetryPolicy::kOnRefusedStream, "refused-stream"},
      {RetryPolicy::kOnReset, "reset"},
      {RetryPolicy::kOnUnavailable, "unavailable"},
      {RetryPolicy::kOnCancelled, "cancelled"},
      {RetryPolicy::kOnStatus, "status"},
      {RetryPolicy::kNonIdempotent, "non-idempotent"},
  };
  out.key("retry").begin_object().member("max_retries", retry.max_retries);
  out.key("on").begin_array();
  for (const auto& [bit, name] : kNames) {
    if (retry.on & bit) out.value(name);
  }
  out.end_array();
  if (retry.on & RetryPolicy::kOnStatus) {
    out.key("statuses").begin_array();
    for (uint16_t status : retry.statuses) out.value(status);
    out.end_array();
  }
  if (retry.per_try_timeout.count()) out.member("per_try_timeout_ms", retry.per_try_timeout.count());
  out.end_object();
}

void write_redirect(JsonWriter& out, const Redirect& redirect) {
  out.key("redirect").begin_object().member("status", redirect.status);
  if (!redirect.scheme.empty()) out.member("scheme", redirect.scheme);
  if (!redirect.host.empty()) out.member("host", redirect.host);
  if (!redirect.path.empty()) out.member("path", redirect.path);
  if (redirect.https_only_on_plaintext) out.member("only_on_plaintext", true);
  out.end_object();
}

void write_endpoint(JsonWriter& out, const Endpoint& endpoint) {
  out.begin_object().member("address", endpoint.address.to_string());
  if (endpoint.weight != 1) out.member("weight", endpoint.weight);
  if (!endpoint.healthy) out.member("healthy", false);
  if (!endpoint.hostname.empty()) out.member("hostname", endpoint.hostname);
  if (!endpoint.zone.empty()) out.member("zone", endpoint.zone);
  if (!endpoint.labels.empty()) {
    out.key("labels").begin_object();
    for (const auto& [key, value] : endpoint.labels) out.member(key, value);
    out.end_object();
  }
  out.end_object();
}

void write_globals(JsonWriter& out, const Globals& globals) {
  out.key("globals").begin_object();
  out.member("downstream_idle_timeout_ms", globals.downstream_idle_timeout.count());
  out.member("max_request_headers_bytes", globals.max_request_headers_bytes);
  out.member("max_request_header_count", globals.max_request_header_count);
  out.member("downstream_buffer_limit", globals.downstream_buffer_limit);
  out.member("h2_max_concurrent_streams", globals.h2_max_concurrent_streams);
  out.member("h2_initial_stream_window", globals.h2_initial_stream_window);
  out.member("h2_initial_connection_window", globals.h2_initial_connection_window);
  out.member("upstream_idle_timeout_ms", globals.upstream_idle_timeout.count());
  out.member("upstream_buffer_limit", globals.upstream_buffer_limit);
  out.member("route_timeout_ms", globals.route_timeout.count());
  out.member("add_x_real_ip", globals.add_x_real_ip);
  out.member("disable_x_envoy_headers", globals.disable_x_envoy_headers);
  write_filters(out, globals.filters);
  out.end_object();
}

// The values of a table by their names in order.
template <typename T>
std::vector<const T*> sorted(const PersistentMap<T>& table, std::string T::* name) {
  std::vector<const T*> out;
  table.for_each([&](const std::string&, const T& value) { out.push_back(&value); });
  std::sort(out.begin(), out.end(), [&](const T* a, const T* b) { return a->*name < b->*name; });
  return out;
}

}  // namespace

const char* name_of(LoadBalancing balancing) {
  switch (balancing) {
    case LoadBalancing::kRoundRobin:
      return "round_robin";
    case LoadBalancing::kPeakEwma:
      return "peak_ewma";
    case LoadBalancing::kLeastRequest:
      return "least_request";
    case LoadBalancing::kRandom:
      return "random";
    case LoadBalancing::kRingHash:
      return "ring_hash";
    case LoadBalancing::kMaglev:
      return "maglev";
  }
  return "?";
}

const char* name_of(PathMatch::Kind kind) {
  switch (kind) {
    case PathMatch::Kind::kExact:
      return "Exact";
    case PathMatch::Kind::kPrefix:
      return "Prefix";
    case PathMatch::Kind::kPrefixRegex:
      return "PrefixRegex";
    case PathMatch::Kind::kFullRegex:
      return "FullRegex";
  }
  return "?";
}

std::string describe(const PathMatch& match) {
  std::string text = match.kind == PathMatch::Kind::kPrefix && match.text.empty() ? "/" : match.text;
  return std::string(name_of(match.kind)) + " " + text + (match.ignore_case ? " (any case)" : "");
}

std::string describe(const ValueMatch& match) {
  std::string out = name_of(match.source);
  if (!match.name.empty() &&
      (match.source == ValueMatch::Source::kHeader || match.source == ValueMatch::Source::kQuery)) {
    out += " " + match.name;
  }
  if (match.invert) out += " not";
  switch (match.kind) {
    case ValueMatch::Kind::kExact:
      return out + " = \"" + match.value + "\"";
    case ValueMatch::Kind::kPrefix:
      return out + " begins with \"" + match.value + "\"";
    case ValueMatch::Kind::kRegex:
      return out + " matches /" + match.value + "/";
    case ValueMatch::Kind::kPresent:
      return out + " is present";
  }
  return out;
}

void write_cluster(JsonWriter& out, const Cluster& cluster, bool endpoints) {
  out.begin_object().member("name", cluster.name);
  out.member("protocol", cluster.protocol == UpstreamProtocol::kHttp2 ? "HTTP/2" : "HTTP/1.1");
  if (cluster.tls) {
    out.key("tls").begin_object().member("sni", cluster.tls->sni).end_object();
  }
  out.member("load_balancing", name_of(cluster.load_balancing));
  write_hash(out, cluster.hash);
  out.member("connect_timeout_ms", cluster.connect_timeout.count());
  out.member("idle_timeout_ms", cluster.idle_timeout.count());
  if (cluster.dns) {
    out.key("dns").begin_object().key("names").begin_array();
    for (const std::string& name : cluster.dns->names) out.value(name);
    out.end_array().member("port", cluster.dns->port).end_object();
  }
  if (endpoints) {
    out.key("endpoints").begin_array();
    for (const Endpoint& endpoint : cluster.endpoints->endpoints) write_endpoint(out, endpoint);
    out.end_array();
  }
  out.end_object();
}

void write_route(JsonWriter& out, const Snapshot& snapshot, const Route& route) {
  out.begin_object().member("name", route.name).member("origin", route.origin);
  out.member("path", describe(route.path));
  if (!route.methods.empty()) {
    out.key("methods").begin_array();
    for (const std::string& method : route.methods) out.value(method);
    out.end_array();
  }
  if (!route.conditions.empty()) {
    out.key("conditions").begin_array();
    for (const ValueMatch& match : route.conditions) out.value(describe(match));
    out.end_array();
  }
  if (route.redirect) write_redirect(out, *route.redirect);
  if (!route.notes.empty()) {
    out.key("notes").begin_array();
    for (const std::string& note : route.notes) out.value(note);
    out.end_array();
  }
  out.key("destinations").begin_array();
  for (const Destination& destination : route.destinations) {
    out.begin_object().member("cluster", destination.cluster_name).member("weight", destination.weight);
    const Cluster* cluster = snapshot.clusters.get(destination.cluster);
    if (!cluster || cluster->name != destination.cluster_name) out.member("exists", false);
    write_filters(out, destination.filters);
    out.end_object();
  }
  out.end_array();
  if (route.timeout.count()) out.member("timeout_ms", route.timeout.count());
  if (route.idle_timeout.count()) out.member("idle_timeout_ms", route.idle_timeout.count());
  if (route.retry) write_retry(out, *route.retry);
  write_filters(out, route.filters);
  out.end_object();
}

std::string dump(const Snapshot& snapshot, const DumpOptions& options) {
  JsonWriter out;
  out.begin_object();
  write_globals(out, *snapshot.globals);
  out.key("hosts").begin_array();
  for (const VirtualHost* host : sorted(snapshot.hosts, &VirtualHost::domain)) {
    out.begin_object().member("domain", host->domain);
    if (host->requires_mtls_sni) out.member("requires_mtls_sni", true);
    out.key("routes").begin_array();
    for (const auto& route : host->routes) write_route(out, snapshot, *route);
    out.end_array().end_object();
  }
  out.end_array();
  out.key("tls_hosts").begin_array();
  for (const TlsHost* host : sorted(snapshot.tls_hosts, &TlsHost::domain)) {
    out.begin_object().member("domain", host->domain).member("secret", host->secret);
    out.member("mutual", host->mutual).member("usable", host->context != nullptr);
    if (host->context) out.member("not_after", host->context->not_after());
    out.end_object();
  }
  out.end_array();
  if (snapshot.passthrough_hosts) {
    out.key("passthrough_hosts").begin_array();
    for (const PassthroughHost* host : sorted(*snapshot.passthrough_hosts, &PassthroughHost::domain)) {
      out.begin_object().member("domain", host->domain).member("refused", host->refused);
      out.member("route", host->route->name).member("origin", host->route->origin).end_object();
    }
    out.end_array();
  }
  std::vector<const Cluster*> clusters;
  snapshot.clusters.for_each([&](const Cluster& cluster) { clusters.push_back(&cluster); });
  std::sort(clusters.begin(), clusters.end(), [](const Cluster* a, const Cluster* b) { return a->name < b->name; });
  out.key("clusters").begin_array();
  for (const Cluster* cluster : clusters) write_cluster(out, *cluster, options.endpoints);
  out.end_array().end_object();
  return out.take() + "\n";
}

}  // namespace sluice::compile
