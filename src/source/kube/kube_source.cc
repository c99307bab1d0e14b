#include "source/kube/kube_source.h"

#include <algorithm>

#include "base/log.h"
#include "resource/credentials.h"
#include "resource/references.h"
#include "source/kube/state_file.h"

namespace sluice::source::kube {
namespace {

using resource::Kind;
using resource::Node;

constexpr KindApi kKinds[] = {
    {Kind::kIngress, "Ingress", "networking.k8s.io/v1", "ingresses", true, false},
    {Kind::kIngressClass, "IngressClass", "networking.k8s.io/v1", "ingressclasses", false, false},
    {Kind::kService, "Service", "v1", "services", true, false},
    {Kind::kEndpointSlice, "EndpointSlice", "discovery.k8s.io/v1", "endpointslices", true, false},
    {Kind::kSecret, "Secret", "v1", "secrets", true, false},
    {Kind::kConfigMap, "ConfigMap", "v1", "configmaps", true, true},
    {Kind::kMcpBridge, "McpBridge", "networking.higress.io/v1", "mcpbridges", true, true},
    {Kind::kWasmPlugin, "WasmPlugin", "extensions.higress.io/v1alpha1", "wasmplugins", true, true},
    {Kind::kHttp2Rpc, "Http2Rpc", "networking.higress.io/v1", "http2rpcs", true, true},
};
// Large, many and never of use to a gateway.
constexpr const char* kSecretSelector = "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token";
constexpr uint64_t kFetchRetryMs = 1'000;

std::string file_of(const KindApi& api, const std::string& key) { return std::string(api.plural) + "/" + key; }

// What a file stands for, of the kinds that are kept only while they are named.
struct Named {
  const KindApi* api;
  std::string key;
};
Named named_of(const std::string& file) {
  const KindApi* api = find_kind(file.starts_with("secrets/") ? Kind::kSecret : Kind::kConfigMap);
  return {api, file.substr(std::string_view(api->plural).size() + 1)};
}

// The object without what the gateway never reads.
std::string trimmed(const KindApi& api, const Node& object) {
  std::string out = "{\"apiVersion\":\"" + std::string(api.api_version) + "\",\"kind\":\"" + api.name + "\"";
  for (const resource::Member& member : object.members()) {
    if (member.key == "apiVersion" || member.key == "kind" || member.key == "status") continue;
    out += ",";
    resource::write_json_string(member.key, out);
    out += ":";
    if (member.key != "metadata") {
      resource::write_json(member.value, out);
      continue;
    }
    char separator = '{';
    for (const resource::Member& field : member.value.members()) {
      if (field.key == "managedFields" || field.key == "ownerReferences" || field.key == "finalizers") continue;
      out += separator;
      separator = ',';
      resource::write_json_string(field.key, out);
      out += ":";
      resource::write_json(field.value, out);
    }
    out += separator == '{' ? "{}" : "}";
  }
  return out + "}";
}

std::vector<std::string> load_balancer_addresses(const Node& object) {
  std::vector<std::string> out;
  const Node* status = object.find("status");
  const Node* balancer = status ? status->find("loadBalancer") : nullptr;
  const Node* ingress = balancer ? balancer->find("ingress") : nullptr;
  if (!ingress) return out;
  for (const Node& entry : ingress->items()) {
    for (const char* key : {"ip", "hostname"}) {
      const Node* value = entry.find(key);
      if (value && !value->text().empty()) out.emplace_back(value->text());
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

std::span<const KindApi> watched_kinds() { return kKinds; }

const KindApi* find_kind(Kind kind) {
  for (const KindApi& api : kKinds) {
    if (api.kind == kind) return &api;
  }
  return nullptr;
}

uint64_t hash_of(const std::vector<std::string>& addresses) {
  uint64_t hash = 0;
  for (const std::string& address : addresses) hash = hash * 0x100000001b3u ^ std::hash<std::string>()(address) ^ 1;
  return hash;
}

KubeSource::KubeSource(event::Loop& loop, ApiClient& client, KubeOptions options, Consumer& consumer)
    : loop_(loop), client_(client), options_(std::move(options)), consumer_(consumer) {
  for (const KindApi& api : kKinds) {
    if (api.system_only) add(api, options_.system_namespace);
    if (api.kind == Kind::kConfigMap && options_.watch_namespace != options_.system_namespace) {
      add(api, options_.watch_namespace);  // those that Ingresses name
    }
    if (api.system_only) continue;
    if (!api.namespaced || options_.watch_namespace.empty()) {
      add(api, {});
    } else {
      add(api, options_.watch_namespace);
      if (options_.system_namespace != options_.watch_namespace) add(api, options_.system_namespace);
    }
  }
}

KubeSource::~KubeSource() {
  if (saver_.joinable()) saver_.join();
}

void KubeSource::add(const KindApi& api, const std::string& ns) {
  const std::string selector = api.kind == Kind::kSecret ? kSecretSelector : "";
  Reflector::Sink& sink = *this;
  reflectors_.push_back(std::make_unique<Reflector>(loop_, client_, sink, api, ns, selector));
}

std::vector<const Reflector*> KubeSource::reflectors() const {
  std::vector<const Reflector*> out;
  for (const auto& reflector : reflectors_) out.push_back(reflector.get());
  return out;
}

void KubeSource::start() {
  log::info("kubernetes", "watching " + client_.access().authority() +
                              (options_.watch_namespace.empty() ? "" : ", namespace " + options_.watch_namespace));
  for (const auto& reflector : reflectors_) {
    if (!only_wanted(*reflector)) reflector->start();
  }
  if (options_.state_directory.empty()) return;
  remove_leftovers(options_.state_directory);
  loop_.arm(cold_timer_, kColdStartMs);
}

// Of Secrets, and of ConfigMaps outside the system namespace, only those are kept that an Ingress names.
bool KubeSource::only_wanted(const Reflector& reflector) const {
  const Kind kind = reflector.api().kind;
  return kind == Kind::kSecret || (kind == Kind::kConfigMap && reflector.ns() != options_.system_namespace);
}

// A reflector of all namespaces leaves the system namespace's ConfigMaps to the one that reads them all.
bool KubeSource::is_others(const Reflector& reflector, const std::string& key) const {
  return reflector.api().kind == Kind::kConfigMap && only_wanted(reflector) &&
         key.starts_with(options_.system_namespace + "/");
}

void KubeSource::start_named() {
  if (named_started_) return;
  for (const auto& reflector : reflectors_) {
    if (reflector->api().kind == Kind::kIngress && !reflector->settled()) return;
  }
  named_started_ = true;
  for (const auto& reflector : reflectors_) {
    if (only_wanted(*reflector)) reflector->start();
  }
}

// --- what the reflectors say ---

void KubeSource::on_object(Reflector& reflector, const std::string& key, const Node& object) {
  const KindApi& api = reflector.api();
  if (is_others(reflector, key)) return;
  if (only_wanted(reflector)) {
    if (!wanted_.contains(file_of(api, key))) return;
    fetches_.erase(file_of(api, key));  // this is newer
  }
  if (api.kind == Kind::kService) note_service(key, object);
  put(api, key, object);
}

void KubeSource::on_gone(Reflector& reflector, const std::string& key) {
  const KindApi& api = reflector.api();
  if (is_others(reflector, key)) return;
  if (api.kind == Kind::kIngress) forget_ingress(key);
  if (api.kind == Kind::kService) service_addresses_.erase(key);
  drop(api, key);
}

void KubeSource::on_listed(Reflector& reflector) {
  if (synced_) purge(reflector);
  if (reflector.api().kind == Kind::kIngress) start_named();
  loop_.run_soon(*this);
}

// What only the disk knew of this kind is gone. A list that is forbidden says nothing.
void KubeSource::purge(const Reflector& reflector) {
  if (reflector.state() == Reflector::State::kForbidden) return;
  const std::string prefix =
      std::string(reflector.api().plural) + "/" + (reflector.ns().empty() ? std::string() : reflector.ns() + "/");
  auto at = from_disk_.lower_bound(prefix);
  while (at != from_disk_.end() && at->starts_with(prefix)) {
    if (is_others(reflector, at->substr(std::string_view(reflector.api().plural).size() + 1))) {
      ++at;
      continue;
    }
    removed_.insert(*at);
    if (state_.erase(*at)) mark_dirty();
    at = from_disk_.erase(at);
  }
}

void KubeSource::on_unreachable(Reflector&) {
  if (!told_ && cold_timer_.armed()) loop_.arm(cold_timer_, 0);
}

void KubeSource::put(const KindApi& api, const std::string& key, const Node& object) {
  std::string file = file_of(api, key);
  resource::ParsedFile parsed =
      resource::parse_object(object, std::make_shared<const std::string>(file), api.name, api.api_version);
  if (api.kind == Kind::kIngress) note_ingress(key, object, parsed);
  if (api.kind == Kind::kConfigMap) note_config_map(key, parsed);
  if (!options_.state_directory.empty()) {
    state_[file] = trimmed(api, object);
    mark_dirty();
  }
  from_disk_.erase(file);
  removed_.erase(file);
  changed_[std::move(file)] = std::move(parsed);
  loop_.run_soon(*this);
}

void KubeSource::drop(const KindApi& api, const std::string& key) {
  const std::string file = file_of(api, key);
  if (state_.erase(file)) mark_dirty();
  changed_.erase(file);
  removed_.insert(file);
  loop_.run_soon(*this);
}

void KubeSource::run_task() {
  if (!synced_) check_synced();
  if (!synced_ || must_hold()) return;
  // An empty cluster is a complete picture too.
  if (!changed_.empty() || !removed_.empty() || !told_) {
    std::vector<resource::ParsedFile> changed;
    changed.reserve(changed_.size());
    for (auto& [file, parsed] : changed_) changed.push_back(std::move(parsed));
    changed_.clear();
    const std::vector<std::string> removed(removed_.begin(), removed_.end());
    removed_.clear();
    told_ = true;
    consumer_.on_kube_update(std::move(changed), removed);
  }
  consumer_.on_kube_status_input();
}

// An Ingress that begins to use another Secret must not be without one for the moment that fetching it takes.
bool KubeSource::must_hold() {
  if (fetches_.empty()) {
    held_since_ms_ = 0;
    return false;
  }
  if (!held_since_ms_) held_since_ms_ = loop_.now_ms();
  if (loop_.now_ms() - held_since_ms_ >= kMaxHoldMs) return false;
  loop_.arm(hold_timer_, kMaxHoldMs);
  return true;
}

void KubeSource::check_synced() {
  for (const auto& reflector : reflectors_) {
    if (!reflector->settled()) return;
  }
  synced_ = true;
  cold_timer_.cancel();
  for (const auto& reflector : reflectors_) purge(*reflector);
  log::info("kubernetes", "in step with " + client_.access().authority());
}

// --- Ingresses and the Secrets they name ---

void KubeSource::note_ingress(const std::string& key, const Node& object, const resource::ParsedFile& parsed) {
  IngressFacts& facts = ingresses_[key];
  facts.status_hash = hash_of(load_balancer_addresses(object));
  // One that is refused stays what it was.
  if (parsed.objects.empty() || !parsed.objects[0].object) return;
  const auto& ingress = *resource::as<resource::Ingress>(parsed.objects[0].object);
  facts.accepted = !options_.accepts || options_.accepts(ingress);
  std::vector<std::string> files;
  if (facts.accepted) {
    for (const std::string& name : resource::secret_references(ingress)) {
      files.push_back(file_of(*find_kind(Kind::kSecret), name));
    }
    for (const std::string& name : resource::config_map_references(ingress)) {
      if (!name.starts_with(options_.system_namespace + "/")) {
        files.push_back(file_of(*find_kind(Kind::kConfigMap), name));
      }
    }
  }
  set_references(key, std::move(files));
}

// The certificates of higress-https are used by hosts that name none. A version that is refused changes nothing.
void KubeSource::note_config_map(const std::string& key, const resource::ParsedFile& parsed) {
  if (!key.ends_with(std::string("/") + resource::kCredentialsConfigMap)) return;
  if (parsed.objects.empty() || !parsed.objects[0].object) return;
  auto secrets = resource::secret_references(*resource::as<resource::ConfigMap>(parsed.objects[0].object));
  for (std::string& secret : secrets) secret = file_of(*find_kind(Kind::kSecret), secret);
  if (!secrets.empty()) set_references("ConfigMap " + key, std::move(secrets));
}

void KubeSource::forget_ingress(const std::string& key) {
  ingresses_.erase(key);
  set_references(key, {});
}

void KubeSource::set_references(const std::string& ingress, std::vector<std::string> files) {
  const auto at = references_.find(ingress);
  if (at == references_.end() ? files.empty() : at->second == files) return;
  const std::vector<std::string> before = at == references_.end() ? std::vector<std::string>() : at->second;
  for (const std::string& file : files) {
    if (++wanted_[file] == 1) want(file);
  }
  for (const std::string& file : before) {
    if (--wanted_[file] > 0) continue;
    wanted_.erase(file);
    const Named named = named_of(file);
    drop(*named.api, named.key);
  }
  if (files.empty()) {
    references_.erase(ingress);
  } else {
    references_[ingress] = std::move(files);
  }
}

void KubeSource::want(const std::string& file) {
  const Named named = named_of(file);
  // Before they are listed the listing will bring it; afterwards only those that are known need be fetched.
  for (const auto& reflector : reflectors_) {
    if (reflector->api().kind != named.api->kind || !reflector->knows(named.key)) continue;
    to_fetch_.push_back(file);
    return fetch_more();
  }
}

void KubeSource::fetch_more() {
  while (!to_fetch_.empty() && fetches_.size() < kMaxFetches) {
    const std::string file = std::move(to_fetch_.front());
    to_fetch_.pop_front();
    if (!wanted_.contains(file) || fetches_.contains(file)) continue;
    const Named named = named_of(file);
    const size_t slash = named.key.find('/');
    ApiRequest request;
    request.target = named.api->path(named.key.substr(0, slash)) + "/" + url_encode(named.key.substr(slash + 1));
    fetches_[file] = client_.send(std::move(request), [this, file](Result<ApiResponse> result) {
      fetches_.erase(file);
      fetched(file, std::move(result));
    });
  }
}

void KubeSource::fetched(const std::string& file, Result<ApiResponse> result) {
  if (wanted_.contains(file) && !(result.ok() && result->status == 404)) {
    const Named named = named_of(file);
    const Node* object = result.ok() && result->status == 200 ? parser_.parse(result->body) : nullptr;
    if (object) {
      put(*named.api, named.key, *object);
    } else {
      log::warning("kubernetes",
                   std::string(named.api->name) + " " + named.key + " cannot be read: " + failure_text(result));
      to_fetch_.push_back(file);
      loop_.arm(fetch_timer_, kFetchRetryMs);
      return;
    }
  }
  fetch_more();
  loop_.run_soon(*this);
}

void KubeSource::set_status_hash(const std::string& key, uint64_t hash) {
  const auto at = ingresses_.find(key);
  if (at != ingresses_.end()) at->second.status_hash = hash;
}

// --- the gateway's own Services ---

void KubeSource::note_service(const std::string& key, const Node& object) {
  if (!options_.publish_service.empty()) {
    if (key != options_.publish_service) return;
  } else {
    if (!key.starts_with(options_.system_namespace + "/")) return;
    const Node* meta = object.find("metadata");
    const Node* labels = meta ? meta->find("labels") : nullptr;
    const Node* app = labels ? labels->find("app") : nullptr;
    if (!app || app->text() != "higress-gateway") return service_addresses_.erase(key), void();
  }
  std::vector<std::string> addresses = load_balancer_addresses(object);
  const Node* spec = object.find("spec");
  if (const Node* external = spec ? spec->find("externalIPs") : nullptr; addresses.empty() && external) {
    for (const Node& ip : external->items()) addresses.emplace_back(ip.text());
  }
  service_addresses_[key] = std::move(addresses);
}

std::vector<std::string> KubeSource::service_addresses() const {
  std::set<std::string> all;
  for (const auto& [key, addresses] : service_addresses_) all.insert(addresses.begin(), addresses.end());
  return {all.begin(), all.end()};
}

const Uid* KubeSource::uid(Kind kind, const std::string& key) const {
  for (const auto& reflector : reflectors_) {
    if (reflector->api().kind != kind) continue;
    if (const Uid* uid = reflector->uid(key)) return uid;
  }
  return nullptr;
}

// --- the state on disk ---

void KubeSource::on_cold_start() {
  if (!told_) load_from_disk();
}

void KubeSource::load_from_disk() {
  Result<std::vector<std::string>> objects = load_state(options_.state_directory);
  if (!objects.ok()) return log::error("kubernetes", "the last known state is of no use: " + objects.error().message);
  if (objects->empty()) return log::warning("kubernetes", "there is no last known state to serve meanwhile");
  std::vector<resource::ParsedFile> parsed;
  for (std::string& line : *objects) {
    const Node* root = parser_.parse(line);
    const Node* kind = root ? root->find("kind") : nullptr;
    const Node* meta = root ? root->find("metadata") : nullptr;
    const Node* name = meta ? meta->find("name") : nullptr;
    if (!kind || !name) continue;
    const auto api = std::find_if(std::begin(kKinds), std::end(kKinds),
                                  [&](const KindApi& known) { return known.name == kind->text(); });
    if (api == std::end(kKinds)) continue;
    const Node* ns = meta->find("namespace");
    const std::string key = (ns ? std::string(ns->text()) + "/" : std::string()) + std::string(name->text());
    std::string file = file_of(*api, key);
    parsed.push_back(resource::parse_object(*root, std::make_shared<const std::string>(file)));
    // What the API server has already said is newer, and told when it has said everything.
    if (changed_.contains(file)) continue;
    from_disk_.insert(file);
    state_[std::move(file)] = std::move(line);
  }
  parser_.release();
  log::warning("kubernetes", "the API server can't be reached: serving the last known state, " +
                                 std::to_string(parsed.size()) + " objects of " + options_.state_directory);
  told_ = true;
  consumer_.on_kube_update(std::move(parsed), {});
}

void KubeSource::mark_dirty() {
  if (dirty_) return;
  dirty_ = true;
  const uint64_t next = saved_ms_ ? saved_ms_ + kSaveIntervalMs : 0;
  loop_.arm(save_timer_, std::max(kSaveDelayMs, next - std::min(next, loop_.now_ms())));
}

std::vector<std::string> KubeSource::state() const {
  std::vector<std::string> out;
  out.reserve(state_.size());
  for (const auto& [file, object] : state_) out.push_back(object);
  return out;
}

void KubeSource::save() {
  if (!dirty_) return;
  // A picture that is not complete never replaces one that was.
  if (!synced_ || saving_) return loop_.arm(save_timer_, kSaveDelayMs);
  dirty_ = false;
  saving_ = true;
  saved_ms_ = loop_.now_ms();
  if (saver_.joinable()) saver_.join();
  saver_ = std::thread([this, objects = state(), directory = options_.state_directory] {
    const Status saved = save_state(directory, objects);
    loop_.post([this, saved] {
      saving_ = false;
      if (!saved.ok()) {
        log::error("kubernetes", "the state cannot be saved: " + saved.error().message);
        mark_dirty();
      }
    });
  });
}

void KubeSource::save_now() {
  if (saver_.joinable()) saver_.join();
  if (!dirty_ || !synced_ || options_.state_directory.empty()) return;
  dirty_ = false;
  if (Status saved = save_state(options_.state_directory, state()); !saved.ok()) {
    log::error("kubernetes", "the state cannot be saved: " + saved.error().message);
  }
}

}  // namespace sluice::source::kube
