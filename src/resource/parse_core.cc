// Service, Endpoints, EndpointSlice, Secret and ConfigMap.

#include <algorithm>
#include <unordered_set>

#include "base/base64.h"
#include "resource/parse_kinds.h"

namespace sluice::resource {
namespace {

void parse_protocol(const Field& field, Reader& reader, std::string& out) {
  static constexpr std::string_view kNames[] = {"TCP", "UDP", "SCTP"};
  out = kNames[reader.one_of(field, {"TCP", "UDP", "SCTP"})];
}

ServicePort parse_service_port(const Field& item, Reader& reader) {
  ServicePort out;
  if (!reader.is_mapping(item)) return out;
  out.name = reader.string(item["name"]);
  if (!item["port"]) reader.error(item["port"], "is missing");
  out.port = reader.port(item["port"]);
  Field target = item["targetPort"];
  if (target && target.node().is_string()) {
    out.target.name = target.node().text();
  } else {
    out.target.number = reader.port(target);
  }
  parse_protocol(item["protocol"], reader, out.protocol);
  out.app_protocol = reader.string(item["appProtocol"]);
  return out;
}

void check_service_ports(const Field& ports, Reader& reader, const Service& service) {
  std::unordered_set<std::string> names;
  int index = 0;
  for (const ServicePort& port : service.ports) {
    Field item = ports.item(ports.node().items()[static_cast<size_t>(index)], index);
    ++index;
    if (port.name.empty() && service.ports.size() > 1) {
      reader.error(item["name"], "is missing: with several ports each needs a name");
    } else if (!names.insert(port.name).second) {
      reader.error(item["name"], in_quotes(port.name) + " is the name of another port too");
    }
  }
}

std::vector<SlicePort> parse_slice_ports(const Field& ports, Reader& reader) {
  std::vector<SlicePort> out;
  reader.each(ports, [&](const Field& item) {
    SlicePort port;
    if (!reader.is_mapping(item)) return;
    port.name = reader.string(item["name"]);
    port.port = reader.port(item["port"]);
    parse_protocol(item["protocol"], reader, port.protocol);
    port.app_protocol = reader.string(item["appProtocol"]);
    out.push_back(std::move(port));
  });
  return out;
}

void check_address(const Field& field, Reader& reader, const std::string& address, EndpointSlice::AddressType type) {
  if (type == EndpointSlice::AddressType::kFqdn) {
    if (!is_dns_name(to_lower(address))) reader.error(field, in_quotes(address) + " is not a host name");
    return;
  }
  bool v6 = type == EndpointSlice::AddressType::kIPv6;
  if (!is_ip_address(address) || (address.find(':') != address.npos) != v6) {
    reader.error(field, in_quotes(address) + " is not an " + (v6 ? "IPv6" : "IPv4") + " address");
  }
}

}  // namespace

Pairs parse_pairs(const Field& mapping, Reader& reader, bool lenient, bool (*wanted)(std::string_view)) {
  Pairs out;
  if (!reader.is_mapping(mapping)) return out;
  for (const Member& member : mapping.node().members()) {
    if (wanted && !wanted(member.key)) continue;
    Field value = mapping.member(member);
    if (lenient && value && value.node().is_scalar() && !value.node().is_string()) {
      reader.warn(value, "should be a string: write \"" + std::string(value.node().text()) + "\" in quotes");
      out.push_back({std::string(member.key), std::string(value.node().text()), value.mark()});
    } else {
      out.push_back({std::string(member.key), reader.string(value), value.mark()});
    }
  }
  std::sort(out.begin(), out.end(), [](const Pair& a, const Pair& b) { return a.key < b.key; });
  out.shrink_to_fit();
  return out;
}

void parse_service(const Field& document, Reader& reader, Service& out) {
  Field spec = document["spec"];
  if (!spec) return reader.error(spec, "is missing");
  if (!reader.is_mapping(spec)) return;
  out.type = static_cast<Service::Type>(
      reader.one_of(spec["type"], {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"}));
  out.cluster_ip = reader.string(spec["clusterIP"]);
  out.selector = parse_pairs(spec["selector"], reader, true);
  Field ports = spec["ports"];
  reader.each(ports, [&](const Field& item) { out.ports.push_back(parse_service_port(item, reader)); });
  if (reader.errors() == 0) check_service_ports(ports, reader, out);
  if (out.type != Service::Type::kExternalName) return;
  Field name = spec["externalName"];
  out.external_name = to_lower(reader.required(name));
  if (out.external_name.ends_with('.')) out.external_name.pop_back();
  if (!out.external_name.empty() && !is_dns_name(out.external_name)) {
    reader.error(name, in_quotes(out.external_name) + " is not a host name");
  }
}

void parse_endpoints(const Field& document, Reader& reader, Endpoints& out) {
  reader.each(document["subsets"], [&](const Field& item) {
    EndpointsSubset subset;
    if (!reader.is_mapping(item)) return;
    reader.each(item["addresses"], [&](const Field& address) {
      if (!reader.is_mapping(address)) return;
      Field ip = address["ip"];
      std::string text = reader.required(ip);
      if (!text.empty() && !is_ip_address(text)) {
        reader.error(ip, in_quotes(text) + " is not an IP address");
      }
      subset.addresses.push_back(std::move(text));
    });
    subset.ports = parse_slice_ports(item["ports"], reader);
    out.subsets.push_back(std::move(subset));
  });
}

void parse_endpoint_slice(const Field& document, Reader& reader, EndpointSlice& out) {
  if (!document["addressType"]) reader.error(document["addressType"], "is missing: one of IPv4, IPv6, FQDN");
  out.address_type =
      static_cast<EndpointSlice::AddressType>(reader.one_of(document["addressType"], {"IPv4", "IPv6", "FQDN"}));
  if (const Pair* service = find(out.meta.labels, "kubernetes.io/service-name")) {
    out.service = service->value;
  } else {
    Field metadata = document["metadata"];
    reader.warn(metadata["labels"], "has no kubernetes.io/service-name: these endpoints belong to no Service");
  }
  out.ports = parse_slice_ports(document["ports"], reader);
  reader.each(document["endpoints"], [&](const Field& item) {
    SliceEndpoint endpoint;
    if (!reader.is_mapping(item)) return;
    Field addresses = item["addresses"];
    reader.each(addresses, [&](const Field& address) {
      std::string text = reader.string(address);
      check_address(address, reader, text, out.address_type);
      endpoint.addresses.push_back(std::move(text));
    });
    if (endpoint.addresses.empty()) reader.error(addresses, "needs at least one address");
    Field conditions = item["conditions"];
    if (reader.is_mapping(conditions)) endpoint.ready = reader.boolean(conditions["ready"], true);
    endpoint.zone = reader.string(item["zone"]);
    out.endpoints.push_back(std::move(endpoint));
  });
}

void parse_secret(const Field& document, Reader& reader, Secret& out) {
  out.type = reader.string(document["type"], "Opaque");
  Field data = document["data"];
  if (reader.is_mapping(data)) {
    for (const Member& member : data.node().members()) {
      Field value = data.member(member);
      // Nothing of the value may get into a message.
      if (!value || !value.node().is_scalar()) {
        if (value) reader.error(value, "expected a base64 text");
        continue;
      }
      auto decoded = decode_base64(value.node().text());
      if (!decoded) {
        reader.error(value, "is not valid base64 (plain text belongs into stringData)");
        continue;
      }
      out.data.emplace_back(member.key, SecretBytes(std::move(*decoded)));
    }
  }
  Field plain = document["stringData"];
  if (reader.is_mapping(plain)) {
    for (const Member& member : plain.node().members()) {
      Field value = plain.member(member);
      if (value && !value.node().is_scalar()) {
        reader.error(value, "expected a string");
        continue;
      }
      std::erase_if(out.data, [&](const auto& entry) { return entry.first == member.key; });
      out.data.emplace_back(member.key, SecretBytes(std::string(value.node().text())));
    }
  }
  std::sort(out.data.begin(), out.data.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
}

void parse_config_map(const Field& document, Reader& reader, ConfigMap& out) {
  out.data = parse_pairs(document["data"], reader, true);
}

}  // namespace sluice::resource
