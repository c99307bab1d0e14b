#pragma once
// EventRecorder: what is wrong with objects, as Kubernetes Events on them, where their owner looks
// (`kubectl describe`).
//
// One finding is one Event, whose count grows when it is told again, at most every kRepeatMs. Begun at most
// kPerMinute per minute after a burst of kBurst; what exceeds kMaxPending waiting is dropped and counted.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

#include "event/loop.h"
#include "resource/diagnostic.h"
#include "source/kube/kube_source.h"

namespace sluice::source::kube {

class EventRecorder {
 public:
  static constexpr uint64_t kRepeatMs = 600'000;
  static constexpr unsigned kBurst = 50;
  static constexpr unsigned kPerMinute = 60;
  static constexpr size_t kMaxPending = 1'000;
  static constexpr size_t kMaxRemembered = 10'000;

  EventRecorder(event::Loop& loop, ApiClient& client, KubeSource& source, std::string instance);

  void set_active(bool active);
  // Errors and warnings about objects of the cluster; others are passed over.
  void record(const resource::Diagnostics& diagnostics);

  uint64_t recorded() const { return recorded_; }
  uint64_t dropped() const { return dropped_; }

 private:
  struct Event {
    const KindApi* api;
    std::string key;   // "namespace/name" of the object
    std::string name;  // of the Event
    bool error;
    std::string message;
    uint32_t count = 1;
  };
  struct Told {
    uint64_t at_ms;
    uint32_t count;
  };

  void begin_more();
  void send(Event event, bool repeat);
  void on_sent(Event event, bool repeat, Result<ApiResponse> result);

  event::Loop& loop_;
  ApiClient& client_;
  KubeSource& source_;
  const std::string instance_;
  bool active_ = false;
  std::deque<Event> pending_;
  std::unordered_map<std::string, Told> told_;  // by Event name
  std::unique_ptr<ApiClient::Call> call_;
  unsigned tokens_ = kBurst;
  uint64_t refilled_ms_ = 0;
  uint64_t recorded_ = 0;
  uint64_t dropped_ = 0;
  event::MemberTimer<EventRecorder, &EventRecorder::begin_more> timer_{this};
};

}  // namespace sluice::source::kube
