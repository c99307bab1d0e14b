#include "api/kube/printer.h"

#include <cstdio>
#include <ctime>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

namespace sluice::api::kube {
namespace {

constexpr size_t kMaxListed = 3;  // of a list in a cell

const Json& at(const Json& value, std::initializer_list<std::string_view> path) {
  static const Json null;
  const Json* found = &value;
  for (const std::string_view key : path) {
    if (!(found = find(*found, key))) return null;
  }
  return *found;
}

std::string word(const Json& value) {
  return value.is_string() ? value.get_ref<const std::string&>() : value.is_null() ? std::string() : to_text(value);
}

std::string or_none(std::string text, const char* none = "<none>") { return text.empty() ? none : text; }

// "a,b,c + 2 more...", as kubectl writes it.
class Listed {
 public:
  void add(const std::string& text) {
    if (++count_ <= kMaxListed) text_ += (text_.empty() ? "" : ",") + text;
  }
  std::string text() const {
    return count_ > kMaxListed ? text_ + " + " + std::to_string(count_ - kMaxListed) + " more..." : text_;
  }

 private:
  std::string text_;
  size_t count_ = 0;
};

std::string balancer(const Json& object) {
  Listed out;
  for (const Json& entry : at(object, {"status", "loadBalancer", "ingress"})) {
    const std::string ip = text_of(entry, "ip");
    out.add(ip.empty() ? text_of(entry, "hostname") : ip);
  }
  return out.text();
}

std::string ingress_class(const Json& object) {
  const std::string name = word(at(object, {"spec", "ingressClassName"}));
  return or_none(name.empty() ? word(at(object, {"metadata", "annotations", "kubernetes.io/ingress.class"})) : name);
}

std::string hosts(const Json& object) {
  Listed out;
  for (const Json& rule : at(object, {"spec", "rules"})) {
    const std::string host = text_of(rule, "host");
    if (!host.empty()) out.add(host);
  }
  return or_none(out.text(), "*");
}

std::string service_ports(const Json& object) {
  std::string out;
  for (const Json& port : at(object, {"spec", "ports"})) {
    std::string one = word(at(port, {"port"}));
    if (const std::string node = word(at(port, {"nodePort"})); !node.empty()) one += ":" + node;
    out += (out.empty() ? "" : ",") + one + "/" + or_none(text_of(port, "protocol"), "TCP");
  }
  return or_none(out);
}

std::string external_ip(const Json& object) {
  const std::string type = word(at(object, {"spec", "type"}));
  if (type == "ExternalName") return or_none(word(at(object, {"spec", "externalName"})));
  std::string out = balancer(object);
  for (const Json& ip : at(object, {"spec", "externalIPs"})) out += (out.empty() ? "" : ",") + word(ip);
  return or_none(out, type == "LoadBalancer" ? "<pending>" : "<none>");
}

std::string selector(const Json& object) {
  std::string out;
  const Json& labels = at(object, {"spec", "selector"});
  if (labels.is_object()) {
    for (const auto& [key, value] : labels.items()) out += (out.empty() ? "" : ",") + key + "=" + word(value);
  }
  return or_none(out);
}

std::string slice_ports(const Json& object) {
  Listed out;
  for (const Json& port : at(object, {"ports"})) out.add(or_none(word(at(port, {"port"})), "*"));
  return or_none(out.text(), "<unset>");
}

std::string slice_endpoints(const Json& object) {
  Listed out;
  for (const Json& endpoint : at(object, {"endpoints"})) {
    for (const Json& address : at(endpoint, {"addresses"})) out.add(word(address));
  }
  return or_none(out.text(), "<unset>");
}

std::string subsets(const Json& object) {
  Listed out;
  for (const Json& subset : at(object, {"subsets"})) {
    for (const Json& address : at(subset, {"addresses"})) {
      const Json& ports = at(subset, {"ports"});
      if (ports.empty()) out.add(text_of(address, "ip"));
      for (const Json& port : ports) out.add(text_of(address, "ip") + ":" + word(at(port, {"port"})));
    }
  }
  return or_none(out.text());
}

Json data_count(const Json& object) { return at(object, {"data"}).size() + at(object, {"binaryData"}).size(); }

std::string registries(const Json& object) {
  Listed out;
  for (const Json& registry : at(object, {"spec", "registries"})) {
    out.add(text_of(registry, "name") + "." + text_of(registry, "type"));
  }
  return or_none(out.text());
}

int64_t parse_time(const std::string& text) {
  std::tm tm{};
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
                  &tm.tm_min, &tm.tm_sec) != 6) {
    return 0;
  }
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  return timegm(&tm);
}

struct Column {
  const char* name;
  const char* type;
  int priority;  // above 0: only with -o wide
  std::function<Json(const Json&)> cell;
};

Column text_column(const char* name, int priority, std::initializer_list<std::string_view> path,
                   const char* none = "<none>") {
  return {name, "string", priority, [path = std::vector<std::string_view>(path), none](const Json& object) -> Json {
            const Json* found = &object;
            for (const std::string_view key : path) {
              if (!(found = find(*found, key))) return none;
            }
            return or_none(word(*found), none);
          }};
}

// Between NAME and AGE; those with a priority come after AGE.
const std::vector<Column>& columns(const KindInfo& info) {
  static const std::map<std::string_view, std::vector<Column>> all = {
      {"Ingress",
       {{"Class", "string", 0, ingress_class},
        {"Hosts", "string", 0, hosts},
        {"Address", "string", 0, balancer},
        {"Ports", "string", 0, [](const Json& o) { return at(o, {"spec", "tls"}).empty() ? "80" : "80, 443"; }}}},
      {"IngressClass",
       {text_column("Controller", 0, {"spec", "controller"}),
        text_column("Parameters", 0, {"spec", "parameters", "name"})}},
      {"Service",
       {text_column("Type", 0, {"spec", "type"}, "ClusterIP"),
        text_column("Cluster-IP", 0, {"spec", "clusterIP"}),
        {"External-IP", "string", 0, external_ip},
        {"Port(s)", "string", 0, service_ports},
        {"Selector", "string", 1, selector}}},
      {"EndpointSlice",
       {text_column("AddressType", 0, {"addressType"}),
        {"Ports", "string", 0, slice_ports},
        {"Endpoints", "string", 0, slice_endpoints}}},
      {"Endpoints", {{"Endpoints", "string", 0, subsets}}},
      {"Secret", {text_column("Type", 0, {"type"}, "Opaque"), {"Data", "integer", 0, data_count}}},
      {"ConfigMap", {{"Data", "integer", 0, data_count}}},
      {"Namespace", {text_column("Status", 0, {"status", "phase"}, "Active")}},
      {"McpBridge", {{"Registries", "string", 0, registries}}},
      {"WasmPlugin",
       {text_column("Phase", 0, {"spec", "phase"}), text_column("Priority", 0, {"spec", "priority"}),
        text_column("URL", 1, {"spec", "url"})}},
      {"Http2Rpc", {}},
  };
  return all.find(info.kind)->second;
}

}  // namespace

Form form_of(std::string_view accept) {
  while (!accept.empty()) {
    const size_t comma = std::min(accept.find(','), accept.size());
    const std::string_view type = accept.substr(0, comma);
    accept.remove_prefix(std::min(comma + 1, accept.size()));
    if (type.find("json") == type.npos) continue;
    if (type.find("as=Table") != type.npos) {
      if (type.find("v=v1beta1") == type.npos) return Form::kTable;
    } else if (type.find("as=PartialObjectMetadata") != type.npos) {
      if (type.find("v=v1beta1") == type.npos) return Form::kMetadata;
    } else if (type.find("as=") == type.npos) {
      return Form::kObject;
    }
  }
  return Form::kObject;
}

RowObject row_object_of(std::string_view include_object) {
  return include_object == "None"     ? RowObject::kNone
         : include_object == "Object" ? RowObject::kObject
                                      : RowObject::kMetadata;
}

std::string columns_of(const KindInfo& info) {
  Json out = Json::array();
  const auto add = [&out](const char* name, const char* type, const char* format, int priority) {
    out.push_back({{"name", name}, {"type", type}, {"format", format}, {"description", ""}, {"priority", priority}});
  };
  add("Name", "string", "name", 0);
  for (const Column& column : columns(info)) {
    if (column.priority == 0) add(column.name, column.type, "", 0);
  }
  add("Age", "string", "", 0);
  for (const Column& column : columns(info)) {
    if (column.priority > 0) add(column.name, column.type, "", column.priority);
  }
  return to_text(out);
}

std::string row_of(const KindInfo& info, const Json& object, RowObject carry, int64_t now) {
  Json cells = Json::array({at(object, {"metadata", "name"})});
  for (const Column& column : columns(info)) {
    if (column.priority == 0) cells.push_back(column.cell(object));
  }
  const int64_t created = parse_time(word(at(object, {"metadata", "creationTimestamp"})));
  cells.push_back(created ? human_duration(now - created) : "<unknown>");
  for (const Column& column : columns(info)) {
    if (column.priority > 0) cells.push_back(column.cell(object));
  }
  Json row = {{"cells", std::move(cells)}};
  if (carry == RowObject::kMetadata) row["object"] = metadata_of(object);
  if (carry == RowObject::kObject) row["object"] = object;
  return to_text(row);
}

Json metadata_of(const Json& object) {
  return {{"kind", "PartialObjectMetadata"}, {"apiVersion", "meta.k8s.io/v1"}, {"metadata", at(object, {"metadata"})}};
}

std::string human_duration(int64_t seconds) {
  const auto two = [](int64_t major, const char* unit, int64_t minor, const char* small) {
    return std::to_string(major) + unit + (minor ? std::to_string(minor) + small : "");
  };
  if (seconds < 0) seconds = 0;
  const int64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
  if (seconds < 120) return std::to_string(seconds) + "s";
  if (minutes < 10) return two(minutes, "m", seconds % 60, "s");
  if (hours < 3) return std::to_string(minutes) + "m";
  if (hours < 8) return two(hours, "h", minutes % 60, "m");
  if (hours < 48) return std::to_string(hours) + "h";
  if (days < 8) return two(days, "d", hours % 24, "h");
  if (days < 730) return std::to_string(days) + "d";
  return two(days / 365, "y", days % 365, "d");
}

}  // namespace sluice::api::kube
