#include "api/admin.h"

#include <cstdio>
#include <fstream>

#include "base/log.h"
#include "compile/dump.h"
#include "compile/explain.h"
#include "compile/json_writer.h"
#include "proxy/forwarding.h"

namespace sluice::api {
namespace {

ServiceResponse json_response(std::string body) {
  ServiceResponse response;
  response.content_type = "application/json";
  response.body = std::move(body) + "\n";
  return response;
}

ServiceResponse error_response(int status, std::string message) {
  ServiceResponse response;
  response.status = status;
  response.body = std::move(message) + "\n";
  return response;
}

// A value of /proc/self/status in KiB.
uint64_t process_kib(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.compare(0, field.size(), field) != 0) continue;
    unsigned long long kib = 0;
    std::sscanf(line.c_str() + field.size(), ": %llu", &kib);
    return kib;
  }
  return 0;
}

}  // namespace

Admin::Admin(event::Loop& loop, const compile::ControlPlane& control, proxy::Gateway& gateway, std::string version)
    : loop_(loop),
      control_(control),
      gateway_(gateway),
      version_(std::move(version)),
      started_ms_(loop.now_ms()),
      service_(loop, [this](const ServiceRequest& request, HttpService::Respond respond) {
        handle(request, std::move(respond));
      }) {}

void Admin::handle(const ServiceRequest& request, HttpService::Respond respond) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (request.path == "/logging" && (request.method == "PUT" || request.method == "POST" || reads)) {
    return respond(logging(request));
  }
  if (!reads) return respond(error_response(405, "only GET here"));
  if (request.path == "/ready" || request.path == "/healthz" || request.path == "/healthz/ready") {
    return respond(ready());
  }
  if (request.path == "/stats/prometheus" || request.path == "/metrics") return metrics(std::move(respond));
  if (request.path == "/config_dump") return respond(json_response(compile::dump(*control_.snapshot())));
  if (request.path == "/objects") return respond(objects());
  if (request.path == "/sources") {
    return respond(json_response(cluster_ ? "{\"kubernetes\":" + cluster_->to_json() + "}" : "{}"));
  }
  if (request.path == "/clusters") return clusters(std::move(respond));
  if (request.path == "/memory") return memory(std::move(respond));
  if (request.path == "/explain") return respond(explain(request));
  if (request.path == "/server_info") return respond(server_info());
  respond(error_response(request.path == "/" ? 200 : 404,
                         "/ready /healthz /stats/prometheus /config_dump /objects /sources /clusters /memory /explain "
                         "/logging /server_info"));
}

ServiceResponse Admin::ready() const {
  return ready_ ? error_response(200, "ready") : error_response(503, "not ready");
}

void Admin::metrics(HttpService::Respond respond) const {
  gateway_.collect([respond = std::move(respond), this](proxy::Report report) {
    ServiceResponse response;
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    response.body = proxy::to_prometheus(report.stats, control_.snapshot()->route_names);
    response.body +=
        "# HELP sluice_config_version Version of the snapshot in force.\n# TYPE sluice_config_version gauge\n";
    response.body += "sluice_config_version " + std::to_string(gateway_.version()) + "\n";
    response.body += "# HELP sluice_config_errors Errors in manifests now.\n# TYPE sluice_config_errors gauge\n";
    response.body += "sluice_config_errors " + std::to_string(resource::count_errors(control_.diagnostics())) + "\n";
    if (cluster_) response.body += cluster_->metrics();
    response.body +=
        "# HELP process_resident_memory_bytes Resident memory.\n# TYPE process_resident_memory_bytes gauge\n";
    response.body += "process_resident_memory_bytes " + std::to_string(process_kib("VmRSS") * 1024) + "\n";
    respond(std::move(response));
  });
}

ServiceResponse Admin::objects() const {
  compile::JsonWriter out;
  out.begin_array();
  for (const compile::ObjectStatus& object : control_.status()) {
    out.begin_object();
    out.member("object", object.key.to_string()).member("file", object.file).member("line", object.line);
    out.key("messages").begin_array();
    for (const resource::Diagnostic& diagnostic : object.diagnostics) out.value(diagnostic.render());
    out.end_array().end_object();
  }
  out.end_array();
  return json_response(out.take());
}

void Admin::clusters(HttpService::Respond respond) const {
  gateway_.collect([respond = std::move(respond), this](proxy::Report report) {
    std::map<std::pair<std::string_view, std::string_view>, const proxy::EndpointReport*> by_key;
    for (const proxy::EndpointReport& endpoint : report.endpoints) {
      by_key[{endpoint.cluster, endpoint.address}] = &endpoint;
    }
    compile::JsonWriter out;
    out.begin_array();
    control_.snapshot()->clusters.for_each([&](const config::Cluster& cluster) {
      out.begin_object().member("name", cluster.name);
      out.key("endpoints").begin_array();
      for (const config::Endpoint& endpoint : cluster.endpoints->endpoints) {
        const std::string address = endpoint.address.to_string();
        out.begin_object().member("address", address).member("weight", endpoint.weight);
        out.member("healthy", endpoint.healthy);
        const auto found = by_key.find({cluster.name, address});
        if (found != by_key.end()) {
          const proxy::EndpointReport& load = *found->second;
          out.member("ejected_by_workers", load.ejected_workers);
          out.member("active_requests", load.active_requests).member("connections", load.connections);
          out.member("requests", load.requests).member("failures", load.failures);
          out.member("connect_failures", load.connect_failures);
        }
        out.end_object();
      }
      out.end_array().end_object();
    });
    out.end_array();
    respond(json_response(out.take()));
  });
}

void Admin::memory(HttpService::Respond respond) const {
  gateway_.collect([respond = std::move(respond)](proxy::Report report) {
    compile::JsonWriter out;
    out.begin_object();
    out.member("resident_bytes", process_kib("VmRSS") * 1024);
    out.member("peak_resident_bytes", process_kib("VmHWM") * 1024);
    out.member("block_bytes_in_use", report.stats.block_bytes_in_use);
    out.member("block_bytes_free", report.stats.block_bytes_free);
    out.member("connections", report.stats.http.connections_active + report.stats.https.connections_active);
    out.member("exchanges", report.stats.active_exchanges);
    out.end_object();
    respond(json_response(out.take()));
  });
}

ServiceResponse Admin::explain(const ServiceRequest& request) const {
  const std::string line = request.parameter("request");
  if (line.empty()) {
    return error_response(400, "parameter `request` is missing: /explain?request=GET%20http://host/path");
  }
  Result<compile::ExplainRequest> parsed = compile::ExplainRequest::parse(line, request.parameters("header"));
  if (!parsed.ok()) return error_response(400, parsed.error().message);
  const auto snapshot = control_.snapshot();
  Arena arena;
  const std::string_view path = proxy::normalize_path(parsed->target, arena, snapshot->globals->path_normalization);
  const compile::Explanation explanation = compile::explain(*snapshot, *parsed, path);
  if (request.parameter("format") == "json") return json_response(explanation.json);
  return error_response(200, explanation.text);
}

ServiceResponse Admin::logging(const ServiceRequest& request) const {
  const std::string level_text = request.parameter("level");
  if (!level_text.empty()) {
    if (request.method == "GET" || request.method == "HEAD") return error_response(405, "use PUT to set the level");
    log::Level level;
    if (!log::parse_level(level_text, &level)) {
      return error_response(400, "level \"" + level_text + "\" is not one of debug, info, warning, error");
    }
    log::set_level(level);
  }
  return error_response(200, "level: " + std::string(log::name(log::level())));
}

ServiceResponse Admin::server_info() const {
  compile::JsonWriter out;
  out.begin_object();
  out.member("version", version_).member("state", ready_ ? "serving" : "draining");
  out.member("uptime_seconds", (loop_.now_ms() - started_ms_) / 1000);
  out.member("workers", gateway_.options().workers);
  out.member("snapshot_version", gateway_.version());
  out.member("hosts", control_.snapshot()->hosts.size());
  out.end_object();
  return json_response(out.take());
}

}  // namespace sluice::api
