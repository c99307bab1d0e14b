#include "api/kube/discovery.h"

#include <nlohmann/json.hpp>

#include "api/kube/fields.h"
#include "api/kube/json.h"
#include "api/kube/kinds.h"

namespace sluice::api::kube {
namespace {

Json version_document(std::string_view sluice_version) {
  return {{"major", "1"},
          {"minor", "36"},
          {"gitVersion", std::string(kKubernetesVersion) + "+sluice-" + std::string(sluice_version)},
          {"gitCommit", ""},
          {"gitTreeState", "clean"},
          {"buildDate", "1970-01-01T00:00:00Z"},
          {"goVersion", ""},
          {"compiler", "clang"},
          {"platform", "linux/amd64"}};
}

constexpr std::string_view kVerbs[] = {"create", "delete", "deletecollection", "get",
                                       "list",   "patch",  "update",           "watch"};
constexpr std::string_view kEventVerbs[] = {"get", "list"};
constexpr std::string_view kStatusVerbs[] = {"get", "patch", "update"};

Json group_entry(const GroupVersion& group) {
  const Json version = {{"groupVersion", std::string(group.group) + "/" + std::string(group.version)},
                        {"version", group.version}};
  return {{"name", group.group}, {"versions", {version}}, {"preferredVersion", version}};
}

Json group_list() {
  Json out = {{"kind", "APIGroupList"}, {"apiVersion", "v1"}, {"groups", Json::array()}};
  for (const GroupVersion& group : groups()) out["groups"].push_back(group_entry(group));
  return out;
}

Json resource_list(std::string_view group, std::string_view version) {
  Json resources = Json::array();
  std::string group_version;
  for (const KindInfo& info : kinds()) {
    if (info.group != group || info.version != version) continue;
    group_version = info.api_version();
    Json entry = {{"name", info.plural},
                  {"singularName", info.singular},
                  {"namespaced", info.namespaced},
                  {"kind", info.kind},
                  {"verbs", kVerbs}};
    if (!info.short_names.empty()) entry["shortNames"] = info.short_names;
    if (info.in_all) entry["categories"] = {"all"};
    resources.push_back(std::move(entry));
    if (!info.has_status_subresource()) continue;
    resources.push_back({{"name", std::string(info.plural) + "/status"},
                         {"singularName", ""},
                         {"namespaced", info.namespaced},
                         {"kind", info.kind},
                         {"verbs", kStatusVerbs}});
  }
  if (group.empty()) {
    resources.push_back({{"name", "events"},
                         {"singularName", "event"},
                         {"namespaced", true},
                         {"kind", "Event"},
                         {"shortNames", {"ev"}},
                         {"verbs", kEventVerbs}});
  }
  return {{"kind", "APIResourceList"}, {"apiVersion", "v1"}, {"groupVersion", group_version}, {"resources", resources}};
}

// --- aggregated discovery: all resources of all groups in one answer

Json aggregated_version(std::string_view group, std::string_view version) {
  Json resources = Json::array();
  for (const KindInfo& info : kinds()) {
    if (info.group != group || info.version != version) continue;
    const Json kind = {{"group", info.group}, {"version", info.version}, {"kind", info.kind}};
    Json entry = {{"resource", info.plural},
                  {"responseKind", kind},
                  {"scope", info.namespaced ? "Namespaced" : "Cluster"},
                  {"singularResource", info.singular},
                  {"verbs", kVerbs}};
    if (!info.short_names.empty()) entry["shortNames"] = info.short_names;
    if (info.in_all) entry["categories"] = {"all"};
    if (info.has_status_subresource()) {
      entry["subresources"] =
          Json::array({{{"subresource", "status"}, {"responseKind", kind}, {"verbs", kStatusVerbs}}});
    }
    resources.push_back(std::move(entry));
  }
  if (group.empty()) {
    resources.push_back({{"resource", "events"},
                         {"responseKind", {{"group", ""}, {"version", "v1"}, {"kind", "Event"}}},
                         {"scope", "Namespaced"},
                         {"singularResource", "event"},
                         {"shortNames", {"ev"}},
                         {"verbs", kEventVerbs}});
  }
  return {{"version", version}, {"freshness", "Current"}, {"resources", std::move(resources)}};
}

Json aggregated_group(std::string_view group, std::string_view version) {
  Json metadata = Json::object();
  if (!group.empty()) metadata["name"] = group;
  return {{"metadata", std::move(metadata)}, {"versions", Json::array({aggregated_version(group, version)})}};
}

Json aggregated(bool core) {
  Json items = Json::array();
  if (core) items.push_back(aggregated_group("", "v1"));
  for (const GroupVersion& group : groups()) {
    if (!core) items.push_back(aggregated_group(group.group, group.version));
  }
  return {{"kind", "APIGroupDiscoveryList"},
          {"apiVersion", "apidiscovery.k8s.io/v2"},
          {"metadata", Json::object()},
          {"items", std::move(items)}};
}

// --- OpenAPI 3: what a client looks for are the fields, and that changes take dryRun and fieldValidation.

Json query_parameter(const char* name, const char* type = "string") {
  return {{"name", name}, {"in", "query"}, {"schema", {{"type", type}, {"uniqueItems", true}}}};
}

Json operation(const KindInfo& info, const char* action, bool changes) {
  Json parameters = Json::array();
  if (changes) {
    for (const char* name : {"dryRun", "fieldManager", "fieldValidation"}) parameters.push_back(query_parameter(name));
  }
  return {{"parameters", std::move(parameters)},
          {"responses", {{"200", {{"description", "OK"}}}}},
          {"x-kubernetes-action", action},
          {"x-kubernetes-group-version-kind", {{"group", info.group}, {"version", info.version}, {"kind", info.kind}}}};
}

std::string schema_name(const KindInfo& info) {
  return (info.group.empty() ? std::string("core") : std::string(info.group)) + "." + std::string(info.version) + "." +
         std::string(info.kind);
}

Json openapi3(std::string_view group, std::string_view version) {
  Json paths = Json::object(), schemas = Json::object();
  for (const KindInfo& info : kinds()) {
    if (info.group != group || info.version != version) continue;
    const std::string root = (info.group.empty() ? "/api/" : "/apis/") + info.api_version() + "/" +
                             (info.namespaced ? "namespaces/{namespace}/" : "") + std::string(info.plural);
    paths[root] = {{"get", operation(info, "list", false)}, {"post", operation(info, "post", true)}};
    paths[root + "/{name}"] = {{"get", operation(info, "get", false)},
                               {"put", operation(info, "put", true)},
                               {"patch", operation(info, "patch", true)},
                               {"delete", operation(info, "delete", true)}};
    schemas[schema_name(info)] = schema_of(info);
  }
  return {{"openapi", "3.0.0"},
          {"info", {{"title", "Sluice"}, {"version", kKubernetesVersion}}},
          {"paths", std::move(paths)},
          {"components", {{"schemas", std::move(schemas)}}}};
}

Json openapi3_index() {
  Json paths = Json::object();
  const auto add = [&](const std::string& path) { paths[path] = {{"serverRelativeURL", "/openapi/v3/" + path}}; };
  add("api/v1");
  for (const GroupVersion& group : groups()) {
    add("apis/" + std::string(group.group) + "/" + std::string(group.version));
  }
  return {{"paths", std::move(paths)}};
}

// OpenAPI 2 with the kinds alone, for clients that ask for it.
Json openapi2() {
  Json definitions = Json::object();
  for (const KindInfo& info : kinds()) definitions[schema_name(info)] = schema_of(info);
  return {{"swagger", "2.0"},
          {"info", {{"title", "Sluice"}, {"version", kKubernetesVersion}}},
          {"paths", Json::object()},
          {"definitions", std::move(definitions)}};
}

// "networking.k8s.io/v1" → both parts; false if it has no slash.
bool split(std::string_view text, std::string_view* group, std::string_view* version) {
  const size_t slash = text.find('/');
  if (slash == text.npos) return false;
  *group = text.substr(0, slash);
  *version = text.substr(slash + 1);
  return true;
}

const GroupVersion* find_group(std::string_view name) {
  for (const GroupVersion& group : groups()) {
    if (group.group == name) return &group;
  }
  return nullptr;
}

std::optional<Json> document(std::string_view path, std::string_view sluice_version) {
  if (path == "/version") return version_document(sluice_version);
  if (path == "/api") {
    return Json{{"kind", "APIVersions"}, {"versions", {"v1"}}, {"serverAddressByClientCIDRs", Json::array()}};
  }
  if (path == "/api/v1") return resource_list("", "v1");
  if (path == "/apis") return group_list();
  if (path == "/openapi/v2") return openapi2();
  if (path == "/openapi/v3") return openapi3_index();
  if (path == "/openapi/v3/api/v1") return openapi3("", "v1");
  std::string_view group, version;
  if (path.starts_with("/openapi/v3/apis/")) {
    if (!split(path.substr(17), &group, &version)) return std::nullopt;
    const GroupVersion* known = find_group(group);
    return known && known->version == version ? std::optional(openapi3(group, version)) : std::nullopt;
  }
  if (!path.starts_with("/apis/")) return std::nullopt;
  path.remove_prefix(6);
  if (!split(path, &group, &version)) {
    const GroupVersion* known = find_group(path);
    if (!known) return std::nullopt;
    Json entry = group_entry(*known);
    entry["kind"] = "APIGroup";
    entry["apiVersion"] = "v1";
    return entry;
  }
  const GroupVersion* known = find_group(group);
  return known && known->version == version ? std::optional(resource_list(group, version)) : std::nullopt;
}

}  // namespace

std::optional<std::string> discovery_document(std::string_view path, std::string_view sluice_version) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const std::optional<Json> found = document(path, sluice_version);
  return found ? std::optional(to_text(*found)) : std::nullopt;
}

std::optional<std::string> aggregated_discovery(std::string_view path, std::string_view accept) {
  if ((path != "/api" && path != "/apis") || accept.find(kAggregatedDiscovery) == accept.npos) return std::nullopt;
  return to_text(aggregated(path == "/api"));
}

}  // namespace sluice::api::kube
