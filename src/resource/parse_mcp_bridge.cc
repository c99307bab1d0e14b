#include <charconv>

#include "resource/parse_kinds.h"

namespace sluice::resource {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

template <typename Function>
void each_comma_item(std::string_view list, Function function) {
  for (;;) {
    size_t comma = list.find(',');
    function(trim(list.substr(0, comma)));
    if (comma == list.npos) return;
    list.remove_prefix(comma + 1);
  }
}

std::optional<std::pair<std::string, uint16_t>> parse_ip_port(std::string_view text) {
  size_t colon = text.rfind(':');
  if (colon == text.npos) return std::nullopt;
  std::string_view ip = text.substr(0, colon);
  std::string_view digits = text.substr(colon + 1);
  bool bracketed = ip.size() > 2 && ip.front() == '[' && ip.back() == ']';
  if (bracketed) ip = ip.substr(1, ip.size() - 2);
  uint32_t port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0 || port > 65535) return std::nullopt;
  if (!is_ip_address(ip) || (ip.find(':') != ip.npos) != bracketed) return std::nullopt;
  return std::pair(std::string(ip), static_cast<uint16_t>(port));
}

// A name of at least two labels whose last has at least two letters, so that an address is none.
bool is_domain(std::string_view text) {
  if (!is_dns_name(text)) return false;
  size_t dot = text.rfind('.');
  if (dot == text.npos || text.size() - dot < 3) return false;
  for (char c : text.substr(dot + 1)) {
    if (c < 'a' || c > 'z') return false;
  }
  return true;
}

void parse_domains(const Field& item, Reader& reader, Registry& out) {
  Field domain = item["domain"];
  std::string list = reader.required(domain);
  if (list.empty()) return;
  each_comma_item(list, [&](std::string_view text) {
    if (out.type == Registry::Type::kStatic) {
      if (auto address = parse_ip_port(text)) {
        out.addresses.push_back(std::move(*address));
      } else {
        reader.error(domain, in_quotes(text) + " is not an address: for type static give ip:port, separated by commas");
      }
      return;
    }
    std::string name = to_lower(text);
    if (is_domain(name)) {
      out.domains.push_back(std::move(name));
    } else {
      reader.error(domain, in_quotes(text) +
                               " is not a domain name: for type dns give names without a port, separated by commas");
    }
  });
}

void parse_protocol(const Field& item, Reader& reader, Registry& out) {
  Field field = item["protocol"];
  std::string protocol = to_lower(reader.string(field, "http"));
  if (protocol.empty()) protocol = "http";
  if (protocol == "tri" || protocol == "triple") protocol = "grpc";
  for (std::string_view known : {"http", "https", "http2", "grpc", "grpcs", "tcp", "dubbo"}) {
    if (protocol == known) {
      out.protocol = protocol;
      return;
    }
  }
  reader.error(field, in_quotes(protocol) + " is not one of http, https, http2, grpc, grpcs, tri, triple, tcp, dubbo");
}

// False: refused. `out` is then known as far as its type and name, if these are good.
bool parse_registry(const Field& item, Reader& reader, Registry& out) {
  size_t before = reader.errors();
  out.mark = item.mark();
  if (!reader.is_mapping(item)) return false;
  Field type = item["type"];
  std::string kind = reader.required(type);
  std::string name = reader.required(item["name"]);
  if (kind == "static") {
    out.type = Registry::Type::kStatic;
  } else if (kind == "dns") {
    out.type = Registry::Type::kDns;
  } else if (kind == "nacos" || kind == "nacos2" || kind == "nacos3" || kind == "zookeeper" || kind == "consul" ||
             kind == "eureka") {
    reader.error(type, "not supported yet: type " + kind);
  } else if (!kind.empty()) {
    reader.error(type,
                 in_quotes(kind) + " is not one of nacos, nacos2, nacos3, zookeeper, consul, eureka, static, dns");
  }
  if (reader.errors() != before) return false;
  if (is_dns_name(to_lower(name))) {
    out.name = std::move(name);
  } else {
    reader.error(item["name"], in_quotes(name) + " is not a service name: letters, digits, '-' and '.'");
  }
  if (!item["port"]) reader.error(item["port"], "is missing");
  out.port = reader.port(item["port"]);
  parse_domains(item, reader, out);
  parse_protocol(item, reader, out);
  out.sni = to_lower(reader.string(item["sni"]));
  out.proxy_name = reader.string(item["proxyName"]);
  if (out.sni.empty() && out.domains.size() == 1) out.sni = out.domains[0];
  if (!out.proxy_name.empty()) reader.error(item["proxyName"], "not supported yet: proxies");
  return reader.errors() == before;
}

}  // namespace

// Errors of one registry drop that registry; only errors outside of them refuse the object.
void parse_mcp_bridge(const Field& document, Reader& reader, McpBridge& out) {
  Field spec = document["spec"];
  if (!spec) return reader.error(spec, "is missing");
  if (!reader.is_mapping(spec)) return;
  Field list = spec["registries"];
  if (!reader.is_list(list)) return;
  int index = 0;
  for (const Node& node : list.node().items()) {
    Field item = list.item(node, index++);
    size_t before = reader.errors();
    Registry registry;
    bool good = parse_registry(item, reader, registry);
    reader.forgive(before);
    if (!good) {
      if (!registry.name.empty()) out.refused.push_back(registry.host());
      continue;
    }
    // Identity is type and name; the last one wins.
    auto same = [&](const Registry& r) { return r.type == registry.type && r.name == registry.name; };
    if (std::erase_if(out.registries, same)) {
      reader.warn(item["name"], in_quotes(registry.name) + " of this type is here twice; the last one counts");
    }
    out.registries.push_back(std::move(registry));
  }
}

}  // namespace sluice::resource
