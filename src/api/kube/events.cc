#include "api/kube/events.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>

#include "api/kube/errors.h"
#include "api/kube/printer.h"
#include "api/kube/time_text.h"
#include "base/hash.h"

namespace sluice::api::kube {
namespace {

constexpr size_t kMaxMessage = 1024;
constexpr std::string_view kRoot = "/api/v1/";
constexpr std::string_view kPlural = "events";
constexpr size_t kMaxTerms = 20;

struct Path {
  std::string ns, name;  // empty: all
};

std::optional<Path> parse_path(std::string_view path) {
  if (!path.starts_with(kRoot)) return std::nullopt;
  path.remove_prefix(kRoot.size());
  Path out;
  if (path.starts_with("namespaces/")) {
    path.remove_prefix(11);
    const size_t slash = path.find('/');
    if (slash == path.npos) return std::nullopt;
    out.ns = url_decode(path.substr(0, slash));
    path.remove_prefix(slash + 1);
  }
  if (path == kPlural) return out;
  if (out.ns.empty() || !path.starts_with("events/")) return std::nullopt;
  out.name = url_decode(path.substr(7));
  return out;
}

// "involvedObject.name=a,type!=Normal": any path of strings.
class Selector {
 public:
  static Result<Selector> parse(std::string_view text) {
    Selector out;
    while (!text.empty()) {
      const size_t comma = std::min(text.find(','), text.size());
      const std::string_view term = text.substr(0, comma);
      text.remove_prefix(std::min(comma + 1, text.size()));
      if (term.empty()) continue;
      const size_t equals = term.find('=');
      if (equals == term.npos) {
        return Error{"invalid field selector \"" + std::string(term) + "\": expected field=value"};
      }
      const bool negated = equals > 0 && term[equals - 1] == '!';
      std::string_view value = term.substr(equals + 1);
      if (!negated && value.starts_with('=')) value.remove_prefix(1);
      if (out.terms_.size() == kMaxTerms) return Error{"the field selector has too many terms"};
      out.terms_.push_back({std::string(term.substr(0, equals - negated)), !negated, std::string(value)});
    }
    return out;
  }

  bool matches(const Json& event) const {
    for (const Term& term : terms_) {
      const size_t dot = term.field.find('.');
      const Json* owner = dot == std::string::npos ? &event : find(event, term.field.substr(0, dot));
      const std::string name = dot == std::string::npos ? term.field : term.field.substr(dot + 1);
      if (((owner ? text_of(*owner, name) : std::string()) == term.value) != term.equal) return false;
    }
    return true;
  }

 private:
  struct Term {
    std::string field;
    bool equal;
    std::string value;
  };
  std::vector<Term> terms_;
};

// "Ingress ns/name", of the kinds that are served.
std::optional<ObjectKey> key_of(const std::string& object) {
  const size_t space = object.find(' ');
  if (space == std::string::npos) return std::nullopt;
  for (const KindInfo& info : kinds()) {
    if (object.compare(0, space, info.kind) != 0) continue;
    std::string name = object.substr(space + 1), ns;
    if (const size_t slash = name.find('/'); slash != std::string::npos) {
      ns = name.substr(0, slash);
      name.erase(0, slash + 1);
    }
    return ObjectKey{&info, info.namespaced ? ns : std::string(), name};
  }
  return std::nullopt;
}

std::optional<Json> event_of(const resource::Diagnostic& finding, const ObjectStore& store, uint64_t version,
                             int64_t now) {
  if (finding.severity == resource::Severity::kInfo) return std::nullopt;
  const auto key = key_of(finding.object);
  const StoredObject* object = key ? store.find(*key) : nullptr;
  if (!object) return std::nullopt;
  std::string message = finding.field.empty() ? finding.message : finding.field + ": " + finding.message;
  message.resize(std::min(message.size(), kMaxMessage));
  const bool error = finding.severity == resource::Severity::kError;
  char suffix[20];
  std::snprintf(suffix, sizeof(suffix), "%016llx",
                static_cast<unsigned long long>(hash64(finding.object + message + (error ? "e" : "w"))));
  const Json whole = Json::parse(*object->text, nullptr, false);
  const std::string ns = key->ns.empty() ? "default" : key->ns;
  return Json{{"apiVersion", "v1"},
              {"kind", "Event"},
              {"metadata",
               {{"name", key->name.substr(0, 200) + "." + suffix},
                {"namespace", ns},
                {"uid", std::string(suffix)},
                {"resourceVersion", std::to_string(version)},
                {"creationTimestamp", time_text(now)}}},
              {"involvedObject",
               {{"apiVersion", key->kind->api_version()},
                {"kind", key->kind->kind},
                {"namespace", key->ns},
                {"name", key->name},
                {"uid", text_of(*find(whole, "metadata"), "uid")},
                {"resourceVersion", std::to_string(object->version)}}},
              {"type", "Warning"},
              {"reason", error ? "Invalid" : "Questionable"},
              {"message", message},
              {"source", {{"component", "sluice"}}},
              {"firstTimestamp", time_text(now)},
              {"lastTimestamp", time_text(now)},
              {"count", 1}};
}

ServiceResponse json_answer(int status, const Json& body) {
  ServiceResponse out;
  out.status = status;
  out.content_type = "application/json";
  out.body = to_text(body) + "\n";
  out.headers.emplace_back("cache-control", "no-cache, private");
  return out;
}

ServiceResponse error_answer(const ApiError& error) {
  ServiceResponse out = json_answer(error.code, Json());
  out.body = error.to_json() + "\n";
  return out;
}

Json table_of(const std::vector<Json>& events, RowObject carry, const Json& metadata) {
  Json columns = Json::array(), rows = Json::array();
  for (const char* name : {"Last Seen", "Type", "Reason", "Object", "Message", "Name"}) {
    columns.push_back({{"name", name},
                       {"type", "string"},
                       {"format", name == std::string_view("Name") ? "name" : ""},
                       {"description", ""},
                       {"priority", name == std::string_view("Name") ? 1 : 0}});
  }
  for (const Json& event : events) {
    const Json& involved = event["involvedObject"];
    std::string kind = text_of(involved, "kind");
    for (char& c : kind) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    Json row = {{"cells",
                 {human_duration(0), event["type"], event["reason"], kind + "/" + text_of(involved, "name"),
                  event["message"], event["metadata"]["name"]}}};
    if (carry == RowObject::kMetadata) row["object"] = metadata_of(event);
    if (carry == RowObject::kObject) row["object"] = event;
    rows.push_back(std::move(row));
  }
  return {{"kind", "Table"},
          {"apiVersion", "meta.k8s.io/v1"},
          {"metadata", metadata},
          {"columnDefinitions", std::move(columns)},
          {"rows", std::move(rows)}};
}

}  // namespace

bool is_events_path(std::string_view path) { return parse_path(path).has_value(); }

ServiceResponse answer_events(const ServiceRequest& request, const resource::Diagnostics& findings,
                              const ObjectStore& store, int64_t now) {
  const auto path = parse_path(request.path);
  if (!path) return error_answer(no_such_path());
  const std::string watch = request.parameter("watch");
  if (request.method != "GET" || watch == "true" || watch == "1") {
    return error_answer(method_not_allowed(request.method == "GET" ? "WATCH" : request.method));
  }
  Result<Selector> selector = Selector::parse(request.parameter("fieldSelector"));
  if (!selector.ok()) return error_answer(bad_request(selector.error().message));
  std::vector<Json> events;
  std::set<std::string> names;
  for (const resource::Diagnostic& finding : findings) {
    if (events.size() == kMaxEventsTold) break;
    auto event = event_of(finding, store, store.version(), now);
    if (!event || !selector->matches(*event)) continue;
    const Json& metadata = (*event)["metadata"];
    if (!path->ns.empty() && text_of(metadata, "namespace") != path->ns) continue;
    if (!path->name.empty() && text_of(metadata, "name") != path->name) continue;
    if (names.insert(text_of(metadata, "namespace") + "/" + text_of(metadata, "name")).second) {
      events.push_back(std::move(*event));
    }
  }
  const Form form = form_of(request.header("accept"));
  const Json metadata = {{"resourceVersion", std::to_string(store.version())}};
  if (!path->name.empty() && events.empty()) {
    return error_answer(not_found({{}, std::string(kPlural), "Event", path->name}));
  }
  if (form == Form::kTable) {
    return json_answer(200, table_of(events, row_object_of(request.parameter("includeObject")), metadata));
  }
  if (!path->name.empty()) return json_answer(200, form == Form::kMetadata ? metadata_of(events[0]) : events[0]);
  if (form == Form::kMetadata) {
    for (Json& event : events) event = metadata_of(event);
  }
  return json_answer(200, {{"kind", form == Form::kMetadata ? "PartialObjectMetadataList" : "EventList"},
                           {"apiVersion", form == Form::kMetadata ? "meta.k8s.io/v1" : "v1"},
                           {"metadata", metadata},
                           {"items", events}});
}

}  // namespace sluice::api::kube
