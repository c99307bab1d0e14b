#pragma once
// Reflector: keeps up with the objects of one kind (in one namespace, or all) by list and watch.
//
//   listing ──► watching ──► (ended, broken) ──► waiting ──► watching, from where it was
//      ▲            └─ 410 Gone, or what can't be read ────────► listing
//      └── absent (404: look again every second) · forbidden (403) · waiting (back-off)
//
// A list is read in pages. What a new list does not hold any more is reported as gone; so the consumer sees a
// consistent picture whatever was missed. While the server can't be reached nothing is reported and everything stays.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/random.h"
#include "event/loop.h"
#include "resource/json.h"
#include "resource/objects.h"
#include "source/kube/api_client.h"
#include "source/kube/lines.h"

namespace sluice::source::kube {

// One kind as the API knows it.
struct KindApi {
  resource::Kind kind;
  const char* name;         // "Ingress"
  const char* api_version;  // "networking.k8s.io/v1"
  const char* plural;       // "ingresses"
  bool namespaced;
  bool system_only;  // read from the system namespace alone

  // "/apis/networking.k8s.io/v1/namespaces/ns/ingresses"; `ns` empty: all namespaces.
  std::string path(const std::string& ns) const;
};

using Uid = std::array<uint8_t, 16>;

class Reflector {
 public:
  static constexpr uint64_t kAbsentPollMs = 1'000;
  static constexpr uint64_t kMinBackoffMs = 200;
  static constexpr uint64_t kMaxBackoffMs = 10'000;
  static constexpr unsigned kPageSize = 500;

  class Sink {
   public:
    // `key` is "namespace/name", or "name" for kinds without namespace. The node is borrowed.
    virtual void on_object(Reflector& reflector, const std::string& key, const resource::Node& object) = 0;
    virtual void on_gone(Reflector& reflector, const std::string& key) = 0;
    // A list has been read to its end, or the server has said that there is none (absent, forbidden).
    virtual void on_listed(Reflector& reflector) = 0;
    // The server can't be reached, or answers with an error of its own.
    virtual void on_unreachable(Reflector& reflector) = 0;

   protected:
    ~Sink() = default;
  };

  enum class State : uint8_t { kIdle, kListing, kWatching, kWaiting, kAbsent, kForbidden };

  struct Statistics {
    uint64_t lists = 0;    // begun
    uint64_t relists = 0;  // because of 410 Gone or an unreadable watch
    uint64_t watches = 0;  // begun
    uint64_t errors = 0;
    uint64_t events = 0;  // of watches, without bookmarks
    std::string last_error;
  };

  // `ns` empty: all namespaces. `selector` is a field selector, or empty.
  Reflector(event::Loop& loop, ApiClient& client, Sink& sink, const KindApi& api, std::string ns, std::string selector);

  void start();

  const KindApi& api() const { return api_; }
  const std::string& ns() const { return ns_; }
  State state() const { return state_; }
  // A list has been read since the start, or the kind is known to be absent or forbidden.
  bool settled() const { return settled_; }
  const std::string& resource_version() const { return resource_version_; }
  size_t object_count() const { return known_.size(); }
  const Statistics& statistics() const { return statistics_; }
  bool knows(const std::string& key) const { return known_.contains(key); }
  // Null if there is no such object.
  const Uid* uid(const std::string& key) const;

 private:
  struct Known {
    uint32_t generation;
    Uid uid;
  };

  void act();
  void list_page();
  void on_page(Result<ApiResponse> result);
  bool take_page(const std::string& body);
  void finish_list();
  void watch();
  void on_watch_data(std::string_view piece);
  bool on_event(std::string_view line);
  void on_watch_end(Result<ApiResponse> result);
  void see(const resource::Node& object);
  void forget(const std::string& key);
  void on_status(const ApiResponse& response, bool listing);
  void relist(const std::string& why);
  void failed(std::string why, uint64_t delay_ms = 0);
  void settle(State state);

  event::Loop& loop_;
  ApiClient& client_;
  Sink& sink_;
  const KindApi& api_;
  const std::string ns_;
  const std::string path_;
  const std::string selector_;  // "&fieldSelector=…" or empty
  Random random_;

  State state_ = State::kIdle;
  bool settled_ = false;
  bool must_list_ = true;
  unsigned page_size_ = kPageSize;
  std::string continue_;
  std::string resource_version_;
  std::string list_version_;
  uint32_t generation_ = 0;
  uint32_t failures_ = 0;    // in a row
  uint32_t vain_lists_ = 0;  // lists in a row after which the watch failed at once
  uint64_t watch_started_ms_ = 0;
  std::unordered_map<std::string, Known> known_;
  std::unique_ptr<ApiClient::Call> call_;
  resource::JsonParser parser_;
  LineSplitter lines_;
  Statistics statistics_;
  event::MemberTimer<Reflector, &Reflector::act> timer_{this};
};

const char* name_of(Reflector::State state);

}  // namespace sluice::source::kube
