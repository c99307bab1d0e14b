#pragma once
// For the tests of compile/: a control plane fed with texts, and short questions to it.

#include <map>
#include <string>
#include <vector>

#include "compile/control_plane.h"
#include "compile/dump.h"
#include "compile/explain.h"
#include "config/router.h"
#include "resource/parse.h"

namespace sluice::compile::test {

inline resource::ParsedFile parsed(const std::string& name, const std::string& text) {
  return resource::parse_manifests(text, std::make_shared<const std::string>(name));
}

class World {
 public:
  explicit World(Options options = {}) : control(std::move(options)) {}

  // Gives one file a new content and returns the messages of the update, one a line.
  std::string put(const std::string& file, const std::string& text) {
    std::vector<resource::ParsedFile> files;
    files.push_back(parsed(file, text));
    return show(control.apply(std::move(files), {}).diagnostics);
  }
  std::string remove(const std::string& file) { return show(control.apply({}, {file}).diagnostics); }

  static std::string show(const resource::Diagnostics& diagnostics) {
    std::string out;
    for (const auto& d : diagnostics) out += d.render() + "\n";
    return out;
  }
  std::string all() const { return show(control.diagnostics()); }

  const config::Route* route(const std::string& request, const std::vector<std::string>& headers = {}) {
    last_ = *ExplainRequest::parse(request, headers);
    snapshot = control.snapshot();
    return config::match(*snapshot, last_.key()).route;
  }
  // The name of the route that wins, or "-".
  std::string winner(const std::string& request, const std::vector<std::string>& headers = {}) {
    const config::Route* found = route(request, headers);
    return found ? found->name : "-";
  }
  // "outbound|80||a.default.svc.cluster.local" of the first destination, or "-".
  std::string target(const std::string& request, const std::vector<std::string>& headers = {}) {
    const config::Route* found = route(request, headers);
    return !found ? "-" : found->destinations.empty() ? "none" : found->destinations[0].cluster_name;
  }
  const config::Cluster* cluster(const std::string& name) {
    snapshot = control.snapshot();
    const uint32_t* slot = snapshot->cluster_slots.find(name);
    return slot ? snapshot->clusters.get(*slot) : nullptr;
  }
  // "1.2.3.4:80 1.2.3.5:80"; "-" if there is no such cluster.
  std::string endpoints(const std::string& name) {
    const config::Cluster* found = cluster(name);
    if (!found) return "-";
    std::string out;
    for (const auto& endpoint : found->endpoints->endpoints) {
      out += (out.empty() ? "" : " ") + endpoint.address.to_string() + (endpoint.healthy ? "" : "!");
    }
    return out;
  }
  std::string dump() { return compile::dump(*control.snapshot()); }

  ControlPlane control;
  Compiler::SnapshotPointer snapshot;

 private:
  ExplainRequest last_;
};

// An Ingress of class higress. `paths` are items of http.paths.
inline std::string ingress(const std::string& name, const std::string& host, const std::string& paths,
                           const std::string& annotations = {}, const std::string& metadata = {}) {
  return "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: " + name + "\n" + metadata +
         (annotations.empty() ? "" : "  annotations:\n" + annotations) +
         "spec:\n  ingressClassName: higress\n  rules:\n  - " + (host.empty() ? "" : "host: \"" + host + "\"\n    ") +
         "http:\n      paths:\n" + paths;
}
inline std::string path(const std::string& text, const std::string& type = "Prefix", const std::string& service = "svc",
                        const std::string& port = "number: 80") {
  return "      - path: " + text + "\n        pathType: " + type + "\n        backend: {service: {name: " + service +
         ", port: {" + port + "}}}\n";
}
inline std::string note(const std::string& key, const std::string& value) {
  return "    " + key + ": \"" + value + "\"\n";
}
inline std::string born(int seconds) {
  char text[64];
  snprintf(text, sizeof(text), "  creationTimestamp: \"2024-01-01T00:00:%02dZ\"\n", seconds);
  return text;
}
inline std::string service(const std::string& name, const std::string& ports = "[{port: 80}]",
                           const std::string& more = {}) {
  return "---\n{apiVersion: v1, kind: Service, metadata: {name: " + name + "}, spec: {ports: " + ports + more + "}}\n";
}
inline std::string slice(const std::string& name, const std::string& service, const std::string& addresses,
                         const std::string& ports = "[{port: 8080}]", const std::string& labels = {}) {
  std::string out =
      "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, metadata: "
      "{name: " +
      name + ", labels: {kubernetes.io/service-name: " + service + labels + "}}, ports: " + ports + ", endpoints: [";
  out += addresses.empty() ? "" : "{addresses: [" + addresses + "]}";
  return out + "]}\n";
}

}  // namespace sluice::compile::test
