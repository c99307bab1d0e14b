#include "api/kube/watch.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/kube/errors.h"

namespace sluice::api::kube {

class Watches::Watch {
 public:
  Watch(Watches& owner, WatchRequest request, std::shared_ptr<BodyStream> stream)
      : owner_(owner),
        request_(std::move(request)),
        stream_(std::move(stream)),
        end_ms_(owner.loop_.now_ms() + request_.timeout_ms) {
    arm();
  }

  // What is told before the response is on its way.
  std::string begin() {
    std::string out;
    if (!request_.version) {
      const Selection& wanted = request_.selection;
      owner_.store_.for_each(*wanted.kind, wanted.ns, nullptr, [&](const ObjectKey& key, const StoredObject& object) {
        if (wanted.covers(key) && wanted.labels.matches(*object.labels)) {
          out += line("ADDED", key, *object.text, object.version);
        }
        return true;
      });
      if (request_.mark_initial_end) out += bookmark(true);
      return out;
    }
    const bool known = owner_.store_.replay(*request_.version, [&](const ObjectEvent& event) { out += told(event); });
    if (!known) end_ms_ = 0;
    arm();
    return known ? out : R"({"type":"ERROR","object":)" + expired().to_json() + "}\n";
  }

  bool open() const { return stream_->open(); }
  void tell(const ObjectEvent& event) {
    const std::string text = told(event);
    if (text.empty()) return;
    stream_->write(text);
    if (stream_->buffered() > kMaxBehind) stream_->cut();
  }
  void end() { stream_->end(); }

 private:
  void arm() {
    const uint64_t left = end_ms_ - std::min(end_ms_, owner_.loop_.now_ms());
    owner_.loop_.arm(timer_, std::min(left, kBookmarkMs));
  }

  void on_timer() {
    if (!stream_->open()) return;
    if (owner_.loop_.now_ms() >= end_ms_) return stream_->end();
    if (request_.bookmarks) stream_->write(bookmark(false));
    arm();
  }

  // The line for a change; empty if it is not of what was asked for.
  std::string told(const ObjectEvent& event) {
    const Selection& wanted = request_.selection;
    if (!wanted.covers(event.key)) return {};
    const bool now = wanted.labels.matches(*event.labels);
    using Type = ObjectEvent::Type;
    if (event.type == Type::kAdded) return now ? line("ADDED", event) : std::string();
    if (event.type == Type::kDeleted) return now ? line("DELETED", event) : std::string();
    const bool before = wanted.labels.matches(*event.before);
    if (!now && !before) return {};
    return line(!before ? "ADDED" : !now ? "DELETED" : "MODIFIED", event);
  }
  std::string line(const char* type, const ObjectEvent& event) {
    return line(type, event.key, *event.text, event.version);
  }

  std::string line(const char* type, const ObjectKey& key, const std::string& text, uint64_t version) {
    std::string object = with_version(*key.kind, text, version);
    if (request_.form != Form::kObject) {
      const Json whole = Json::parse(object, nullptr, false);
      if (request_.form == Form::kMetadata) {
        object = to_text(metadata_of(whole));
      } else {
        object = R"({"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":")" +
                 std::to_string(version) + R"("},"columnDefinitions":)" + columns_of(*key.kind) + R"(,"rows":[)" +
                 row_of(*key.kind, whole, request_.carry, static_cast<int64_t>(owner_.loop_.wall_us() / 1'000'000)) +
                 "]}";
      }
    }
    return std::string(R"({"type":")") + type + R"(","object":)" + object + "}\n";
  }

  std::string bookmark(bool initial_end) const {
    Json metadata = {{"resourceVersion", std::to_string(owner_.store_.version())}};
    if (initial_end) metadata["annotations"] = {{"k8s.io/initial-events-end", "true"}};
    const KindInfo& kind = *request_.selection.kind;
    Json object = {{"kind", kind.kind}, {"apiVersion", kind.api_version()}, {"metadata", metadata}};
    if (request_.form == Form::kTable) {
      object = {{"kind", "Table"}, {"apiVersion", "meta.k8s.io/v1"}, {"metadata", metadata}, {"rows", Json::array()}};
    }
    if (request_.form == Form::kMetadata) object = metadata_of(object);
    return to_text({{"type", "BOOKMARK"}, {"object", std::move(object)}}) + "\n";
  }

  Watches& owner_;
  const WatchRequest request_;
  const std::shared_ptr<BodyStream> stream_;
  uint64_t end_ms_;
  event::MemberTimer<Watch, &Watch::on_timer> timer_{this};
};

Watches::Watches(event::Loop& loop, const ObjectStore& store) : loop_(loop), store_(store) {}
Watches::~Watches() = default;

bool Watches::full() {
  watches_.remove_if([](const auto& watch) { return !watch->open(); });
  return watches_.size() >= kMaxWatches;
}

ServiceResponse Watches::open(WatchRequest request) {
  ServiceResponse response;
  response.content_type = request.form == Form::kTable ? "application/json;stream=watch;as=Table;g=meta.k8s.io;v=v1"
                                                       : "application/json;stream=watch";
  response.headers.emplace_back("cache-control", "no-cache, private");
  response.stream = std::make_shared<BodyStream>();
  auto watch = std::make_unique<Watch>(*this, std::move(request), response.stream);
  response.body = watch->begin();
  watches_.push_back(std::move(watch));
  return response;
}

void Watches::on_event(const ObjectEvent& event) {
  watches_.remove_if([](const auto& watch) { return !watch->open(); });
  for (const auto& watch : watches_) watch->tell(event);
}

void Watches::stop() {
  for (const auto& watch : watches_) watch->end();
}

}  // namespace sluice::api::kube
