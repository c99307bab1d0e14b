#include "resource/json.h"
#include "resource/parse_kinds.h"

namespace sluice::resource {
namespace {

SecretBytes config_of(const Field& field, Reader& reader) {
  if (!field) return {};
  if (!reader.is_mapping(field)) return {};
  std::string text;
  write_json(field.node(), text);
  return SecretBytes(std::move(text));
}

void read_names(const Field& list, Reader& reader, std::vector<std::string>& out) {
  if (!list) return;
  reader.each(list, [&](const Field& item) { out.push_back(reader.required(item)); });
}

void read_rule(const Field& item, Reader& reader, WasmPlugin& out) {
  if (!reader.is_mapping(item)) return;
  WasmPlugin::MatchRule rule;
  read_names(item["ingress"], reader, rule.ingresses);
  read_names(item["domain"], reader, rule.domains);
  read_names(item["service"], reader, rule.services);
  rule.grpc = reader.one_of(item["routeType"], {"HTTP", "GRPC"}) == 1;
  rule.disabled = reader.boolean(item["configDisable"], false);
  rule.config = config_of(item["config"], reader);
  if (!rule.disabled && rule.ingresses.empty() && rule.domains.empty() && rule.services.empty()) {
    reader.error(item, "needs at least one of ingress, domain and service");
  }
  out.rules.push_back(std::move(rule));
}

void read_method(const Field& item, Reader& reader, Http2Rpc& out) {
  if (!reader.is_mapping(item)) return;
  Http2Rpc::Method method;
  method.service_method = reader.required(item["serviceMethod"]);
  Field path = item["httpPath"];
  method.http_path = reader.required(path);
  if (!method.http_path.empty() && method.http_path[0] != '/') reader.error(path, "must begin with '/'");
  Field methods = item["httpMethods"];
  bool first = true;
  reader.each(methods, [&](const Field& word) {
    static constexpr std::string_view kMethods[] = {"GET", "POST", "PUT", "DELETE", "PATCH"};
    const size_t index = reader.one_of(word, {"GET", "POST", "PUT", "DELETE", "PATCH"});
    if (first) method.http_method = kMethods[index];
    first = false;
  });
  if (first) reader.error(methods, "must name a method");
  method.headers_attach = reader.string(item["headersAttach"]);
  Field body = item["paramFromEntireBody"];
  if (body && reader.is_mapping(body)) method.entire_body_type = reader.required(body["paramType"]);
  Field parameters = item["params"];
  if (parameters) {
    reader.each(parameters, [&](const Field& given) {
      if (!reader.is_mapping(given)) return;
      Http2Rpc::Parameter parameter;
      parameter.source =
          static_cast<Http2Rpc::Source>(reader.one_of(given["paramSource"], {"QUERY", "HEADER", "PATH", "BODY"}));
      parameter.key = reader.required(given["paramKey"]);
      parameter.type = reader.required(given["paramType"]);
      method.parameters.push_back(std::move(parameter));
    });
  }
  out.methods.push_back(std::move(method));
}

}  // namespace

void parse_wasm_plugin(const Field& document, Reader& reader, WasmPlugin& out) {
  Field spec = document["spec"];
  if (!reader.is_mapping(spec)) return reader.error(spec, "must be a mapping");
  out.url = reader.required(spec["url"]);
  if (const Pair* label = find(out.meta.labels, "higress.io/wasm-plugin-name")) out.name = label->value;
  out.phase =
      static_cast<WasmPlugin::Phase>(reader.one_of(spec["phase"], {"UNSPECIFIED_PHASE", "AUTHN", "AUTHZ", "STATS"}));
  out.priority = reader.integer(spec["priority"], 0, INT32_MIN, INT32_MAX);
  out.fail_open = reader.one_of(spec["failStrategy"], {"FAIL_CLOSE", "FAIL_OPEN"}) == 1;
  out.default_disabled = reader.boolean(spec["defaultConfigDisable"], false);
  out.default_config = config_of(spec["defaultConfig"], reader);
  out.plugin_config = config_of(spec["pluginConfig"], reader);
  Field rules = spec["matchRules"];
  if (rules) reader.each(rules, [&](const Field& item) { read_rule(item, reader, out); });
}

void parse_http2_rpc(const Field& document, Reader& reader, Http2Rpc& out) {
  Field spec = document["spec"];
  if (!reader.is_mapping(spec)) return reader.error(spec, "must be a mapping");
  Field dubbo = spec["dubbo"];
  if (!reader.is_mapping(dubbo)) {
    return reader.error(dubbo, spec["grpc"] ? "is needed: grpc is not supported" : "is needed");
  }
  out.service = reader.required(dubbo["service"]);
  out.version = reader.required(dubbo["version"]);
  out.group = reader.string(dubbo["group"]);
  Field methods = dubbo["methods"];
  reader.each(methods, [&](const Field& item) { read_method(item, reader, out); });
  if (reader.errors() == 0 && out.methods.empty()) reader.error(methods, "must hold at least one method");
}

}  // namespace sluice::resource
