#include "api/kube/protobuf.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "api/kube/time_text.h"
#include "base/base64.h"

namespace sluice::api::kube {
namespace {

enum class Type : uint8_t {
  kString,
  kInteger,
  kBoolean,
  kMessage,
  kInline,   // a message whose members are the owner's in JSON
  kStrings,  // a map from string to string
  kBytes,    // a map from string to bytes, in base64 in JSON
  kTime,
  kIntOrString,
};

struct Field;
using Message = std::span<const Field>;

struct Field {
  uint32_t number;
  const char* name;
  Type type = Type::kString;
  Message message{};
  bool list = false;
  bool optional = false;  // its zero is told from its absence
};

constexpr bool kList = true, kOptional = true;
using enum Type;

// The numbers are those of the generated.proto files of k8s.io/api and k8s.io/apimachinery.

constexpr Field kOwnerReference[] = {
    {1, "kind"},
    {3, "name"},
    {4, "uid"},
    {5, "apiVersion"},
    {6, "controller", kBoolean, {}, false, kOptional},
    {7, "blockOwnerDeletion", kBoolean, {}, false, kOptional},
};
constexpr Field kObjectMeta[] = {
    {1, "name"},
    {2, "generateName"},
    {3, "namespace"},
    {5, "uid"},
    {6, "resourceVersion"},
    {7, "generation", kInteger},
    {8, "creationTimestamp", kTime},
    {9, "deletionTimestamp", kTime},
    {10, "deletionGracePeriodSeconds", kInteger, {}, false, kOptional},
    {11, "labels", kStrings},
    {12, "annotations", kStrings},
    {13, "ownerReferences", kMessage, kOwnerReference, kList},
    {14, "finalizers", kString, {}, kList},
};
constexpr Field kObjectReference[] = {
    {1, "kind"}, {2, "namespace"}, {3, "name"}, {4, "uid"}, {5, "apiVersion"}, {6, "resourceVersion"}, {7, "fieldPath"},
};

constexpr Field kConfigMap[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "data", kStrings},
    {3, "binaryData", kBytes},
    {4, "immutable", kBoolean, {}, false, kOptional},
};
constexpr Field kSecret[] = {
    {1, "metadata", kMessage, kObjectMeta},           {2, "data", kBytes}, {3, "type"}, {4, "stringData", kStrings},
    {5, "immutable", kBoolean, {}, false, kOptional},
};

constexpr Field kNamespaceSpec[] = {{1, "finalizers", kString, {}, kList}};
constexpr Field kNamespaceStatus[] = {{1, "phase"}};
constexpr Field kNamespace[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "spec", kMessage, kNamespaceSpec},
    {3, "status", kMessage, kNamespaceStatus},
};

constexpr Field kPortStatus[] = {{1, "port", kInteger}, {2, "protocol"}, {3, "error"}};
constexpr Field kServiceBalancerIngress[] = {
    {1, "ip"}, {2, "hostname"}, {3, "ipMode"}, {4, "ports", kMessage, kPortStatus, kList}};
constexpr Field kServiceBalancer[] = {{1, "ingress", kMessage, kServiceBalancerIngress, kList}};
constexpr Field kCondition[] = {
    {1, "type"},   {2, "status"},  {3, "observedGeneration", kInteger}, {4, "lastTransitionTime", kTime},
    {5, "reason"}, {6, "message"},
};
constexpr Field kServiceStatus[] = {
    {1, "loadBalancer", kMessage, kServiceBalancer},
    {2, "conditions", kMessage, kCondition, kList},
};
constexpr Field kServicePort[] = {
    {1, "name"},
    {2, "protocol"},
    {3, "port", kInteger},
    {4, "targetPort", kIntOrString},
    {5, "nodePort", kInteger},
    {6, "appProtocol"},
};
constexpr Field kClientIp[] = {{1, "timeoutSeconds", kInteger, {}, false, kOptional}};
constexpr Field kSessionAffinity[] = {{1, "clientIP", kMessage, kClientIp}};
constexpr Field kServiceSpec[] = {
    {1, "ports", kMessage, kServicePort, kList},
    {2, "selector", kStrings},
    {3, "clusterIP"},
    {4, "type"},
    {5, "externalIPs", kString, {}, kList},
    {7, "sessionAffinity"},
    {8, "loadBalancerIP"},
    {9, "loadBalancerSourceRanges", kString, {}, kList},
    {10, "externalName"},
    {11, "externalTrafficPolicy"},
    {12, "healthCheckNodePort", kInteger},
    {13, "publishNotReadyAddresses", kBoolean},
    {14, "sessionAffinityConfig", kMessage, kSessionAffinity},
    {17, "ipFamilyPolicy"},
    {18, "clusterIPs", kString, {}, kList},
    {19, "ipFamilies", kString, {}, kList},
    {20, "allocateLoadBalancerNodePorts", kBoolean, {}, false, kOptional},
    {21, "loadBalancerClass"},
    {22, "internalTrafficPolicy"},
    {23, "trafficDistribution"},
};
constexpr Field kService[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "spec", kMessage, kServiceSpec},
    {3, "status", kMessage, kServiceStatus},
};

constexpr Field kEndpointAddress[] = {
    {1, "ip"}, {2, "targetRef", kMessage, kObjectReference}, {3, "hostname"}, {4, "nodeName"}};
constexpr Field kEndpointsPort[] = {{1, "name"}, {2, "port", kInteger}, {3, "protocol"}, {4, "appProtocol"}};
constexpr Field kEndpointSubset[] = {
    {1, "addresses", kMessage, kEndpointAddress, kList},
    {2, "notReadyAddresses", kMessage, kEndpointAddress, kList},
    {3, "ports", kMessage, kEndpointsPort, kList},
};
constexpr Field kEndpoints[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "subsets", kMessage, kEndpointSubset, kList},
};

constexpr Field kSlicePort[] = {
    {1, "name", kString, {}, false, kOptional},
    {2, "protocol"},
    {3, "port", kInteger, {}, false, kOptional},
    {4, "appProtocol"},
};
constexpr Field kEndpointConditions[] = {
    {1, "ready", kBoolean, {}, false, kOptional},
    {2, "serving", kBoolean, {}, false, kOptional},
    {3, "terminating", kBoolean, {}, false, kOptional},
};
constexpr Field kNamed[] = {{1, "name"}};
constexpr Field kEndpointHints[] = {
    {1, "forZones", kMessage, kNamed, kList},
    {2, "forNodes", kMessage, kNamed, kList},
};
constexpr Field kEndpoint[] = {
    {1, "addresses", kString, {}, kList},
    {2, "conditions", kMessage, kEndpointConditions},
    {3, "hostname"},
    {4, "targetRef", kMessage, kObjectReference},
    {5, "deprecatedTopology", kStrings},
    {6, "nodeName"},
    {7, "zone"},
    {8, "hints", kMessage, kEndpointHints},
};
constexpr Field kEndpointSlice[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "endpoints", kMessage, kEndpoint, kList},
    {3, "ports", kMessage, kSlicePort, kList},
    {4, "addressType"},
};

constexpr Field kBackendPort[] = {{1, "name"}, {2, "number", kInteger}};
constexpr Field kBackendService[] = {{1, "name"}, {2, "port", kMessage, kBackendPort}};
constexpr Field kTypedReference[] = {{1, "apiGroup"}, {2, "kind"}, {3, "name"}};
constexpr Field kBackend[] = {
    {3, "resource", kMessage, kTypedReference},
    {4, "service", kMessage, kBackendService},
};
constexpr Field kIngressPath[] = {{1, "path"}, {2, "backend", kMessage, kBackend}, {3, "pathType"}};
constexpr Field kIngressHttp[] = {{1, "paths", kMessage, kIngressPath, kList}};
constexpr Field kIngressRuleValue[] = {{1, "http", kMessage, kIngressHttp}};
constexpr Field kIngressRule[] = {{1, "host"}, {2, "", kInline, kIngressRuleValue}};
constexpr Field kIngressTls[] = {{1, "hosts", kString, {}, kList}, {2, "secretName"}};
constexpr Field kIngressSpec[] = {
    {1, "defaultBackend", kMessage, kBackend},
    {2, "tls", kMessage, kIngressTls, kList},
    {3, "rules", kMessage, kIngressRule, kList},
    {4, "ingressClassName", kString, {}, false, kOptional},
};
constexpr Field kIngressBalancerIngress[] = {{1, "ip"}, {2, "hostname"}, {4, "ports", kMessage, kPortStatus, kList}};
constexpr Field kIngressBalancer[] = {{1, "ingress", kMessage, kIngressBalancerIngress, kList}};
constexpr Field kIngressStatus[] = {{1, "loadBalancer", kMessage, kIngressBalancer}};
constexpr Field kIngress[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "spec", kMessage, kIngressSpec},
    {3, "status", kMessage, kIngressStatus},
};

constexpr Field kClassParameters[] = {{1, "apiGroup"}, {2, "kind"}, {3, "name"}, {4, "scope"}, {5, "namespace"}};
constexpr Field kIngressClassSpec[] = {{1, "controller"}, {2, "parameters", kMessage, kClassParameters}};
constexpr Field kIngressClass[] = {
    {1, "metadata", kMessage, kObjectMeta},
    {2, "spec", kMessage, kIngressClassSpec},
};

constexpr Field kPreconditions[] = {{1, "uid"}, {2, "resourceVersion"}};
constexpr Field kDeleteOptions[] = {
    {1, "gracePeriodSeconds", kInteger, {}, false, kOptional},
    {2, "preconditions", kMessage, kPreconditions},
    {4, "propagationPolicy"},
    {5, "dryRun", kString, {}, kList},
};

std::optional<Message> message_of(std::string_view kind) {
  static constexpr std::pair<std::string_view, Message> kMessages[] = {
      {"ConfigMap", kConfigMap}, {"Endpoints", kEndpoints},       {"EndpointSlice", kEndpointSlice},
      {"Ingress", kIngress},     {"IngressClass", kIngressClass}, {"Namespace", kNamespace},
      {"Secret", kSecret},       {"Service", kService},
  };
  for (const auto& [name, message] : kMessages) {
    if (name == kind) return message;
  }
  return std::nullopt;
}

// One field after the other of a message. Views into the text.
class WireReader {
 public:
  explicit WireReader(std::string_view text) : text_(text) {}

  // False at the end and at what is not well-formed; ok() tells which.
  bool next() {
    if (at_ == text_.size()) return false;
    uint64_t tag = 0;
    if (!varint(&tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX) return ok_ = false;
    number_ = static_cast<uint32_t>(tag >> 3);
    wire_ = static_cast<unsigned>(tag & 7);
    switch (wire_) {
      case 0:
        return ok_ = varint(&value_);
      case 1:
        return ok_ = take(8);
      case 2:
        return ok_ = varint(&value_) && take(value_);
      case 5:
        return ok_ = take(4);
      default:
        return ok_ = false;  // groups are not used
    }
  }
  bool ok() const { return ok_; }
  uint32_t number() const { return number_; }
  bool is_varint() const { return wire_ == 0; }
  bool is_bytes() const { return wire_ == 2; }
  uint64_t value() const { return value_; }
  std::string_view bytes() const { return bytes_; }

 private:
  bool varint(uint64_t* out) {
    *out = 0;
    for (unsigned shift = 0; shift < 64 && at_ < text_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(text_[at_++]);
      *out |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool take(uint64_t size) {
    if (size > text_.size() - at_) return false;
    bytes_ = text_.substr(at_, size);
    at_ += size;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  bool ok_ = true;
  uint32_t number_ = 0;
  unsigned wire_ = 0;
  uint64_t value_ = 0;
  std::string_view bytes_;
};

// No surrogates, nothing overlong, nothing above U+10FFFF (RFC 3629).
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i++]);
    if (lead < 0x80) continue;
    const unsigned more = lead < 0xc2 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : lead < 0xf5 ? 3 : 0;
    if (more == 0 || text.size() - i < more) return false;
    const auto second = static_cast<uint8_t>(text[i]);
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
        (lead == 0xf4 && second > 0x8f)) {
      return false;
    }
    for (unsigned k = 0; k < more; ++k) {
      if ((static_cast<uint8_t>(text[i++]) & 0xc0) != 0x80) return false;
    }
  }
  return true;
}

// RFC 3339; nothing for a time that a client can't mean.
std::optional<std::string> readable_time(int64_t seconds) {
  constexpr int64_t kLatest = 253'402'300'799;  // the year 9999
  if (seconds < 0 || seconds > kLatest) return std::nullopt;
  return time_text(seconds);
}

class Decoder {
 public:
  // False if the text is not well-formed or holds too much.
  bool message(std::string_view text, Message fields, Json& out) {
    if (!out.is_object()) out = Json::object();
    WireReader in(text);
    while (in.next()) {
      for (const Field& field : fields) {
        if (field.number == in.number() && !read(in, field, out)) return false;
      }
    }
    return in.ok();
  }

 private:
  bool read(const WireReader& in, const Field& field, Json& out) {
    if (++values_ > kMaxProtobufValues) return false;
    const bool number = field.type == kInteger || field.type == kBoolean;
    if (number ? !in.is_varint() : !in.is_bytes()) return false;
    if (field.type == kInline) return message(in.bytes(), field.message, out);
    if (field.type == kStrings || field.type == kBytes) return entry(in.bytes(), field, out[field.name]);
    Json value;
    bool empty = false;
    if (!single(in, field, value, empty)) return false;
    if (field.list) {
      Json& list = out[field.name];
      if (list.is_null()) list = Json::array();
      list.push_back(std::move(value));
    } else if (!empty || field.optional) {
      out[field.name] = std::move(value);
    }
    return true;
  }

  bool single(const WireReader& in, const Field& field, Json& out, bool& empty) {
    switch (field.type) {
      case kInteger:
        out = static_cast<int64_t>(in.value());
        empty = in.value() == 0;
        return true;
      case kBoolean:
        out = in.value() != 0;
        empty = in.value() == 0;
        return true;
      case kMessage:
        if (!message(in.bytes(), field.message, out)) return false;
        empty = out.empty();
        return true;
      case kTime:
        return time(in.bytes(), out, empty);
      case kIntOrString:
        return int_or_string(in.bytes(), out, empty);
      default:
        if (!is_utf8(in.bytes())) return false;
        out = std::string(in.bytes());
        empty = in.bytes().empty();
        return true;
    }
  }

  bool entry(std::string_view text, const Field& field, Json& out) {
    if (!out.is_object()) out = Json::object();
    std::string_view key, value;
    WireReader in(text);
    while (in.next()) {
      if (!in.is_bytes()) return false;
      if (in.number() == 1) key = in.bytes();
      if (in.number() == 2) value = in.bytes();
    }
    if (!in.ok() || !is_utf8(key) || (field.type == kStrings && !is_utf8(value))) return false;
    out[std::string(key)] = field.type == kBytes ? encode_base64(value) : std::string(value);
    return true;
  }

  static bool time(std::string_view text, Json& out, bool& empty) {
    empty = true;  // an absent time has no seconds at all
    WireReader in(text);
    while (in.next()) {
      if (in.number() != 1) continue;
      const auto written = in.is_varint() ? readable_time(static_cast<int64_t>(in.value())) : std::nullopt;
      if (!written) return false;
      out = *written;
      empty = false;
    }
    return in.ok();
  }

  static bool int_or_string(std::string_view text, Json& out, bool& empty) {
    bool is_text = false;
    int64_t number = 0;
    std::string_view word;
    WireReader in(text);
    while (in.next()) {
      if (in.number() == 1) is_text = in.value() == 1;
      if (in.number() == 2) number = static_cast<int32_t>(in.value());
      if (in.number() == 3) word = in.bytes();
    }
    if (is_text) {
      if (!is_utf8(word)) return false;
      out = std::string(word);
    } else {
      out = number;
    }
    empty = is_text ? word.empty() : number == 0;
    return in.ok();
  }

  size_t values_ = 0;
};

// What runtime.Unknown says: the object's type and its bytes.
struct Envelope {
  std::string_view api_version, kind, raw;

  static std::optional<Envelope> parse(std::string_view body) {
    constexpr std::string_view kMagic("k8s\0", 4);
    if (!body.starts_with(kMagic)) return std::nullopt;
    Envelope out;
    WireReader in(body.substr(kMagic.size()));
    while (in.next()) {
      if (in.number() == 2) out.raw = in.bytes();
      // No encoding of `raw` is defined but none at all.
      if (in.number() == 3 && !in.bytes().empty()) return std::nullopt;
      if (in.number() != 1) continue;
      WireReader type(in.bytes());
      while (type.next()) {
        if (type.number() == 1) out.api_version = type.bytes();
        if (type.number() == 2) out.kind = type.bytes();
      }
      if (!type.ok()) return std::nullopt;
    }
    return in.ok() && is_utf8(out.api_version) && is_utf8(out.kind) ? std::optional(out) : std::nullopt;
  }
};

Result<Json> decode(std::string_view body, Message fields) {
  const Error malformed{"is not an object in " + std::string(kProtobufType)};
  const auto envelope = Envelope::parse(body);
  Json out = Json::object();
  if (!envelope || !Decoder().message(envelope->raw, fields, out)) return malformed;
  out["apiVersion"] = std::string(envelope->api_version);
  out["kind"] = std::string(envelope->kind);
  return out;
}

}  // namespace

bool has_protobuf(const KindInfo& info) { return message_of(info.kind).has_value(); }

Result<Json> object_from_protobuf(const KindInfo& info, std::string_view body) {
  const auto fields = message_of(info.kind);
  if (!fields) return Error{"is of a kind that has no binary form"};
  return decode(body, *fields);
}

Result<Json> delete_options_from_protobuf(std::string_view body) { return decode(body, kDeleteOptions); }

}  // namespace sluice::api::kube
