// The envelope of every object: documents, Lists, apiVersion and kind, metadata. The kinds' own
// fields are read by the parse_*.cc beside this.

#include "resource/parse.h"

#include <algorithm>
#include <ctime>

#include "resource/parse_kinds.h"

namespace sluice::resource {
namespace {

struct KindInfo {
  std::string_view name;
  std::string_view group;  // up to the slash of apiVersion; empty: the core group
  bool namespaced;
};

// In the order of enum Kind.
constexpr KindInfo kKinds[kKindCount] = {
    {"Ingress", "networking.k8s.io", true},
    {"IngressClass", "networking.k8s.io", false},
    {"Service", "", true},
    {"Endpoints", "", true},
    {"EndpointSlice", "discovery.k8s.io", true},
    {"Secret", "", true},
    {"ConfigMap", "", true},
    {"McpBridge", "networking.higress.io", true},
    {"WasmPlugin", "extensions.higress.io", true},
    {"Http2Rpc", "networking.higress.io", true},
};

std::string_view group_of(std::string_view api_version) {
  size_t slash = api_version.find('/');
  return slash == api_version.npos ? std::string_view() : api_version.substr(0, slash);
}

std::optional<Kind> known_kind(std::string_view name, std::string_view api_version) {
  std::string_view group = group_of(api_version);
  for (size_t i = 0; i < kKindCount; ++i) {
    if (kKinds[i].name != name) continue;
    if (kKinds[i].group == group || (name == "Ingress" && group == "extensions")) return static_cast<Kind>(i);
  }
  return std::nullopt;
}

// RFC 3339 in UTC or with an offset, seconds precision. 0 if it is not a time.
int64_t parse_time(std::string_view text) {
  int year, month, day, hour, minute, second, consumed = 0;
  std::string copy(text.substr(0, 40));
  if (sscanf(copy.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second, &consumed) != 6) {
    return 0;
  }
  std::tm tm{};
  tm.tm_year = year - 1900;
  tm.tm_mon = month - 1;
  tm.tm_mday = day;
  tm.tm_hour = hour;
  tm.tm_min = minute;
  tm.tm_sec = second;
  int64_t time = timegm(&tm);
  std::string_view zone = std::string_view(copy).substr(static_cast<size_t>(consumed));
  if (zone.starts_with('.')) zone.remove_prefix(std::min(zone.find_first_not_of("0123456789", 1), zone.size()));
  int offset_hours, offset_minutes;
  if (zone == "Z" || zone == "z") return time;
  if (zone.size() != 6 || (zone[0] != '+' && zone[0] != '-')) return 0;
  if (sscanf(std::string(zone.substr(1)).c_str(), "%2d:%2d", &offset_hours, &offset_minutes) != 2) return 0;
  int64_t offset = offset_hours * 3600 + offset_minutes * 60;
  return zone[0] == '+' ? time - offset : time + offset;
}

std::shared_ptr<Object> new_object(Kind kind) {
  switch (kind) {
    case Kind::kIngress:
      return std::make_shared<Ingress>();
    case Kind::kIngressClass:
      return std::make_shared<IngressClass>();
    case Kind::kService:
      return std::make_shared<Service>();
    case Kind::kEndpoints:
      return std::make_shared<Endpoints>();
    case Kind::kEndpointSlice:
      return std::make_shared<EndpointSlice>();
    case Kind::kSecret:
      return std::make_shared<Secret>();
    case Kind::kConfigMap:
      return std::make_shared<ConfigMap>();
    case Kind::kMcpBridge:
      return std::make_shared<McpBridge>();
    case Kind::kWasmPlugin:
      return std::make_shared<WasmPlugin>();
    case Kind::kHttp2Rpc:
      return std::make_shared<Http2Rpc>();
  }
  return nullptr;
}

void parse_fields(const Field& document, Reader& reader, Object& object) {
  switch (object.kind) {
    case Kind::kIngress:
      return parse_ingress(document, reader, static_cast<Ingress&>(object));
    case Kind::kIngressClass:
      return parse_ingress_class(document, reader, static_cast<IngressClass&>(object));
    case Kind::kService:
      return parse_service(document, reader, static_cast<Service&>(object));
    case Kind::kEndpoints:
      return parse_endpoints(document, reader, static_cast<Endpoints&>(object));
    case Kind::kEndpointSlice:
      return parse_endpoint_slice(document, reader, static_cast<EndpointSlice&>(object));
    case Kind::kSecret:
      return parse_secret(document, reader, static_cast<Secret&>(object));
    case Kind::kConfigMap:
      return parse_config_map(document, reader, static_cast<ConfigMap&>(object));
    case Kind::kMcpBridge:
      return parse_mcp_bridge(document, reader, static_cast<McpBridge&>(object));
    case Kind::kWasmPlugin:
      return parse_wasm_plugin(document, reader, static_cast<WasmPlugin&>(object));
    case Kind::kHttp2Rpc:
      return parse_http2_rpc(document, reader, static_cast<Http2Rpc&>(object));
  }
}

// What other programs annotate (kubectl's last applied configuration is as large as the object) is
// not kept.
bool is_read_annotation(std::string_view key) {
  return key.starts_with("higress.io/") || key.starts_with("nginx.ingress.kubernetes.io/") ||
         key.starts_with("sluice.io/") || key == "kubernetes.io/ingress.class";
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
}

uint64_t fingerprint(const Node& node, uint64_t seed) {
  uint64_t hash = mix(seed, static_cast<uint64_t>(node.kind()) << 32 | node.mark().line);
  if (node.is_scalar()) return mix(hash, std::hash<std::string_view>()(node.text()) * 2 + node.is_quoted());
  for (const Node& item : node.items()) hash = fingerprint(item, hash);
  for (const Member& member : node.members()) {
    hash = fingerprint(member.value, mix(hash, std::hash<std::string_view>()(member.key)));
  }
  return hash;
}

// Of an object: what only the API server's bookkeeping changes (status, managedFields, resourceVersion) doesn't count.
uint64_t object_fingerprint(const Node& object) {
  uint64_t hash = 0;
  for (const Member& member : object.members()) {
    if (member.key == "status") continue;
    hash = mix(hash, std::hash<std::string_view>()(member.key));
    if (member.key != "metadata") {
      hash = fingerprint(member.value, hash);
      continue;
    }
    for (std::string_view key : {"name", "namespace", "annotations", "labels", "creationTimestamp"}) {
      const Node* value = member.value.find(key);
      hash = value ? fingerprint(*value, mix(hash, std::hash<std::string_view>()(key))) : mix(hash, 0);
    }
  }
  return hash;
}

class ManifestParser {
 public:
  ManifestParser(ParsedFile& out, const Limits& limits) : out_(out), limits_(limits) {}

  void document(const Node& node, std::string_view kind = {}, std::string_view api_version = {}) {
    if (node.is_null()) return;
    Field root(node);
    Reader reader(out_.diagnostics, *out_.file, {});
    if (!node.is_mapping()) {
      reader.error(root, std::string("expected an object with apiVersion and kind, found ") + node.kind_name());
      out_.has_unidentified = true;
      return;
    }
    object(root, kind, api_version);
  }

  bool exceeded() const { return objects_ > limits_.max_documents; }

 private:
  // `kind` and `api_version` are what a List says about its items; an item's own win.
  void object(const Field& root, std::string_view list_kind, std::string_view list_version) {
    if (++objects_ > limits_.max_documents) return;
    Reader reader(out_.diagnostics, *out_.file, {});
    if (!reader.is_mapping(root)) {
      out_.has_unidentified = true;
      return;
    }
    std::string kind = reader.string(root["kind"], list_kind);
    std::string api_version = reader.string(root["apiVersion"], list_version);
    if (kind.empty()) reader.error(root["kind"], "is missing");
    if (api_version.empty()) reader.error(root["apiVersion"], "is missing");
    if (reader.errors()) {
      out_.has_unidentified = true;
      return;
    }
    Field items = root["items"];
    if (items && kind.ends_with("List") && !known_kind(kind, api_version)) {
      list(items, reader, kind, api_version);
      return;
    }
    auto known = known_kind(kind, api_version);
    if (!known) {
      unknown(kind, api_version, root.mark());
      return;
    }
    known_object(root, reader, *known);
  }

  void list(const Field& items, Reader& reader, std::string_view kind, std::string_view api_version) {
    std::string_view item_kind = kind == "List" ? std::string_view() : kind.substr(0, kind.size() - 4);
    std::string_view item_version = kind == "List" ? std::string_view() : api_version;
    reader.each(items, [&](const Field& item) { object(item, item_kind, item_version); });
  }

  void unknown(const std::string& kind, const std::string& api_version, Mark mark) {
    std::string name = kind + " (" + api_version + ")";
    for (const auto& [seen, at] : out_.unknown_kinds) {
      if (seen == name) return;
    }
    out_.unknown_kinds.emplace_back(std::move(name), mark);
  }

  void known_object(const Field& root, Reader& reader, Kind kind) {
    std::shared_ptr<Object> object = new_object(kind);
    Meta& meta = object->meta;
    meta.file = out_.file;
    meta.mark = root.mark();
    meta.fingerprint = object_fingerprint(root.node());
    if (!identify(root, reader, kind, meta)) {
      out_.has_unidentified = true;
      return;
    }
    reader.set_object(object->key().to_string());
    Field metadata = root["metadata"];
    if (kind == Kind::kEndpointSlice || kind == Kind::kWasmPlugin)
      meta.labels = parse_pairs(metadata["labels"], reader, true);
    if (kind == Kind::kIngress)
      meta.annotations = parse_pairs(metadata["annotations"], reader, true, is_read_annotation);
    Field created = metadata["creationTimestamp"];
    if (created && (meta.created = parse_time(created.node().text())) == 0) {
      reader.warn(created, in_quotes(created.node().text()) +
                               " is not a time such as 2024-01-31T12:00:00Z; the age is taken as unknown");
    }
    parse_fields(root, reader, *object);
    ObjectKey key = object->key();
    out_.objects.push_back({std::move(key), reader.errors() ? nullptr : ObjectPtr(std::move(object)), root.mark()});
  }

  bool identify(const Field& root, Reader& reader, Kind kind, Meta& meta) {
    reader.set_object(std::string(kKinds[static_cast<size_t>(kind)].name));
    Field metadata = root["metadata"];
    if (!metadata) {
      reader.error(metadata, "is missing");
      return false;
    }
    if (!reader.is_mapping(metadata)) return false;
    meta.name = reader.required(metadata["name"]);
    if (!meta.name.empty() && !is_dns_name(meta.name)) {
      reader.error(metadata["name"],
                   in_quotes(meta.name) + " is not a valid name: lower-case letters, digits, '-' and '.'");
    }
    if (kKinds[static_cast<size_t>(kind)].namespaced) {
      meta.ns = reader.string(metadata["namespace"], "default");
      if (meta.ns.empty()) meta.ns = "default";
      if (!is_label(meta.ns)) {
        reader.error(metadata["namespace"],
                     in_quotes(meta.ns) + " is not a valid namespace: lower-case letters, digits and '-'");
      }
    }
    return reader.errors() == 0;
  }

  ParsedFile& out_;
  const Limits& limits_;
  uint32_t objects_ = 0;
};

}  // namespace

ParsedFile parse_manifests(std::string_view text, std::shared_ptr<const std::string> file, const Limits& limits) {
  ParsedFile out;
  out.file = std::move(file);
  YamlStream stream(text, limits);
  ManifestParser parser(out, limits);
  for (;;) {
    YamlStream::Next next = stream.next();
    if (next == YamlStream::Next::kEnd) return out;
    if (next == YamlStream::Next::kError) {
      ParsedFile refused = unreadable_file(out.file, stream.error().message);
      refused.diagnostics[0].line = stream.error().mark.line;
      refused.diagnostics[0].column = stream.error().mark.column;
      return refused;
    }
    parser.document(stream.document());
    if (parser.exceeded()) {
      return unreadable_file(out.file, "more than " + std::to_string(limits.max_documents) + " objects in one file");
    }
  }
}

ParsedFile parse_object(const Node& object, std::shared_ptr<const std::string> file, std::string_view kind,
                        std::string_view api_version) {
  ParsedFile out;
  out.file = std::move(file);
  const Limits limits;
  ManifestParser(out, limits).document(object, kind, api_version);
  return out;
}

ParsedFile unreadable_file(std::shared_ptr<const std::string> file, std::string message) {
  ParsedFile out;
  out.file = std::move(file);
  out.readable = false;
  out.diagnostics.push_back({Severity::kError, *out.file, 0, 0, {}, {}, std::move(message)});
  return out;
}

}  // namespace sluice::resource
