#include "resource/parse_kinds.h"

namespace sluice::resource {
namespace {

PortRef parse_port(const Field& backend_service, Reader& reader) {
  Field port = backend_service["port"];
  PortRef out;
  if (!port) {
    reader.error(port, "is missing: give port.number or port.name");
    return out;
  }
  if (!reader.is_mapping(port)) return out;
  reader.only(port, {"number", "name"});
  out.number = reader.port(port["number"]);
  out.name = reader.string(port["name"]);
  if (port["number"] && !out.name.empty()) {
    reader.error(port, "has both number and name; only one of them can be given");
  } else if (!port["number"] && out.name.empty()) {
    reader.error(port, "is missing: give port.number or port.name");
  }
  return out;
}

// v1beta1: serviceName and servicePort, a number or a name.
void parse_old_backend(const Field& backend, Reader& reader, IngressBackend& out) {
  out.type = IngressBackend::Type::kService;
  out.service = reader.required(backend["serviceName"]);
  Field port = backend["servicePort"];
  if (port && port.node().integer()) {
    out.port.number = reader.port(port);
  } else {
    out.port.name = reader.required(port);
  }
}

IngressBackend parse_backend(const Field& backend, Reader& reader) {
  IngressBackend out;
  out.mark = backend.mark();
  if (!reader.is_mapping(backend)) return out;
  if (backend["serviceName"] || backend["servicePort"]) {
    parse_old_backend(backend, reader, out);
    return out;
  }
  reader.only(backend, {"service", "resource"});
  Field service = backend["service"];
  Field resource = backend["resource"];
  if (service && resource) {
    reader.error(backend, "has both service and resource; only one of them can be given");
  } else if (service) {
    if (!reader.is_mapping(service)) return out;
    out.type = IngressBackend::Type::kService;
    reader.only(service, {"name", "port"});
    out.service = reader.required(service["name"]);
    if (!out.service.empty() && !is_label(out.service)) {
      reader.error(service["name"],
                   in_quotes(out.service) + " is not a service name: lower-case letters, digits and '-'");
    }
    out.port = parse_port(service, reader);
  } else if (resource) {
    if (!reader.is_mapping(resource)) return out;
    out.type = IngressBackend::Type::kResource;
    reader.only(resource, {"apiGroup", "kind", "name"});
    out.resource_group = reader.string(resource["apiGroup"]);
    out.resource_kind = reader.required(resource["kind"]);
    out.resource_name = reader.required(resource["name"]);
  } else {
    reader.error(backend, "needs a service or a resource");
  }
  return out;
}

bool has_dot_segment(std::string_view path) {
  return path.find("/./") != path.npos || path.find("/../") != path.npos || path.ends_with("/.") ||
         path.ends_with("/..");
}

IngressPath parse_path(const Field& item, Reader& reader) {
  IngressPath out;
  out.mark = item.mark();
  if (!reader.is_mapping(item)) return out;
  reader.only(item, {"path", "pathType", "backend"});
  out.path = reader.string(item["path"]);
  if (!out.path.empty() && out.path[0] != '/') {
    reader.error(item["path"], in_quotes(out.path) + " must begin with '/'");
  } else if (has_dot_segment(out.path)) {
    reader.warn(item["path"], in_quotes(out.path) + " can never match: '.' and '..' are resolved before matching");
  }
  for (char c : out.path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      reader.error(item["path"], in_quotes(out.path) + " has a control character");
      break;
    }
  }
  Field type = item["pathType"];
  if (type) {
    size_t index = reader.one_of(type, {"Exact", "Prefix", "ImplementationSpecific"});
    out.type = index == 0 ? PathType::kExact : index == 1 ? PathType::kPrefix : PathType::kImplementationSpecific;
  }
  if (!item["backend"]) {
    reader.error(item["backend"], "is missing");
  } else {
    out.backend = parse_backend(item["backend"], reader);
  }
  return out;
}

std::string parse_host(const Field& field, Reader& reader) {
  std::string host = to_lower(reader.string(field));
  if (!host.empty() && !is_rule_host(host)) {
    reader.error(field,
                 in_quotes(host) + " is not a host name: letters, digits, '-' and '.', the first label may be '*'");
  }
  return host;
}

IngressRule parse_rule(const Field& item, Reader& reader) {
  IngressRule out;
  out.mark = item.mark();
  if (!reader.is_mapping(item)) return out;
  reader.only(item, {"host", "http"});
  out.host = parse_host(item["host"], reader);
  Field http = item["http"];
  if (!reader.is_mapping(http)) return out;
  reader.only(http, {"paths"});
  Field paths = http["paths"];
  if (!paths) reader.error(paths, "is missing: a rule needs at least one path");
  reader.each(paths, [&](const Field& path) { out.paths.push_back(parse_path(path, reader)); });
  return out;
}

IngressTls parse_tls(const Field& item, Reader& reader) {
  IngressTls out;
  out.mark = item.mark();
  if (!reader.is_mapping(item)) return out;
  reader.only(item, {"hosts", "secretName"});
  reader.each(item["hosts"], [&](const Field& host) { out.hosts.push_back(parse_host(host, reader)); });
  out.secret = reader.string(item["secretName"]);
  return out;
}

}  // namespace

void parse_ingress(const Field& document, Reader& reader, Ingress& out) {
  Field spec = document["spec"];
  if (!spec) return reader.error(spec, "is missing");
  if (!reader.is_mapping(spec)) return;
  reader.only(spec, {"ingressClassName", "defaultBackend", "backend", "rules", "tls"});
  if (Field name = spec["ingressClassName"]) out.class_name = reader.string(name);
  Field backend = spec["defaultBackend"];
  Field old_backend = spec["backend"];
  if (backend) {
    out.default_backend = parse_backend(backend, reader);
  } else if (old_backend) {
    out.default_backend = parse_backend(old_backend, reader);
  }
  reader.each(spec["rules"], [&](const Field& rule) { out.rules.push_back(parse_rule(rule, reader)); });
  reader.each(spec["tls"], [&](const Field& tls) { out.tls.push_back(parse_tls(tls, reader)); });
  if (out.rules.empty() && !backend && !old_backend) {
    reader.error(spec, "needs rules or a defaultBackend: without them it has no effect");
  }
}

void parse_ingress_class(const Field& document, Reader& reader, IngressClass& out) {
  Field spec = document["spec"];
  if (reader.is_mapping(spec)) out.controller = reader.string(spec["controller"]);
}

}  // namespace sluice::resource
