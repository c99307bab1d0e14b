#include "compile/migrate.h"

#include <algorithm>
#include <map>
#include <set>

#include "compile/annotations.h"
#include "compile/json_writer.h"

namespace sluice::compile {
namespace {

using Verdict = MigrationFinding::Verdict;
using resource::Kind;
using resource::Severity;

constexpr std::string_view kAnnotationField = "metadata.annotations[";

// Global options of ingress-nginx (its ConfigMap) and where they are set here. An empty text: it has no meaning here
// and nothing is to be done.
struct NginxOption {
  std::string_view key;
  std::string_view instead;
};
constexpr NginxOption kNginxOptions[] = {
    {"access-log-path", "--access-log"},
    {"client-body-timeout", "--min-body-rate and --body-rate-window-ms"},
    {"client-header-timeout", "--header-timeout-ms"},
    {"compute-full-forwarded-for", ""},
    {"disable-access-log", "--access-log off"},
    {"enable-brotli", "the filter `compression` (docs/guide/filters.md)"},
    {"enable-opentelemetry", "the block `tracing` of the ConfigMap higress-config"},
    {"enable-real-ip", "--trusted-hops"},
    {"gzip-level", "the block `gzip` of the ConfigMap higress-config"},
    {"gzip-min-length", "the block `gzip` of the ConfigMap higress-config"},
    {"gzip-types", "the block `gzip` of the ConfigMap higress-config"},
    {"http2-max-concurrent-streams", "downstream.http2.maxConcurrentStreams of the ConfigMap higress-config"},
    {"keep-alive", "downstream.idleTimeout of the ConfigMap higress-config"},
    {"keep-alive-requests", ""},
    {"large-client-header-buffers", "downstream.maxRequestHeadersKb of the ConfigMap higress-config"},
    {"log-format-upstream", "--access-log-format"},
    {"max-worker-connections", "--max-connections"},
    {"otlp-collector-host", "the block `tracing` of the ConfigMap higress-config"},
    {"otlp-collector-port", "the block `tracing` of the ConfigMap higress-config"},
    {"proxy-body-size", "the annotation proxy-body-size of each Ingress"},
    {"proxy-connect-timeout", "the annotation proxy-connect-timeout of each Ingress"},
    {"proxy-read-timeout", "the annotation proxy-read-timeout of each Ingress"},
    {"proxy-real-ip-cidr", "--trusted-hops"},
    {"proxy-send-timeout", "the annotation proxy-send-timeout of each Ingress"},
    {"server-tokens", "--server-header"},
    {"ssl-protocols", "the annotations tls-min-protocol-version and tls-max-protocol-version of an Ingress"},
    {"ssl-redirect", "the annotation ssl-redirect of each Ingress"},
    {"upstream-keepalive-connections", ""},
    {"upstream-keepalive-requests", ""},
    {"upstream-keepalive-timeout", "upstream.idleTimeout of the ConfigMap higress-config"},
    {"use-forwarded-headers", "--trusted-hops"},
    {"use-gzip", "the block `gzip` of the ConfigMap higress-config"},
    {"use-http2", ""},
    {"use-proxy-protocol", "--proxy-protocol"},
    {"worker-processes", "--workers"},
    {"worker-shutdown-timeout", "--drain-deadline-ms"},
};

bool is_nginx_controller(const resource::ObjectKey& key) {
  return key.kind == Kind::kConfigMap && (key.name.ends_with("ingress-nginx-controller") ||
                                          key.name == "nginx-configuration" || key.name == "nginx-ingress-controller");
}

bool is_stream_services(const resource::ObjectKey& key) {
  return key.kind == Kind::kConfigMap && (key.name == "tcp-services" || key.name == "udp-services");
}

// Kinds that a gateway is expected to read.
bool is_traffic_kind(std::string_view text) {
  for (std::string_view group :
       {"networking.istio.io", "gateway.networking.k8s.io", "extensions.higress.io", "networking.higress.io",
        "networking.k8s.io", "extensions/v1beta1", "security.istio.io", "telemetry.istio.io"}) {
    if (text.find(group) != text.npos) return true;
  }
  return false;
}

class Assessor {
 public:
  Assessor(const ControlPlane& control, MigrationSource source) : control_(control), source_(source) {}

  Migration run() {
    std::vector<ObjectStatus> all = control_.status();
    for (const ObjectStatus& status : all) object(status);
    // What belongs to no object in force: files that can't be read, objects that were refused, kinds that are not
    // known.
    std::map<std::string, MigrationObject> others;
    for (const resource::Diagnostic& diagnostic : control_.diagnostics()) {
      if (told_.contains(diagnostic.object)) continue;
      const bool kind = diagnostic.severity == Severity::kInfo && diagnostic.object.empty();
      if (kind && !is_traffic_kind(diagnostic.message)) continue;
      const std::string name = diagnostic.object.empty() ? diagnostic.file : diagnostic.object;
      MigrationObject& other = others[name];
      other.object = name;
      other.file = diagnostic.file;
      other.line = diagnostic.line;
      other.findings.push_back(
          {Verdict::kUnsupported, diagnostic.field, diagnostic.message,
           kind ? "move what it does to an Ingress, or keep the gateway that reads it for that" : ""});
    }
    for (auto& [name, other] : others) out_.objects.push_back(std::move(other));
    return std::move(out_);
  }

 private:
  void object(const ObjectStatus& status) {
    const resource::ObjectPtr object = control_.store().find(status.key);
    told_.insert(status.key.to_string());
    const bool nginx = source_ == MigrationSource::kIngressNginx;
    const bool relevant = status.key.kind == Kind::kIngress || status.key.kind == Kind::kMcpBridge ||
                          !status.diagnostics.empty() ||
                          (nginx && (is_nginx_controller(status.key) || is_stream_services(status.key)));
    if (!object || !relevant) return;
    MigrationObject out{status.key.to_string(), status.file, status.line, {}};
    if (status.key.kind == Kind::kIngress) ingress(*as<resource::Ingress>(object), out);
    if (nginx && is_nginx_controller(status.key)) options(*as<resource::ConfigMap>(object), out);
    if (nginx && is_stream_services(status.key)) {
      out.findings.push_back({Verdict::kUnsupported, "data", "TCP and UDP services are not forwarded",
                              "give them a load balancer of their own"});
    }
    for (const resource::Diagnostic& diagnostic : status.diagnostics) found(diagnostic, out);
    out_.objects.push_back(std::move(out));
  }

  void ingress(const resource::Ingress& ingress, MigrationObject& out) {
    if (!is_accepted(ingress, control_.compiler().options())) {
      out.findings.push_back({Verdict::kUnsupported, "spec.ingressClassName",
                              "is of a class that is not served, so none of it has an effect",
                              "serve its class: --ingress-class " + ingress.class_name.value_or("''")});
      return;
    }
    for (const resource::Pair& pair : ingress.meta.annotations) annotation(pair.key, out);
    if (source_ != MigrationSource::kIngressNginx) return;
    for (size_t i = 0; i < ingress.rules.size(); ++i) {
      for (size_t j = 0; j < ingress.rules[i].paths.size(); ++j) {
        path(ingress.rules[i].paths[j],
             "spec.rules[" + std::to_string(i) + "].http.paths[" + std::to_string(j) + "].pathType", out);
      }
    }
  }

  void annotation(const std::string& key, MigrationObject& out) {
    if (!is_gateway_annotation(key)) return;
    const std::string field = std::string(kAnnotationField) + key + "]";
    const auto info = annotation_info(key);
    if (!info) {
      out.findings.push_back(
          {Verdict::kUnsupported, field, "has no effect",
           "docs/guide/annotations.md lists what there is; remove the annotation when it is replaced"});
    } else if (info->difference.empty()) {
      out.findings.push_back({Verdict::kWorks, field, {}, {}});
    } else {
      const bool accepted = info->status == AnnotationStatus::kAccepted;
      out.findings.push_back(
          {Verdict::kChanges, field, (accepted ? "accepted: " : "") + std::string(info->difference), {}});
    }
  }

  void path(const resource::IngressPath& path, std::string field, MigrationObject& out) {
    if (path.type == resource::PathType::kExact || path.type == resource::PathType::kPrefix || path.path.empty() ||
        path.path.ends_with('/') || path.path.find_first_of("\\.+*?()|[]{}^$") != path.path.npos) {
      return;
    }
    out.findings.push_back(
        {Verdict::kChanges, std::move(field),
         "ImplementationSpecific is matched element by element, as Prefix; nginx takes every path that "
         "begins with these characters (" +
             path.path + "x too)",
         "say Prefix or Exact, whichever is meant"});
  }

  void options(const resource::ConfigMap& map, MigrationObject& out) {
    for (const resource::Pair& pair : map.data) {
      const std::string field = "data." + pair.key;
      const auto* known = std::find_if(std::begin(kNginxOptions), std::end(kNginxOptions),
                                       [&](const NginxOption& option) { return option.key == pair.key; });
      if (known == std::end(kNginxOptions)) {
        out.findings.push_back({Verdict::kUnsupported, field, "this global option has no equivalent", {}});
      } else if (known->instead.empty()) {
        out.findings.push_back({Verdict::kWorks, field, {}, {}});
      } else {
        out.findings.push_back(
            {Verdict::kChanges, field, "is not read from here", "set it by " + std::string(known->instead)});
      }
    }
  }

  void found(const resource::Diagnostic& diagnostic, MigrationObject& out) {
    // An annotation that is not known has been told of already.
    const std::string& field = diagnostic.field;
    if (field.starts_with(kAnnotationField) && field.ends_with(']') &&
        !annotation_info(
            std::string_view(field).substr(kAnnotationField.size(), field.size() - kAnnotationField.size() - 1))) {
      return;
    }
    const Verdict verdict = diagnostic.severity == Severity::kError ? Verdict::kUnsupported : Verdict::kChanges;
    // What was said to work does not, or not as it is.
    std::erase_if(out.findings,
                  [&](const MigrationFinding& f) { return f.field == field && f.verdict == Verdict::kWorks; });
    out.findings.push_back({verdict, field, diagnostic.message, {}});
  }

  const ControlPlane& control_;
  const MigrationSource source_;
  std::set<std::string> told_;
  Migration out_;
};

constexpr const char* word(Verdict verdict) {
  switch (verdict) {
    case Verdict::kWorks:
      return "works";
    case Verdict::kChanges:
      return "changes";
    case Verdict::kUnsupported:
      break;
  }
  return "unsupported";
}

}  // namespace

Verdict MigrationObject::verdict() const {
  Verdict worst = Verdict::kWorks;
  for (const MigrationFinding& finding : findings) worst = std::max(worst, finding.verdict);
  return worst;
}

size_t Migration::count(Verdict verdict) const {
  return static_cast<size_t>(std::count_if(objects.begin(), objects.end(),
                                           [&](const MigrationObject& object) { return object.verdict() == verdict; }));
}

std::string Migration::to_text() const {
  std::string out;
  for (const MigrationObject& object : objects) {
    out += object.object;
    if (!object.file.empty() && object.file != object.object) {
      out += " (" + object.file + (object.line ? ":" + std::to_string(object.line) : "") + ")";
    }
    out += std::string(": ") + word(object.verdict()) + "\n";
    for (const MigrationFinding& finding : object.findings) {
      out += std::string("  ") + word(finding.verdict) +
             std::string(12 - std::string_view(word(finding.verdict)).size(), ' ');
      out += finding.field;
      if (!finding.what.empty()) out += (finding.field.empty() ? "" : ": ") + finding.what;
      out += "\n";
      if (!finding.advice.empty()) out += "              → " + finding.advice + "\n";
    }
  }
  out += std::to_string(objects.size()) + " objects: " + std::to_string(count(Verdict::kWorks)) + " work unchanged, " +
         std::to_string(count(Verdict::kChanges)) + " change, " + std::to_string(count(Verdict::kUnsupported)) +
         " need work\n";
  return out;
}

std::string Migration::to_json() const {
  JsonWriter json;
  json.begin_object().key("objects").begin_array();
  for (const MigrationObject& object : objects) {
    json.begin_object().member("object", object.object).member("file", object.file).member("line", object.line);
    json.member("verdict", word(object.verdict())).key("findings").begin_array();
    for (const MigrationFinding& finding : object.findings) {
      json.begin_object().member("verdict", word(finding.verdict)).member("field", finding.field);
      if (!finding.what.empty()) json.member("what", finding.what);
      if (!finding.advice.empty()) json.member("advice", finding.advice);
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("summary").begin_object();
  for (Verdict verdict : {Verdict::kWorks, Verdict::kChanges, Verdict::kUnsupported}) {
    json.member(word(verdict), count(verdict));
  }
  json.end_object().end_object();
  return json.take();
}

Migration assess_migration(const ControlPlane& control, MigrationSource source) {
  return Assessor(control, source).run();
}

}  // namespace sluice::compile
