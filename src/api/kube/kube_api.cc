#include "api/kube/kube_api.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "api/kube/discovery.h"
#include "api/kube/events.h"
#include "api/kube/printer.h"
#include "api/kube/protobuf.h"
#include "api/kube/token.h"
#include "base/base64.h"
#include "base/log.h"

namespace sluice::api::kube {
namespace {

constexpr uint64_t kMaxWatchSeconds = 24 * 3600;
constexpr uint32_t kMinWatchSeconds = 1800;
constexpr size_t kMaxWarnings = 16;
constexpr size_t kMaxWarningLength = 256;
constexpr size_t kMaxManager = 128;
constexpr size_t kPageLimit = 10'000;

ServiceResponse json_response(int status, std::string body) {
  ServiceResponse out;
  out.status = status;
  out.content_type = "application/json";
  out.body = std::move(body);
  out.body += '\n';
  out.headers.emplace_back("cache-control", "no-cache, private");
  return out;
}

ServiceResponse error_response(const ApiError& error) { return json_response(error.code, error.to_json()); }

std::string success(const KindInfo& info, const std::string& name, const std::string& uid) {
  Json details = {{"kind", info.plural}};
  if (!name.empty()) details["name"] = name;
  if (!info.group.empty()) details["group"] = info.group;
  if (!uid.empty()) details["uid"] = uid;
  return to_text({{"kind", "Status"},
                  {"apiVersion", "v1"},
                  {"metadata", Json::object()},
                  {"status", "Success"},
                  {"details", std::move(details)}});
}

bool is_true(const std::string& text) { return text == "true" || text == "1"; }

std::optional<uint64_t> number_of(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// RFC 9110 §5.5 allows no control characters; a quoted string needs its quotes escaped.
void add_warnings(const std::vector<std::string>& warnings, ServiceResponse& response) {
  for (size_t i = 0; i < warnings.size() && i < kMaxWarnings; ++i) {
    std::string text = "299 - \"";
    for (const char c : warnings[i].substr(0, kMaxWarningLength)) {
      if (c == '"' || c == '\\') text += '\\';
      text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    }
    response.headers.emplace_back("warning", text + "\"");
  }
}

std::string media_type(const ServiceRequest& request) {
  std::string type(request.header("content-type"));
  type = type.substr(0, type.find(';'));
  while (type.ends_with(' ')) type.pop_back();
  return type;
}

Result<std::string> text_of_result(const Result<Json>& value) {
  if (!value.ok()) return value.error();
  return to_text(*value);
}

// The body as JSON; an absent one is empty.
Result<std::string> json_body(const ServiceRequest& request, const std::string& type) {
  if (!type.ends_with("yaml")) return request.body;
  return text_of_result(parse_yaml(request.body));
}

// Who changes an object: as it says itself, or the first word of its User-Agent but for server-side apply.
std::string manager_of(const ServiceRequest& request) {
  std::string given = request.parameter("fieldManager");
  if (!given.empty() || media_type(request) == "application/apply-patch+yaml") return given;
  const std::string_view agent = request.header("user-agent");
  given = std::string(agent.substr(0, std::min({agent.find('/'), agent.find(' '), kMaxManager})));
  return given.empty() ? "unknown" : given;
}

std::optional<ApiError> parse_dry_run(const std::vector<std::string>& values, bool* dry_run) {
  for (const std::string& value : values) {
    if (value != "All") return bad_request("dryRun: should be All");
    *dry_run = true;
  }
  return std::nullopt;
}

std::optional<PatchType> patch_type(const std::string& type) {
  if (type == "application/json-patch+json") return PatchType::kJson;
  if (type == "application/merge-patch+json") return PatchType::kMerge;
  if (type == "application/strategic-merge-patch+json") return PatchType::kStrategic;
  if (type == "application/apply-patch+yaml") return PatchType::kApply;
  return std::nullopt;
}

// Where a list goes on: the version at which it began, and the last object told.
struct Continuation {
  uint64_t version = 0;
  std::string ns, name;

  std::string to_text() const { return encode_base64(kube::to_text({{"v", version}, {"ns", ns}, {"name", name}})); }
  static std::optional<Continuation> parse(const std::string& text) {
    const auto decoded = decode_base64(text);
    if (!decoded) return std::nullopt;
    const Result<Json> value = parse_json(*decoded);
    if (!value.ok()) return std::nullopt;
    const Json* version = find(*value, "v");
    if (!version || !version->is_number_unsigned()) return std::nullopt;
    return Continuation{version->get<uint64_t>(), text_of(*value, "ns"), text_of(*value, "name")};
  }
};

}  // namespace

// What the path of a request names.
struct KubeApi::Target {
  const KindInfo* kind = nullptr;
  std::string ns;
  std::string name;  // empty: the collection
  bool status = false;

  ObjectKey key() const { return {kind, kind->namespaced ? ns : std::string(), name}; }

  static std::optional<Target> parse(std::string_view path) {
    std::vector<std::string> parts;
    for (size_t at = 1; at <= path.size();) {
      const size_t end = std::min(path.find('/', at), path.size());
      parts.push_back(url_decode(path.substr(at, end - at)));
      at = end + 1;
    }
    while (!parts.empty() && parts.back().empty()) parts.pop_back();
    std::string group;
    size_t next = 1;
    if (parts.size() > 2 && parts[0] == "apis") {
      group = parts[1];
      next = 2;
    } else if (parts.empty() || parts[0] != "api") {
      return std::nullopt;
    }
    if (parts.size() < next + 2) return std::nullopt;
    const std::string version = parts[next++];
    Target out;
    if (parts[next] == "namespaces" && parts.size() > next + 2) {
      out.ns = parts[next + 1];
      next += 2;
    }
    out.kind = find_kind(group, version, parts[next++]);
    if (!out.kind || parts.size() > next + 2) return std::nullopt;
    if (parts.size() == next + 2) {
      if (!out.kind->has_status_subresource() || parts.back() != "status") return std::nullopt;
      out.status = true;
      parts.pop_back();
    }
    if (parts.size() == next + 1) out.name = parts[next];
    if (!out.kind->namespaced && !out.ns.empty()) return std::nullopt;
    if (out.kind->namespaced && out.ns.empty() && !out.name.empty()) return std::nullopt;
    return out;
  }
};

KubeApi::KubeApi(event::Loop& loop, KubeApiOptions options, Editor::Host& host)
    : loop_(loop),
      options_(std::move(options)),
      store_(loop.wall_us(), {"default", options_.system_namespace}),
      watches_(loop, store_),
      editor_(loop, store_, options_.root, options_.system_namespace, host),
      random_(loop.wall_us()),
      service_(
          loop,
          [this](const ServiceRequest& request, HttpService::Respond respond) { handle(request, std::move(respond)); },
          kMaxBody) {
  service_.set_too_large([] { return error_response(too_large(kMaxBody)); });
  store_.set_listener([this](const ObjectEvent& event) { watches_.on_event(event); });
}

Status KubeApi::start(const std::vector<std::string>& files) {
  net::TlsServerConfig tls;
  tls.certificate_pem = tls.private_key_pem = options_.certificate_pem;
  tls.alpn = {"h2", "http/1.1"};
  auto context = net::TlsContext::server(tls);
  if (!context.ok()) return context.error();
  service_.set_tls(std::move(*context));
  editor_.reload(files);
  return service_.listen(options_.address);
}

void KubeApi::stop() {
  watches_.stop();
  service_.stop();
}

bool KubeApi::is_authentic(const ServiceRequest& request) const {
  const std::string_view given = request.header("authorization");
  constexpr std::string_view kScheme = "Bearer ";
  return given.starts_with(kScheme) && same_token(given.substr(kScheme.size()), options_.token);
}

void KubeApi::handle(const ServiceRequest& request, HttpService::Respond respond) {
  if (request.path == "/healthz" || request.path == "/livez" || request.path == "/readyz") {
    ServiceResponse ok;
    ok.body = "ok";
    return respond(std::move(ok));
  }
  if (!is_authentic(request)) {
    ServiceResponse refused = error_response(unauthorized());
    refused.headers.emplace_back("www-authenticate", "Bearer");
    return respond(std::move(refused));
  }
  if (request.path.starts_with("/apis/authorization.k8s.io/") ||
      request.path.starts_with("/apis/authentication.k8s.io/")) {
    return review(request, respond);
  }
  if (request.method == "GET") {
    if (request.path.starts_with("/openapi/v2") && request.header("accept").find("json") == std::string_view::npos) {
      // Clients that know only the binary form of it do without.
      return respond(error_response(no_such_path()));
    }
    if (auto document = aggregated_discovery(request.path, request.header("accept"))) {
      ServiceResponse response = json_response(200, std::move(*document));
      response.content_type = kAggregatedDiscovery;
      return respond(std::move(response));
    }
    if (auto document = discovery_document(request.path, options_.version)) {
      return respond(json_response(200, std::move(*document)));
    }
  }
  if (is_events_path(request.path)) {
    return respond(
        answer_events(request, options_.findings ? options_.findings() : resource::Diagnostics(), store_, now()));
  }
  const auto target = Target::parse(request.path);
  if (!target) return respond(error_response(no_such_path()));
  serve(request, *target, std::move(respond));
}

// Whoever has the token may do everything.
void KubeApi::review(const ServiceRequest& request, const HttpService::Respond& respond) const {
  const bool access = request.path == "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
  const bool self = request.path == "/apis/authentication.k8s.io/v1/selfsubjectreviews";
  if (!access && !self) return respond(error_response(no_such_path()));
  if (request.method != "POST") return respond(error_response(method_not_allowed(request.method)));
  // The question is not looked at: it may be in Kubernetes' binary form, and the answer is always the same.
  Json answer = {{"apiVersion", access ? "authorization.k8s.io/v1" : "authentication.k8s.io/v1"},
                 {"kind", access ? "SelfSubjectAccessReview" : "SelfSubjectReview"},
                 {"metadata", Json::object()}};
  if (access) answer["spec"] = Json::object();
  answer["status"] = access ? Json{{"allowed", true}} : Json{{"userInfo", {{"username", "sluice-admin"}}}};
  respond(json_response(201, to_text(answer)));
}

void KubeApi::serve(const ServiceRequest& request, const Target& target, HttpService::Respond respond) {
  const std::string& method = request.method;
  if (target.status && method != "GET" && method != "PUT" && method != "PATCH") {
    return respond(error_response(method_not_allowed(method)));
  }
  if (method == "GET") return respond(target.name.empty() ? list(request, target) : get(request, target.key()));
  if (method == "DELETE") return remove(request, target, std::move(respond));
  const bool to_collection = method == "POST";
  if ((method != "POST" && method != "PUT" && method != "PATCH") || to_collection != target.name.empty() ||
      (to_collection && target.kind->namespaced && target.ns.empty())) {
    return respond(error_response(method_not_allowed(method)));
  }
  change(request, target, std::move(respond));
}

ServiceResponse KubeApi::object_response(const ServiceRequest& request, const KindInfo& info, int status,
                                         std::string object) const {
  const Form form = form_of(request.header("accept"));
  if (form == Form::kObject) return json_response(status, std::move(object));
  const Json whole = Json::parse(object, nullptr, false);
  if (form == Form::kMetadata) return json_response(status, to_text(metadata_of(whole)));
  const Json* metadata = find(whole, "metadata");
  return json_response(status, R"({"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":")" +
                                   text_of(*metadata, "resourceVersion") + R"("},"columnDefinitions":)" +
                                   columns_of(info) + R"(,"rows":[)" +
                                   row_of(info, whole, row_object_of(request.parameter("includeObject")), now()) +
                                   "]}");
}

ServiceResponse KubeApi::get(const ServiceRequest& request, const ObjectKey& key) const {
  const StoredObject* object = store_.find(key);
  if (!object)
    return error_response(not_found(
        {std::string(key.kind->group), std::string(key.kind->plural), std::string(key.kind->kind), key.name}));
  return object_response(request, *key.kind, 200, with_version(*key.kind, *object->text, object->version));
}

ServiceResponse KubeApi::list(const ServiceRequest& request, const Target& target) {
  Result<LabelSelector> labels = LabelSelector::parse(request.parameter("labelSelector"));
  if (!labels.ok()) return error_response(bad_request(labels.error().message));
  Result<FieldSelector> fields = FieldSelector::parse(request.parameter("fieldSelector"));
  if (!fields.ok()) return error_response(bad_request(fields.error().message));
  Selection selection{target.kind, target.ns, std::move(*labels), std::move(*fields)};
  if (is_true(request.parameter("watch"))) return watch(request, std::move(selection));

  const KindInfo& info = *target.kind;
  const Form form = form_of(request.header("accept"));
  const RowObject carry = row_object_of(request.parameter("includeObject"));
  const std::string limit_text = request.parameter("limit");
  const size_t limit = std::min<uint64_t>(number_of(limit_text).value_or(0), kPageLimit);
  uint64_t version = store_.version();
  std::optional<ObjectKey> start;
  if (const std::string token = request.parameter("continue"); !token.empty()) {
    const auto from = Continuation::parse(token);
    if (!from) return error_response(bad_request("continue: is not a token that this API gave"));
    // A client watches from the version of the first page; that must still be possible when it has the last.
    if (!store_.replay(from->version, [](const ObjectEvent&) {})) return error_response(expired());
    version = from->version;
    start = ObjectKey{&info, from->ns, from->name};
  }
  std::string items;
  size_t count = 0;
  ObjectKey last;
  bool more = false, too_large = false;
  store_.for_each(info, target.ns, start ? &*start : nullptr, [&](const ObjectKey& key, const StoredObject& object) {
    if (!selection.fields.matches(key.ns, key.name) || !selection.labels.matches(*object.labels)) return true;
    if (limit && count == limit) return more = true, false;
    if (items.size() > kMaxListBytes) return too_large = true, false;
    if (count++) items += ',';
    std::string text = with_version(info, *object.text, object.version);
    if (form == Form::kObject) {
      items += text;
    } else {
      const Json whole = Json::parse(text, nullptr, false);
      items += form == Form::kTable ? row_of(info, whole, carry, now()) : to_text(metadata_of(whole));
    }
    last = key;
    return true;
  });
  if (too_large) return error_response(bad_request("the list is too long for one answer: use limit and continue"));
  Json metadata = {{"resourceVersion", std::to_string(version)}};
  if (more) metadata["continue"] = Continuation{version, last.ns, last.name}.to_text();
  std::string body;
  if (form == Form::kTable) {
    body = R"({"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":)" + to_text(metadata) +
           R"(,"columnDefinitions":)" + columns_of(info) + R"(,"rows":[)" + items + "]}";
  } else {
    const bool partial = form == Form::kMetadata;
    body = R"({"kind":")" + (partial ? "PartialObjectMetadata" : std::string(info.kind)) + R"(List","apiVersion":")" +
           (partial ? "meta.k8s.io/v1" : info.api_version()) + R"(","metadata":)" + to_text(metadata) +
           R"(,"items":[)" + items + "]}";
  }
  return json_response(200, std::move(body));
}

ServiceResponse KubeApi::watch(const ServiceRequest& request, Selection selection) {
  if (watches_.full()) return error_response(too_many_requests("there are too many watches"));
  WatchRequest wanted;
  wanted.selection = std::move(selection);
  wanted.form = form_of(request.header("accept"));
  wanted.carry = row_object_of(request.parameter("includeObject"));
  wanted.bookmarks = is_true(request.parameter("allowWatchBookmarks"));
  wanted.mark_initial_end = is_true(request.parameter("sendInitialEvents"));
  if (const std::string text = request.parameter("resourceVersion");
      !text.empty() && text != "0" && !wanted.mark_initial_end) {
    wanted.version = number_of(text);
    if (!wanted.version) return error_response(bad_request("resourceVersion: is not a version that this API gave"));
  }
  const auto seconds = number_of(request.parameter("timeoutSeconds"));
  wanted.timeout_ms =
      1000 * (seconds ? std::min(*seconds, kMaxWatchSeconds) : kMinWatchSeconds + random_.below(kMinWatchSeconds));
  return watches_.open(std::move(wanted));
}

void KubeApi::change(const ServiceRequest& request, const Target& target, HttpService::Respond respond) {
  const std::string type = media_type(request);
  Edit edit;
  edit.key = target.key();
  edit.verb = request.method == "POST"  ? Edit::Verb::kCreate
              : request.method == "PUT" ? Edit::Verb::kUpdate
                                        : Edit::Verb::kPatch;
  if (edit.verb == Edit::Verb::kPatch) {
    const auto patch = patch_type(type);
    if (!patch || (*patch == PatchType::kStrategic && target.kind->custom)) {
      return respond(error_response(unsupported_media_type(
          std::string("application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml") +
          (target.kind->custom ? "" : ", application/strategic-merge-patch+json"))));
    }
    edit.patch = *patch;
  } else if (!type.empty() && type != "application/json" && type != "application/yaml" &&
             (type != kProtobufType || !has_protobuf(*target.kind))) {
    return respond(error_response(
        unsupported_media_type("application/json, application/yaml" +
                               (has_protobuf(*target.kind) ? ", " + std::string(kProtobufType) : std::string()))));
  }
  Result<std::string> body = type == kProtobufType ? text_of_result(object_from_protobuf(*target.kind, request.body))
                                                   : json_body(request, type);
  if (!body.ok()) return respond(error_response(bad_request("the body of the request " + body.error().message)));
  edit.body = std::move(*body);
  if (auto error = parse_dry_run(request.parameters("dryRun"), &edit.dry_run)) return respond(error_response(*error));
  edit.status_only = target.status;
  edit.manager = manager_of(request);
  edit.force = is_true(request.parameter("force"));
  if (edit.verb == Edit::Verb::kPatch && edit.patch == PatchType::kApply && edit.manager.empty()) {
    return respond(error_response(bad_request("fieldManager: is required for apply patch")));
  }
  if (edit.manager.size() > kMaxManager) {
    return respond(error_response(bad_request("fieldManager: should have at most 128 characters")));
  }
  const std::string validation = request.parameter("fieldValidation");
  edit.validation = validation == "Strict"   ? FieldValidation::kStrict
                    : validation == "Ignore" ? FieldValidation::kIgnore
                                             : FieldValidation::kWarn;
  // The answer is made when the request is gone; its Accept decides the form.
  ServiceRequest asked;
  asked.headers.emplace_back("accept", request.header("accept"));
  edit.done = [this, asked, kind = target.kind, respond = std::move(respond)](EditResult result) {
    ServiceResponse response =
        result.error ? error_response(*result.error)
                     : object_response(asked, *kind, result.created ? 201 : 200, std::move(result.object));
    add_warnings(result.warnings, response);
    respond(std::move(response));
  };
  editor_.submit(std::move(edit));
}

void KubeApi::remove(const ServiceRequest& request, const Target& target, HttpService::Respond respond) {
  Edit edit;
  edit.verb = Edit::Verb::kDelete;
  edit.key = target.key();
  std::vector<std::string> dry_run = request.parameters("dryRun");
  if (!request.body.empty()) {
    const std::string type = media_type(request);
    Result<std::string> text =
        type == kProtobufType ? text_of_result(delete_options_from_protobuf(request.body)) : json_body(request, type);
    Result<Json> options = text.ok() ? parse_json(*text) : Result<Json>(text.error());
    if (!options.ok())
      return respond(error_response(bad_request("the body of the request " + options.error().message)));
    if (const Json* values = find(*options, "dryRun"); values && values->is_array()) {
      for (const Json& value : *values) dry_run.push_back(value.is_string() ? value.get<std::string>() : std::string());
    }
    if (const Json* conditions = find(*options, "preconditions")) {
      edit.expected_uid = text_of(*conditions, "uid");
      edit.expected_version = text_of(*conditions, "resourceVersion");
    }
  }
  if (auto error = parse_dry_run(dry_run, &edit.dry_run)) return respond(error_response(*error));

  std::vector<ObjectKey> keys;
  if (target.name.empty()) {
    Result<LabelSelector> labels = LabelSelector::parse(request.parameter("labelSelector"));
    if (!labels.ok()) return respond(error_response(bad_request(labels.error().message)));
    Result<FieldSelector> fields = FieldSelector::parse(request.parameter("fieldSelector"));
    if (!fields.ok()) return respond(error_response(bad_request(fields.error().message)));
    if (!target.kind->namespaced && target.kind->plural == "namespaces") {
      return respond(error_response(method_not_allowed("DELETE")));
    }
    store_.for_each(*target.kind, target.ns, nullptr, [&](const ObjectKey& key, const StoredObject& object) {
      if (fields->matches(key.ns, key.name) && labels->matches(*object.labels)) keys.push_back(key);
      return true;
    });
    return remove_all(std::move(keys), edit.dry_run,
                      [respond = std::move(respond), kind = target.kind](std::optional<ApiError> error) {
                        respond(error ? error_response(*error) : json_response(200, success(*kind, {}, {})));
                      });
  }
  edit.done = [respond = std::move(respond), kind = target.kind, name = target.name](EditResult result) {
    respond(result.error ? error_response(*result.error) : json_response(200, success(*kind, name, result.uid)));
  };
  if (target.kind->plural != "namespaces" || edit.dry_run || store_.is_permanent(target.name)) {
    return editor_.submit(std::move(edit));
  }
  // With a Namespace goes what is in it.
  for (const KindInfo& info : kinds()) {
    if (!info.namespaced) continue;
    store_.for_each(info, target.name, nullptr,
                    [&](const ObjectKey& key, const StoredObject&) { return keys.push_back(key), true; });
  }
  auto last = std::make_shared<Edit>(std::move(edit));
  remove_all(std::move(keys), false, [this, last](std::optional<ApiError> error) {
    if (error) return last->done({std::move(error), false, {}, {}, {}});
    editor_.submit(std::move(*last));
  });
}

// One after the other; ends at the first that can't be deleted.
void KubeApi::remove_all(std::vector<ObjectKey> keys, bool dry_run, std::function<void(std::optional<ApiError>)> done) {
  if (keys.empty() || dry_run) return done(std::nullopt);
  Edit edit;
  edit.verb = Edit::Verb::kDelete;
  edit.key = std::move(keys.back());
  keys.pop_back();
  edit.done = [this, keys = std::move(keys), done = std::move(done)](EditResult result) mutable {
    // What is gone already is no error.
    if (result.error && result.error->code != 404) return done(std::move(result.error));
    remove_all(std::move(keys), false, std::move(done));
  };
  editor_.submit(std::move(edit));
}

}  // namespace sluice::api::kube
