#include "source/kube/reflector.h"

#include <algorithm>

#include "base/log.h"

namespace sluice::source::kube {
namespace {

using resource::Node;

constexpr size_t kMaxLine = 16 << 20;
constexpr unsigned kMinWatchSeconds = 240;  // the server ends a watch after so long and up to twice as much
// Above this the buffers of a list are given back.
constexpr size_t kSmallBody = 256 << 10;

resource::Limits json_limits() {
  resource::Limits limits;
  limits.max_text_bytes = ApiClient::kMaxBody;
  limits.max_values = 5'000'000;
  return limits;
}

std::string_view text_of(const Node* node, std::string_view key) {
  const Node* value = node ? node->find(key) : nullptr;
  return value ? value->text() : std::string_view();
}

int hex_digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0; }

Uid parse_uid(std::string_view text) {
  Uid out{};
  size_t digit = 0;
  for (const char c : text) {
    if (c == '-' || digit >= 32) continue;
    out[digit / 2] = static_cast<uint8_t>(out[digit / 2] << 4 | hex_digit(c));
    ++digit;
  }
  return out;
}

}  // namespace

const char* name_of(Reflector::State state) {
  static constexpr const char* kNames[] = {"idle", "listing", "watching", "waiting", "absent", "forbidden"};
  return kNames[static_cast<size_t>(state)];
}

std::string KindApi::path(const std::string& ns) const {
  const std::string_view version = api_version;
  std::string out = version.find('/') == version.npos ? "/api/" : "/apis/";
  out += version;
  if (namespaced && !ns.empty()) out += "/namespaces/" + url_encode(ns);
  return out + "/" + plural;
}

Reflector::Reflector(event::Loop& loop, ApiClient& client, Sink& sink, const KindApi& api, std::string ns,
                     std::string selector)
    : loop_(loop),
      client_(client),
      sink_(sink),
      api_(api),
      ns_(std::move(ns)),
      path_(api.path(ns_)),
      selector_(selector.empty() ? "" : "&fieldSelector=" + url_encode(selector)),
      random_(loop.now_ns() ^ reinterpret_cast<uintptr_t>(this)),
      parser_(json_limits()),
      lines_(kMaxLine) {}

void Reflector::start() {
  if (state_ == State::kIdle) act();
}

const Uid* Reflector::uid(const std::string& key) const {
  const auto at = known_.find(key);
  return at == known_.end() ? nullptr : &at->second.uid;
}

void Reflector::act() {
  if (!must_list_) return watch();
  ++statistics_.lists;
  ++generation_;
  continue_.clear();
  if (state_ != State::kAbsent && state_ != State::kForbidden) state_ = State::kListing;
  list_page();
}

// --- list ---

void Reflector::list_page() {
  ApiRequest request;
  request.target = path_ + "?limit=" + std::to_string(page_size_) + selector_;
  if (!continue_.empty()) request.target += "&continue=" + url_encode(continue_);
  call_ = client_.send(std::move(request), [this](Result<ApiResponse> result) { on_page(std::move(result)); });
}

void Reflector::on_page(Result<ApiResponse> result) {
  call_.reset();
  if (!result.ok()) {
    if (page_size_ > 10) page_size_ /= 2;  // perhaps the page was too large
    return failed(result.error().message);
  }
  if (result->status != 200) return on_status(*result, true);
  state_ = State::kListing;
  const bool readable = take_page(result->body);
  if (result->body.size() > kSmallBody) parser_.release();
  if (!readable) return failed(path_ + ": the list " + parser_.error());
  if (!continue_.empty()) return list_page();
  finish_list();
}

bool Reflector::take_page(const std::string& body) {
  const Node* root = parser_.parse(body);
  if (!root) return false;
  const Node* meta = root->find("metadata");
  continue_ = text_of(meta, "continue");
  list_version_ = text_of(meta, "resourceVersion");
  if (const Node* items = root->find("items")) {
    for (const Node& item : items->items()) see(item);
  }
  return true;
}

void Reflector::finish_list() {
  resource_version_ = list_version_;
  std::vector<std::string> gone;
  for (const auto& [key, known] : known_) {
    if (known.generation != generation_) gone.push_back(key);
  }
  for (const std::string& key : gone) forget(key);
  must_list_ = false;
  failures_ = 0;
  page_size_ = kPageSize;
  settle(State::kWatching);
  watch();
}

void Reflector::settle(State state) {
  state_ = state;
  settled_ = true;
  sink_.on_listed(*this);
}

void Reflector::see(const Node& object) {
  const Node* meta = object.find("metadata");
  const std::string_view name = text_of(meta, "name");
  if (name.empty()) return;
  std::string key(text_of(meta, "namespace"));
  if (!key.empty()) key += '/';
  key += name;
  known_[key] = {generation_, parse_uid(text_of(meta, "uid"))};
  sink_.on_object(*this, key, object);
}

void Reflector::forget(const std::string& key) {
  if (known_.erase(key)) sink_.on_gone(*this, key);
}

// --- watch ---

void Reflector::watch() {
  ++statistics_.watches;
  state_ = State::kWatching;
  watch_started_ms_ = loop_.now_ms();
  lines_.reset();
  ApiRequest request;
  const unsigned seconds = kMinWatchSeconds + random_.below(kMinWatchSeconds);
  request.target = path_ + "?watch=1&allowWatchBookmarks=true&timeoutSeconds=" + std::to_string(seconds) +
                   "&resourceVersion=" + url_encode(resource_version_) + selector_;
  request.on_data = [this](std::string_view piece) { on_watch_data(piece); };
  call_ = client_.send(std::move(request), [this](Result<ApiResponse> result) { on_watch_end(std::move(result)); });
}

void Reflector::on_watch_data(std::string_view piece) {
  const uint64_t lists_due = statistics_.relists;
  if (lines_.feed(piece, [this](std::string_view line) { return on_event(line); })) return;
  call_.reset();
  // on_event() has said why it stopped, or the line was too long.
  if (statistics_.relists == lists_due && !timer_.armed()) relist("an event is longer than 16 MiB");
}

// False: the watch is over.
bool Reflector::on_event(std::string_view line) {
  const Node* root = parser_.parse(line);
  if (!root) return relist("an event " + parser_.error()), false;
  const std::string_view type = text_of(root, "type");
  const Node* object = root->find("object");
  if (!object || !object->is_mapping()) return relist("an event has no object"), false;
  if (type == "ERROR") {
    const Node* code = object->find("code");
    if (code && code->integer() == 410) return relist("410 Gone"), false;
    failed(path_ + ": the watch ended: " + std::string(text_of(object, "message")));
    return false;
  }
  const Node* meta = object->find("metadata");
  const std::string_view version = text_of(meta, "resourceVersion");
  if (type == "ADDED" || type == "MODIFIED") {
    ++statistics_.events;
    see(*object);
  } else if (type == "DELETED") {
    ++statistics_.events;
    std::string key(text_of(meta, "namespace"));
    if (!key.empty()) key += '/';
    forget(key.append(text_of(meta, "name")));
  }
  if (!version.empty()) resource_version_ = version;
  failures_ = 0;
  return true;
}

void Reflector::on_watch_end(Result<ApiResponse> result) {
  call_.reset();
  if (loop_.now_ms() - watch_started_ms_ > kMaxBackoffMs) failures_ = 0;  // it was good
  if (!result.ok()) return failed(result.error().message);
  if (result->status != 200) return on_status(*result, false);
  // In order. One that ends at once must not make us spin.
  if (loop_.now_ms() - watch_started_ms_ < 1000) return failed(path_ + ": the watch ended at once");
  loop_.arm(timer_, 0);
}

// --- what went wrong ---

void Reflector::on_status(const ApiResponse& response, bool listing) {
  const std::string what = path_ + ": " + failure_text(response);
  switch (response.status) {
    case 404: {
      must_list_ = true;
      if (!listing) break;
      if (state_ != State::kAbsent) {
        log::info("kubernetes", std::string(api_.name) + " (" + api_.api_version +
                                    ") is not known to the API server; looked for every second");
      }
      std::vector<std::string> gone;
      for (const auto& [key, known] : known_) gone.push_back(key);
      for (const std::string& key : gone) forget(key);
      failures_ = 0;
      settle(State::kAbsent);
      return loop_.arm(timer_, kAbsentPollMs);
    }
    case 403:
      ++statistics_.errors;
      statistics_.last_error = what;
      if (state_ != State::kForbidden) {
        log::error("kubernetes", what + " (deploy/kubernetes/rbac.yaml has the rights that are needed)");
      }
      must_list_ = true;
      settle(State::kForbidden);
      return loop_.arm(timer_, kMaxBackoffMs);
    case 410:
      return relist("410 Gone");
    default:
      break;
  }
  failed(what, response.retry_after_ms);
}

void Reflector::relist(const std::string& why) {
  ++statistics_.relists;
  log::info("kubernetes", path_ + ": " + why + "; listing anew");
  must_list_ = true;
  // A little later, and after this callback: replicas should not all ask at the same moment. A server that refuses what
  // it has just told is not asked without a pause.
  vain_lists_ = loop_.now_ms() - watch_started_ms_ < 1000 ? vain_lists_ + 1 : 0;
  const uint64_t pause = vain_lists_ > 1 ? std::min(kMinBackoffMs << std::min(vain_lists_, 10u), kMaxBackoffMs) : 50;
  loop_.arm(timer_, random_.below(static_cast<uint32_t>(pause)) + pause / 2);
}

void Reflector::failed(std::string why, uint64_t delay_ms) {
  ++statistics_.errors;
  // Once for each reason; an outage would otherwise fill the log.
  if (why != statistics_.last_error || failures_ == 0) log::warning("kubernetes", why);
  statistics_.last_error = std::move(why);
  const uint64_t backoff = std::min(kMinBackoffMs << std::min(failures_, 10u), kMaxBackoffMs);
  ++failures_;
  state_ = State::kWaiting;
  loop_.arm(timer_, std::max(delay_ms, backoff / 2 + random_.below(static_cast<uint32_t>(backoff))));
  sink_.on_unreachable(*this);
}

}  // namespace sluice::source::kube
