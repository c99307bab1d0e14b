#include "source/kube/event_recorder.h"

#include <algorithm>
#include <cstdio>

#include "base/log.h"
#include "source/kube/leader.h"

namespace sluice::source::kube {
namespace {

constexpr size_t kMaxMessage = 1000;  // the API takes 1024 bytes

uint64_t hash_of_text(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a: the same in every replica and version
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::string hex(uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string format_uid(const Uid& uid) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < uid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) out += '-';
    out += kHex[uid[i] >> 4];
    out += kHex[uid[i] & 15];
  }
  return out;
}

// Cut between characters.
std::string shortened(std::string text) {
  if (text.size() <= kMaxMessage) return text;
  size_t end = kMaxMessage - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string namespace_of(const std::string& key) {
  const size_t slash = key.find('/');
  return slash == key.npos ? "default" : key.substr(0, slash);
}
std::string name_of_key(const std::string& key) {
  const size_t slash = key.find('/');
  return slash == key.npos ? key : key.substr(slash + 1);
}

}  // namespace

EventRecorder::EventRecorder(event::Loop& loop, ApiClient& client, KubeSource& source, std::string instance)
    : loop_(loop), client_(client), source_(source), instance_(std::move(instance)), refilled_ms_(loop.now_ms()) {}

void EventRecorder::set_active(bool active) {
  active_ = active;
  if (active) return;
  pending_.clear();
  call_.reset();
  timer_.cancel();
}

void EventRecorder::record(const resource::Diagnostics& diagnostics) {
  if (!active_) return;
  for (const resource::Diagnostic& diagnostic : diagnostics) {
    if (diagnostic.severity == resource::Severity::kInfo) continue;
    // "Ingress ns/name"
    const size_t space = diagnostic.object.find(' ');
    if (space == std::string::npos) continue;
    const KindApi* api = nullptr;
    for (const KindApi& known : watched_kinds()) {
      if (diagnostic.object.compare(0, space, known.name) == 0) api = &known;
    }
    if (!api) continue;
    Event event{api, diagnostic.object.substr(space + 1), {}, diagnostic.severity == resource::Severity::kError, {}};
    const Uid* uid = source_.uid(api->kind, event.key);
    if (!uid) continue;
    event.message =
        shortened(diagnostic.field.empty() ? diagnostic.message : diagnostic.field + ": " + diagnostic.message);
    event.name = name_of_key(event.key).substr(0, 200) + "." +
                 hex(hash_of_text(format_uid(*uid) + event.message + (event.error ? "e" : "w")));
    const auto told = told_.find(event.name);
    if (told != told_.end()) {
      if (loop_.now_ms() - told->second.at_ms < kRepeatMs) continue;
      event.count = told->second.count + 1;
    }
    if (pending_.size() >= kMaxPending) {
      ++dropped_;
      continue;
    }
    if (told_.size() >= kMaxRemembered) told_.clear();
    told_[event.name] = {loop_.now_ms(), event.count};
    pending_.push_back(std::move(event));
  }
  begin_more();
}

void EventRecorder::begin_more() {
  if (!active_ || call_ || pending_.empty()) return;
  const uint64_t now = loop_.now_ms();
  const uint64_t fresh = (now - refilled_ms_) * kPerMinute / 60'000;
  if (fresh) {
    tokens_ = static_cast<unsigned>(std::min<uint64_t>(kBurst, tokens_ + fresh));
    refilled_ms_ = now;
  }
  if (!tokens_) return loop_.arm(timer_, 60'000 / kPerMinute);
  --tokens_;
  Event event = std::move(pending_.front());
  pending_.pop_front();
  const bool repeat = event.count > 1;
  send(std::move(event), repeat);
}

// A new Event, or (repeat) a higher count and a later time of the one that is there.
void EventRecorder::send(Event event, bool repeat) {
  const std::string ns = namespace_of(event.key);
  const std::string now = format_time(loop_.wall_us(), false);
  ApiRequest request;
  request.target = "/api/v1/namespaces/" + url_encode(ns) + "/events";
  std::string& body = request.body;
  if (repeat) {
    request.method = "PATCH";
    request.target += "/" + url_encode(event.name);
    request.content_type = "application/merge-patch+json";
    body = "{\"count\":" + std::to_string(event.count) + ",\"lastTimestamp\":\"" + now + "\"}";
  } else {
    request.method = "POST";
    const auto member = [&](const char* key, std::string_view value) {
      if (body.back() != '{') body += ",";
      body += std::string("\"") + key + "\":";
      resource::write_json_string(value, body);
    };
    body = "{\"metadata\":{";
    member("name", event.name);
    member("namespace", ns);
    body += "},\"involvedObject\":{";
    member("apiVersion", event.api->api_version);
    member("kind", event.api->name);
    if (event.api->namespaced) member("namespace", ns);
    member("name", name_of_key(event.key));
    if (const Uid* uid = source_.uid(event.api->kind, event.key)) member("uid", format_uid(*uid));
    body += "}";
    member("type", "Warning");
    member("reason", event.error ? "Invalid" : "Questionable");
    member("message", event.message);
    member("firstTimestamp", now);
    member("lastTimestamp", now);
    body += ",\"count\":1,\"source\":{\"component\":\"sluice\"}";
    member("reportingComponent", "sluice");
    member("reportingInstance", instance_);
    body += "}";
  }
  call_ = client_.send(std::move(request), [this, event, repeat](Result<ApiResponse> result) {
    call_.reset();
    on_sent(event, repeat, std::move(result));
  });
}

void EventRecorder::on_sent(Event event, bool repeat, Result<ApiResponse> result) {
  if (result.ok() && result->status == 409 && !repeat) {
    // A former leader has told it already.
    event.count = 2;
    return send(std::move(event), true);
  }
  if (result.ok() && result->status == 404 && repeat) {
    // It has expired.
    event.count = 1;
    return send(std::move(event), false);
  }
  if (result.ok() && (result->status == 200 || result->status == 201)) {
    ++recorded_;
  } else {
    ++dropped_;
    log::warning("kubernetes",
                 "an Event on " + std::string(event.api->name) + " " + event.key + " is lost: " + failure_text(result));
  }
  begin_more();
}

}  // namespace sluice::source::kube
