#pragma once
// One parser per kind: fills the typed object from the document and reports through the reader.
// Private to resource/.

#include "resource/objects.h"
#include "resource/reader.h"

namespace sluice::resource {

void parse_ingress(const Field& document, Reader& reader, Ingress& out);
void parse_ingress_class(const Field& document, Reader& reader, IngressClass& out);
void parse_service(const Field& document, Reader& reader, Service& out);
void parse_endpoints(const Field& document, Reader& reader, Endpoints& out);
void parse_endpoint_slice(const Field& document, Reader& reader, EndpointSlice& out);
void parse_secret(const Field& document, Reader& reader, Secret& out);
void parse_config_map(const Field& document, Reader& reader, ConfigMap& out);
void parse_mcp_bridge(const Field& document, Reader& reader, McpBridge& out);
void parse_wasm_plugin(const Field& document, Reader& reader, WasmPlugin& out);
void parse_http2_rpc(const Field& document, Reader& reader, Http2Rpc& out);

// A mapping of strings to strings, sorted by key. With `lenient`, a number or boolean is taken by
// its text, with a warning. With `wanted`, other keys are passed over.
Pairs parse_pairs(const Field& mapping, Reader& reader, bool lenient, bool (*wanted)(std::string_view key) = nullptr);

}  // namespace sluice::resource
