#include "compile/explain.h"

#include <algorithm>

#include "compile/dump.h"
#include "filter/filter.h"

namespace sluice::compile {

using config::Cluster;
using config::Destination;
using config::Endpoint;
using config::Match;
using config::match;
using config::match_tls;
using config::MatchTrace;
using config::Redirect;
using config::RequestKey;
using config::Route;
using config::set_target;
using config::Snapshot;
using config::TlsHost;

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return out;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool find_header(const void* context, std::string_view name, std::string_view* value) {
  // Several values of one name are one list; what a condition sees is kept per thread because the
  // key borrows it.
  static thread_local std::string joined;
  const auto& headers = *static_cast<const std::vector<std::pair<std::string, std::string>>*>(context);
  bool found = false;
  for (const auto& [key, text] : headers) {
    if (key != name) continue;
    if (!found) joined.clear();
    if (found) joined += ",";
    joined += text;
    found = true;
  }
  if (found) *value = joined;
  return found;
}

std::string reason(const MatchTrace::Candidate& candidate, const RequestKey& key) {
  switch (candidate.reason) {
    case MatchTrace::Reason::kMatched:
      return "matches";
    case MatchTrace::Reason::kPath:
      return "the path " + std::string(key.path) + " is not " + describe(candidate.route->path);
    case MatchTrace::Reason::kMethod: {
      std::string list;
      for (const std::string& method : candidate.route->methods) list += (list.empty() ? "" : ", ") + method;
      return "the method " + std::string(key.method) + " is not one of " + list;
    }
    case MatchTrace::Reason::kCondition:
      return "does not hold: " + describe(candidate.route->conditions[candidate.detail]);
    case MatchTrace::Reason::kLater:
      return "would match too, but comes later";
  }
  return {};
}

const char* word(MatchTrace::Reason reason) {
  switch (reason) {
    case MatchTrace::Reason::kMatched:
      return "matched";
    case MatchTrace::Reason::kPath:
      return "path";
    case MatchTrace::Reason::kMethod:
      return "method";
    case MatchTrace::Reason::kCondition:
      return "condition";
    case MatchTrace::Reason::kLater:
      return "later";
  }
  return "?";
}

// The candidates worth telling of: those whose path fits, and of the others the last before the
// winner.
std::vector<const MatchTrace::Candidate*> worth_telling(const MatchTrace::Host& host, size_t limit, size_t* left_out) {
  std::vector<const MatchTrace::Candidate*> out;
  size_t others = 0;
  for (const auto& candidate : host.candidates) others += candidate.reason == MatchTrace::Reason::kPath;
  size_t skip = others > limit ? others - limit : 0;
  *left_out = skip + host.omitted;
  for (const auto& candidate : host.candidates) {
    if (candidate.reason == MatchTrace::Reason::kPath && skip > 0) {
      --skip;
      continue;
    }
    out.push_back(&candidate);
  }
  return out;
}

class Explainer {
 public:
  Explainer(const Snapshot& snapshot, const ExplainRequest& request, std::string_view path, size_t limit)
      : snapshot_(snapshot), request_(request), key_(request.key(path)), limit_(limit) {}

  Explanation run() {
    Match found = match(snapshot_, key_, &trace_);
    line(request_.method + " " + request_.scheme + "://" + request_.authority + request_.target);
    json_.begin_object();
    json_.key("request").begin_object().member("method", request_.method).member("scheme", request_.scheme);
    json_.member("host", trace_.host).member("path", std::string(key_.path)).member("query", std::string(key_.query));
    json_.end_object();
    if (key_.path != request_.target.substr(0, request_.target.find('?'))) {
      line("path after normalisation: " + std::string(key_.path));
    }
    tls();
    json_.key("hosts").begin_array();
    if (!passed_through_) {
      for (const MatchTrace::Host& host : trace_.hosts) tell(host);
    }
    json_.end_array();
    if (passed_through_) {
      connection();
    } else {
      decision(found);
    }
    json_.end_object();
    return {std::move(text_), json_.take() + "\n", passed_through_ || found.route};
  }

 private:
  void line(const std::string& text) { text_ += text + "\n"; }

  void tls() {
    if (request_.scheme != "https") return;
    if (const config::PassthroughHost* host = config::match_passthrough(snapshot_, trace_.host))
      return passthrough(*host);
    const TlsHost* host = match_tls(snapshot_, trace_.host);
    if (!host) return line("TLS: no certificate for this name; the handshake fails");
    line("TLS: " + host->domain + ", Secret " + host->secret + (host->mutual ? ", client certificate required" : "") +
         (host->context ? "" : ", not usable: the handshake fails"));
    json_.key("tls").begin_object().member("domain", host->domain).member("secret", host->secret);
    json_.member("usable", host->context != nullptr).member("mutual", host->mutual).end_object();
  }

  void passthrough(const config::PassthroughHost& host) {
    passed_through_ = &host;
    line("TLS: " + host.domain + " is passed through" + (host.refused ? ", but refused to everybody" : ""));
    json_.key("passthrough").begin_object().member("domain", host.domain).member("refused", host.refused).end_object();
  }

  void tell(const MatchTrace::Host& host) {
    json_.begin_object().member("domain", host.domain).member("exists", host.exists);
    if (!host.exists) {
      line("host " + host.domain + ": no routes");
      json_.end_object();
      return;
    }
    line("host " + host.domain + ": " + std::to_string(host.candidates.size() + host.omitted) + " routes");
    size_t left_out = 0;
    auto shown = worth_telling(host, limit_, &left_out);
    if (left_out) line("    (" + std::to_string(left_out) + " routes of other paths are not shown)");
    json_.member("not_shown", left_out).key("routes").begin_array();
    for (const MatchTrace::Candidate* candidate : shown) {
      bool won = candidate->reason == MatchTrace::Reason::kMatched;
      line(std::string(won ? "  > " : "    ") + describe(candidate->route->path) + "  " + candidate->route->origin +
           ": " + reason(*candidate, key_));
      json_.begin_object().member("path", describe(candidate->route->path)).member("route", candidate->route->name);
      json_.member("origin", candidate->route->origin).member("result", word(candidate->reason));
      json_.member("reason", reason(*candidate, key_)).end_object();
    }
    json_.end_array().end_object();
  }

  void decision(const Match& found) {
    json_.member("routed", found.route != nullptr);
    if (!found) {
      line("no route matches: 404");
      json_.member("status", 404);
      return;
    }
    const Route& route = *found.route;
    line("route " + route.name + " of host " + found.host->domain + " (" + route.origin + ")");
    json_.member("host", found.host->domain).key("route");
    write_route(json_, snapshot_, route);
    if (!route.filters.empty()) {
      std::string names;
      for (const auto& filter : route.filters) names += (names.empty() ? "" : ", ") + std::string(filter->name());
      line("  filters: " + names);
    }
    for (const std::string& note : route.notes) line("  " + note);
    if (route.redirect && (!route.redirect->https_only_on_plaintext || request_.scheme != "https")) {
      const Redirect& to = *route.redirect;
      line("  redirect " + std::to_string(to.status) + " to " + (to.scheme.empty() ? request_.scheme : to.scheme) +
           "://" + (to.host.empty() ? request_.authority : to.host) +
           (to.path.empty() ? std::string(key_.path) : to.path));
      return;
    }
    destinations(route);
  }

  // Where the connection goes, whatever the request in it is.
  void connection() {
    const Route& route = *passed_through_->route;
    json_.member("routed", true);
    line("route " + route.name + " of host " + passed_through_->domain + " (" + route.origin + "), as bytes");
    json_.member("host", passed_through_->domain).key("route");
    write_route(json_, snapshot_, route);
    destinations(route);
  }

  void destinations(const Route& route) {
    if (route.destinations.empty()) line("  no destination: 503");
    json_.key("clusters").begin_array();
    for (const Destination& destination : route.destinations) {
      double share = route.total_weight ? 100.0 * destination.weight / route.total_weight : 0;
      char percent[32];
      snprintf(percent, sizeof(percent), "%.4g%%", share);
      const Cluster* cluster = snapshot_.clusters.get(destination.cluster);
      bool exists = cluster && cluster->name == destination.cluster_name;
      line("  " + std::string(percent) + " to " + destination.cluster_name + (exists ? "" : ": does not exist, 503"));
      if (!exists) continue;
      write_cluster(json_, *cluster, true);
      endpoints(*cluster);
    }
    json_.end_array();
  }

  void endpoints(const Cluster& cluster) {
    constexpr size_t kMost = 20;
    const auto& list = cluster.endpoints->endpoints;
    if (list.empty()) line("    no endpoints: 503");
    for (size_t i = 0; i < std::min(list.size(), kMost); ++i) {
      const Endpoint& endpoint = list[i];
      line("    " + endpoint.address.to_string() + (endpoint.hostname.empty() ? "" : " (" + endpoint.hostname + ")") +
           (endpoint.weight == 1 ? "" : " weight " + std::to_string(endpoint.weight)) +
           (endpoint.healthy ? "" : " unhealthy"));
    }
    if (list.size() > kMost) line("    … and " + std::to_string(list.size() - kMost) + " more");
  }

  const Snapshot& snapshot_;
  const ExplainRequest& request_;
  RequestKey key_;
  size_t limit_;
  MatchTrace trace_;
  std::string text_;
  JsonWriter json_;
  const config::PassthroughHost* passed_through_ = nullptr;
};

}  // namespace

Result<ExplainRequest> ExplainRequest::parse(std::string_view request, const std::vector<std::string>& headers) {
  ExplainRequest out;
  request = trim(request);
  size_t space = request.find(' ');
  if (space != request.npos) {
    out.method = request.substr(0, space);
    request = trim(request.substr(space));
  }
  size_t scheme = request.find("://");
  if (scheme == request.npos) {
    return Error{"a request is written METHOD http://host/path or METHOD https://host/path"};
  }
  out.scheme = lower(request.substr(0, scheme));
  if (out.scheme != "http" && out.scheme != "https") return Error{"\"" + out.scheme + "\" is not http or https"};
  request.remove_prefix(scheme + 3);
  request = request.substr(0, request.find('#'));
  size_t end = std::min(request.find_first_of("/?"), request.size());
  out.authority = request.substr(0, end);
  out.target = request.substr(end);
  if (out.target.empty() || out.target[0] == '?') out.target = "/" + out.target;
  for (const std::string& header : headers) {
    size_t colon = header.find(':', 1);
    if (colon == header.npos) return Error{"the header \"" + header + "\" is not written Name: value"};
    std::string name = lower(trim(std::string_view(header).substr(0, colon)));
    std::string value(trim(std::string_view(header).substr(colon + 1)));
    if (name == "host") {
      out.authority = value;
    } else {
      out.headers.emplace_back(std::move(name), std::move(value));
    }
  }
  if (out.authority.empty()) return Error{"the request names no host"};
  return out;
}

RequestKey ExplainRequest::key(std::string_view normalised_path) const {
  RequestKey out;
  set_target(out, target);
  if (!normalised_path.empty()) out.path = normalised_path;
  out.authority = authority;
  out.method = method;
  out.scheme = scheme;
  out.find_header = find_header;
  out.headers = &headers;
  return out;
}

Explanation explain(const Snapshot& snapshot, const ExplainRequest& request, std::string_view normalised_path,
                    size_t max_candidates) {
  return Explainer(snapshot, request, normalised_path, max_candidates).run();
}

}  // namespace sluice::compile
