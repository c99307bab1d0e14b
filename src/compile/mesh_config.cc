#include "compile/mesh_config.h"

#include <re2/re2.h>

#include <charconv>

#include "compile/annotation_values.h"

namespace sluice::compile {
namespace {

using resource::Field;
using resource::in_quotes;
using resource::Reader;

// "1.5s", "100ms", "2m": Go's durations with one unit, and Istio's.
std::chrono::milliseconds duration(const Field& field, Reader& reader) {
  const std::string text = reader.string(field);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  const double factor = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "m" ? 60'000 : unit == "h" ? 3'600'000 : 0;
  if (error != std::errc() || factor == 0 || value < 0 || value * factor > 1e10) {
    reader.error(field, in_quotes(text) + " is not a duration such as 500ms or 2s");
    return {};
  }
  return std::chrono::milliseconds(static_cast<int64_t>(value * factor));
}

void read_access_log(const Field& root, Reader& reader, const Options& options, config::Globals& out) {
  if (Field file = root["accessLogFile"]) {
    const std::string path = reader.string(file);
    out.access_log = !path.empty();
    if (out.access_log && path != "/dev/stdout") reader.info(file, "where the log goes is said by --access-log");
  }
  Field format = root["accessLogFormat"];
  if (!format) return;
  std::string text = reader.string(format);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (text.empty()) return;
  const std::string problem = options.check_access_log_format ? options.check_access_log_format(text) : std::string();
  if (!problem.empty()) reader.error(format, problem);
  out.access_log_format = std::move(text);
}

// Envoy's words.
bool add_condition(std::string_view word, config::RetryPolicy& out) {
  using R = config::RetryPolicy;
  static constexpr std::pair<std::string_view, uint32_t> kWords[] = {
      {"5xx", R::kOn5xx},
      {"gateway-error", R::kOnGatewayError},
      {"connect-failure", R::kOnConnectFailure},
      {"refused-stream", R::kOnRefusedStream},
      {"reset", R::kOnReset},
      {"unavailable", R::kOnUnavailable},
      {"cancelled", R::kOnCancelled},
      {"retriable-status-codes", R::kOnStatus},
  };
  for (const auto& [name, bit] : kWords) {
    if (name != word) continue;
    out.on |= bit;
    return true;
  }
  int status = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), status);
  if (error != std::errc() || end != word.data() + word.size() || status < 100 || status > 599) return false;
  if (!(out.on & R::kOnStatus)) out.statuses.clear();
  out.on |= R::kOnStatus;
  out.statuses.push_back(static_cast<uint16_t>(status));
  return true;
}

void read_retries(const Field& policy, Reader& reader, config::Globals& out) {
  if (!reader.is_mapping(policy)) return;
  auto retry = std::make_shared<config::RetryPolicy>();
  retry->max_retries = static_cast<uint32_t>(reader.integer(policy["attempts"], 2, 0, 100));
  if (Field timeout = policy["perTryTimeout"]) retry->per_try_timeout = duration(timeout, reader);
  if (Field on = policy["retryOn"]) {
    retry->on = 0;
    for (const std::string& word : split_list(reader.string(on), ", ")) {
      if (!add_condition(word, *retry)) reader.error(on, in_quotes(word) + " is not a condition for retries");
    }
  }
  out.retry = std::move(retry);
}

void read_log_filters(const Field& list, Reader& reader, config::Globals& out) {
  reader.each(list, [&](const Field& item) {
    config::AccessLogFilter filter;
    Field host = item["host"];
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(1 << 20);
    const std::string pattern = reader.required(host);
    auto regex = std::make_shared<re2::RE2>(pattern, options);
    if (!regex->ok()) return reader.error(host, in_quotes(pattern) + " is not a regular expression: " + regex->error());
    filter.host = std::move(regex);
    filter.sample_percent = static_cast<uint32_t>(reader.integer(item["sampleRate"], 100, 0, 100));
    out.access_log_filters.push_back(std::move(filter));
  });
}

std::string tls_version(const Field& field, Reader& reader) {
  static constexpr std::string_view kNames[] = {"TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"};
  const size_t index = reader.one_of(field, {"TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"});
  if (index == 1 || index == 2) {
    reader.warn(field, std::string(kNames[index]) + " is not offered: TLSV1_2 is the lowest version");
    return "TLSv1.2";
  }
  return index == 0 ? "" : index == 3 ? "TLSv1.2" : "TLSv1.3";
}

config::ClientCertDetails client_cert_details(const Field& field, Reader& reader) {
  using enum config::ClientCertDetails;
  static constexpr config::ClientCertDetails kValues[] = {kSanitizeSet,   kSanitize,    kForwardOnly,
                                                          kAppendForward, kSanitizeSet, kAlwaysForwardOnly};
  return kValues[reader.one_of(
      field, {"UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"})];
}

config::PathNormalization path_normalization(const Field& field, Reader& reader) {
  using enum config::PathNormalization;
  static constexpr config::PathNormalization kValues[] = {kBase, kNone, kBase, kMergeSlashes, kDecodeAndMergeSlashes};
  return kValues[reader.one_of(field, {"DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"})];
}

void read_ingress_config(const Field& block, Reader& reader, GlobalOptions& out) {
  if (!reader.is_mapping(block)) return;
  out.globals.proxy_protocol = reader.boolean(block["enableProxyProtocol"], false);
  if (Field h3 = block["enableH3"]; reader.boolean(h3, false)) reader.warn(h3, "HTTP/3 is not supported; it is off");
  out.tls.min_version = tls_version(block["tlsMinProtocolVersion"], reader);
  out.tls.max_version = tls_version(block["tlsMaxProtocolVersion"], reader);
  if (out.tls.min_version > out.tls.max_version && !out.tls.max_version.empty()) {
    reader.error(block["tlsMinProtocolVersion"], "is above tlsMaxProtocolVersion");
  }
  Field suites = block["tlsCipherSuites"];
  if (suites) {
    reader.each(suites, [&](const Field& item) {
      std::string error;
      std::string list = out.tls.ciphers;
      const std::string name = reader.string(item);
      if (!add_cipher(name, &list, &error)) return reader.warn(item, error);
      out.tls.ciphers = std::move(list);
    });
  }
  if (Field filters = block["accessLogFilters"]) read_log_filters(filters, reader, out.globals);
}

}  // namespace

void read_mesh(const Field& root, Reader& reader, const Options& options, GlobalOptions& out) {
  if (!reader.is_mapping(root)) return;
  read_access_log(root, reader, options, out.globals);
  if (Field policy = root["defaultHttpRetryPolicy"]) read_retries(policy, reader, out.globals);
  Field defaults = root["defaultConfig"];
  if (reader.is_mapping(defaults)) {
    out.tls.offer_http2 = !reader.boolean(defaults["disableAlpnH2"], false);
    Field topology = defaults["gatewayTopology"];
    if (reader.is_mapping(topology)) {
      Field hops = topology["numTrustedProxies"];
      if (hops) out.globals.trusted_hops = static_cast<uint32_t>(reader.integer(hops, 0, 0, 100));
      Field details = topology["forwardClientCertDetails"];
      if (details) out.globals.client_cert_details = client_cert_details(details, reader);
    }
  }
  Field paths = root["pathNormalization"];
  if (reader.is_mapping(paths)) {
    if (Field kind = paths["normalization"]) out.globals.path_normalization = path_normalization(kind, reader);
  }
  read_ingress_config(root["mseIngressGlobalConfig"], reader, out);
}

}  // namespace sluice::compile
