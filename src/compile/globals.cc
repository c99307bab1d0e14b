#include "compile/globals.h"

#include <charconv>

#include "compile/annotation_parsers.h"
#include "compile/filter_config.h"
#include "compile/mesh_config.h"
#include "resource/reader.h"
#include "resource/yaml.h"

namespace sluice::compile {
namespace {

using resource::Field;
using resource::Reader;
using std::chrono::seconds;

constexpr int64_t kMaxSeconds = 365LL * 86400;

void read_downstream(const Field& root, Reader& reader, config::Globals& out) {
  Field downstream = root["downstream"];
  if (!reader.is_mapping(downstream)) return;
  out.downstream_idle_timeout = seconds(reader.integer(downstream["idleTimeout"], 180, 0, kMaxSeconds));
  out.max_request_headers_bytes =
      static_cast<uint32_t>(reader.integer(downstream["maxRequestHeadersKb"], 60, 1, 8192)) * 1024;
  out.downstream_buffer_limit =
      static_cast<uint32_t>(reader.integer(downstream["connectionBufferLimits"], 32768, 0, UINT32_MAX));
  out.route_timeout = seconds(reader.integer(downstream["routeTimeout"], 0, 0, kMaxSeconds));
  Field http2 = downstream["http2"];
  if (!reader.is_mapping(http2)) return;
  out.h2_max_concurrent_streams =
      static_cast<uint32_t>(reader.integer(http2["maxConcurrentStreams"], 100, 1, INT32_MAX));
  out.h2_initial_stream_window =
      static_cast<uint32_t>(reader.integer(http2["initialStreamWindowSize"], 65535, 65535, INT32_MAX));
  out.h2_initial_connection_window =
      static_cast<uint32_t>(reader.integer(http2["initialConnectionWindowSize"], 1048576, 65535, INT32_MAX));
}

void read_upstream(const Field& root, Reader& reader, config::Globals& out) {
  Field upstream = root["upstream"];
  if (!reader.is_mapping(upstream)) return;
  out.upstream_idle_timeout = seconds(reader.integer(upstream["idleTimeout"], 10, 0, kMaxSeconds));
  out.upstream_buffer_limit =
      static_cast<uint32_t>(reader.integer(upstream["connectionBufferLimits"], 10485760, 0, UINT32_MAX));
}

int64_t compression_level(const Field& field, Reader& reader) {
  std::string word = reader.string(field, "BEST_COMPRESSION");
  if (word == "BEST_COMPRESSION") return 9;
  if (word == "BEST_SPEED") return 1;
  if (word == "DEFAULT_COMPRESSION") return 6;
  if (word.starts_with("COMPRESSION_LEVEL_") && word.size() == 19 && word[18] >= '1' && word[18] <= '9') {
    return word[18] - '0';
  }
  reader.error(field, resource::in_quotes(word) +
                          " is not one of BEST_COMPRESSION, BEST_SPEED, DEFAULT_COMPRESSION, "
                          "COMPRESSION_LEVEL_1 to _9");
  return 9;
}

std::optional<FilterSpec> read_gzip(const Field& root, Reader& reader) {
  using plugins::ConfigNode;
  Field gzip = root["gzip"];
  if (gzip && !reader.is_mapping(gzip)) return std::nullopt;
  bool enable = reader.boolean(gzip["enable"], true);
  FilterSpec out{"compression", ConfigNode::map(), "gzip"};
  auto set = [&](const char* name, int64_t value) { out.config.set(name, ConfigNode::scalar(std::to_string(value))); };
  ConfigNode& algorithms = out.config.set("algorithms", ConfigNode::list());
  algorithms.add(ConfigNode::scalar("gzip", true));
  set("min_content_length", reader.integer(gzip["minContentLength"], 1024, 1, INT32_MAX));
  ConfigNode types = ConfigNode::list();
  Field content_type = gzip["contentType"];
  if (content_type) {
    reader.each(content_type, [&](const Field& item) { types.add(ConfigNode::scalar(reader.string(item), true)); });
    if (types.items().empty()) reader.error(content_type, "must not be empty");
  } else {
    for (const char* type : {"text/html", "text/css", "text/plain", "text/xml", "application/json",
                             "application/javascript", "application/xhtml+xml", "image/svg+xml"}) {
      types.add(ConfigNode::scalar(type, true));
    }
  }
  out.config.set("content_types", std::move(types));
  out.config.set("disable_on_etag",
                 ConfigNode::scalar(reader.boolean(gzip["disableOnEtagHeader"], true) ? "true" : "false"));
  set("memory_level", reader.integer(gzip["memoryLevel"], 5, 1, 9));
  set("window_bits", reader.integer(gzip["windowBits"], 12, 9, 15));
  reader.integer(gzip["chunkSize"], 4096, 1, INT32_MAX);
  set("level", compression_level(gzip["compressionLevel"], reader));
  static constexpr const char* kStrategies[] = {"default", "filtered", "huffman_only", "rle", "fixed"};
  size_t strategy =
      reader.one_of(gzip["compressionStrategy"], {"DEFAULT_STRATEGY", "FILTERED", "HUFFMAN_ONLY", "RLE", "FIXED"});
  out.config.set("strategy", ConfigNode::scalar(kStrategies[strategy], true));
  if (!enable) return std::nullopt;
  return out;
}

// A percentage, in hundredths of it.
uint32_t percent(const Field& field, Reader& reader) {
  double value = 100;
  const std::string_view text = field.node().text();
  if (field) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !(value >= 0 && value <= 100)) {
      reader.error(field, "must be a number from 0 to 100");
      value = 0;
    }
  }
  return static_cast<uint32_t>(value * 100 + 0.5);
}

// Ports are numbers or numbers in quotes.
uint16_t quoted_port(const Field& field, Reader& reader) {
  int64_t port = 0;
  const std::string_view text = field.node().text();
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (!field || error != std::errc() || end != text.data() + text.size() || port < 1 || port > 65535) {
    reader.error(field, "must be a port from 1 to 65535");
    return 0;
  }
  return static_cast<uint16_t>(port);
}

std::optional<TracingOptions> read_tracing(const Field& root, Reader& reader, const std::string& system_namespace) {
  using Provider = config::Tracing::Provider;
  Field block = root["tracing"];
  if (!reader.is_mapping(block)) return std::nullopt;
  const bool enable = reader.boolean(block["enable"], false);
  TracingOptions out;
  config::Tracing& tracing = out.tracing;
  tracing.sampling = percent(block["sampling"], reader);
  tracing.timeout = std::chrono::milliseconds(reader.integer(block["timeout"], 500, 1, 60'000));
  tracing.service_name = "higress-gateway." + system_namespace;
  size_t providers = 0;
  for (const char* name : {"zipkin", "skywalking", "opentelemetry"}) providers += block[name] ? 1 : 0;
  if (enable && providers != 1) {
    reader.error(block, providers ? "only one of zipkin, skywalking and opentelemetry may be given"
                                  : "one of zipkin, skywalking and opentelemetry must be given");
    return std::nullopt;
  }
  auto provider = [&](const char* name, Provider kind) {
    Field field = block[name];
    if (!reader.is_mapping(field)) return;
    tracing.provider = kind;
    out.service = reader.required(field["service"]);
    out.port = quoted_port(field["port"], reader);
    if (kind == Provider::kZipkin) tracing.path = "/api/v2/spans";
    if (kind == Provider::kSkyWalking) tracing.access_token = reader.string(field["access_token"]);
    if (kind == Provider::kOtlpGrpc && reader.one_of(field["protocol"], {"grpc", "http"}) == 1) {
      tracing.provider = Provider::kOtlpHttp;
      tracing.path = reader.string(field["path"], "/v1/traces");
      if (!tracing.path.starts_with('/')) reader.error(field["path"], "must begin with '/'");
    }
  };
  provider("zipkin", Provider::kZipkin);
  provider("skywalking", Provider::kSkyWalking);
  provider("opentelemetry", Provider::kOtlpGrpc);
  if (!enable) return std::nullopt;
  return out;
}

// The annotations auth-…, for all Ingresses.
ExternalAuthOptions read_auth(const Field& root, Reader& reader, const std::string& system_namespace) {
  Field block = root["globalAuth"];
  if (!reader.is_mapping(block)) return {};
  static constexpr std::pair<const char*, ParseAnnotation> kFields[] = {
      {"url", read::auth_url},
      {"method", read::auth_method},
      {"signin", read::auth_signin},
      {"signinRedirectParam", read::auth_signin_param},
      {"responseHeaders", read::auth_response_headers},
      {"requestRedirect", read::auth_request_redirect},
      {"cacheKey", read::auth_cache_key},
      {"cacheDuration", read::auth_cache_duration},
      {"proxySetHeaders", read::auth_headers_map},
  };
  IngressOptions out;
  out.external_auth.always_set_cookie = reader.boolean(block["alwaysSetCookie"], false);
  for (const auto& [name, parse] : kFields) {
    Field field = block[name];
    const std::string value = reader.string(field);
    std::string error;
    if (!value.empty() && !parse({value, value, {}, system_namespace, out, &error})) reader.error(field, error);
  }
  if (out.external_auth.url.empty()) reader.error(block, "needs a url");
  return std::move(out.external_auth);
}

// Reads the YAML of one key with `read(root, reader)`. False: it is wrong, and `out` says why.
template <typename Read>
bool read_key(const resource::ConfigMap& map, const resource::Pair& text, resource::Diagnostics& out, Read read) {
  const size_t first = out.size();
  const std::string file = map.meta.file ? *map.meta.file : std::string();
  Reader reader(out, file, map.key().to_string());
  resource::YamlStream stream(text.value);
  const auto next = stream.next();
  bool good = next != resource::YamlStream::Next::kError;
  if (good) {
    const resource::Node empty;
    Field root(next == resource::YamlStream::Next::kDocument ? stream.document() : empty);
    if (root) reader.is_mapping(root);
    read(root, reader);
    good = reader.errors() == 0;
  } else {
    const resource::Mark mark = stream.error().mark;
    out.push_back(
        {resource::Severity::kError, file, mark.line, mark.column, map.key().to_string(), {}, stream.error().message});
  }
  // Lines within the text are told in the file's own count where the text is a block.
  for (size_t i = first; i < out.size(); ++i) {
    out[i].line += text.mark.line;
    out[i].field = "data." + text.key + (out[i].field.empty() ? std::string() : ": " + out[i].field);
    if (out[i].severity == resource::Severity::kError) out[i].message += "; the previous options stay in force";
  }
  return good;
}

void read_higress(const Field& root, Reader& reader, FilterCache& filters, const Options& options, GlobalOptions& out) {
  config::Globals& globals = out.globals;
  read_downstream(root, reader, globals);
  read_upstream(root, reader, globals);
  globals.add_x_real_ip = reader.boolean(root["addXRealIpHeader"], false);
  globals.disable_x_envoy_headers = reader.boolean(root["disableXEnvoyHeaders"], false);
  if (auto gzip = read_gzip(root, reader); gzip && reader.errors() == 0) {
    auto factory = filters.get(*gzip, {});
    if (factory) {
      globals.filters.push_back(*factory);
    } else {
      Field field = root["gzip"];
      reader.warn(field, "compression is off: " + factory.error().message);
    }
  }
  out.ingresses.auth = read_auth(root, reader, options.system_namespace);
  Field sluice = root["sluice"];
  if (reader.is_mapping(sluice) && sluice["compat"]) {
    out.ingresses.as_nginx = reader.one_of(sluice["compat"], {"higress", "nginx"}) == 1;
  }
  out.tracing = read_tracing(root, reader, options.system_namespace);
}

}  // namespace

std::optional<GlobalOptions> parse_globals(const resource::ConfigMap& map, FilterCache& filters, const Options& options,
                                           resource::Diagnostics& out) {
  const resource::Pair* higress = resource::find(map.data, kGlobalsKey);
  const resource::Pair* mesh = resource::find(map.data, kMeshKey);
  if (!higress && !mesh) return std::nullopt;
  GlobalOptions read;
  read.ingresses.as_nginx = options.as_nginx;
  bool good = true;
  if (higress) {
    good = read_key(map, *higress, out,
                    [&](const Field& root, Reader& reader) { read_higress(root, reader, filters, options, read); });
  }
  if (mesh) {
    good =
        read_key(map, *mesh, out, [&](const Field& root, Reader& reader) { read_mesh(root, reader, options, read); }) &&
        good;
  }
  if (!good) return std::nullopt;
  return read;
}

}  // namespace sluice::compile
