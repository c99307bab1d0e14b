#pragma once
// Counts the frames by which a peer can make us work without making progress (http2_settings.h says
// which), in fixed windows of time.

#include <cstdint>

#include "http/http2_settings.h"

namespace sluice::http {

class FloodGuard {
 public:
  enum Kind : uint8_t { kSettings, kPing, kPriority, kWindowUpdate, kEmpty, kUnknown, kReset, kKinds };

  explicit FloodGuard(const Http2Settings& settings) : settings_(settings) {}

  // A frame with content went in or out.
  void note_useful() { ++useful_; }
  void note_completed_stream() { ++completed_; }

  // Counts one frame. False: the peer has gone too far.
  bool allow(Kind kind, uint64_t now_ms) {
    if (now_ms - window_start_ms_ >= settings_.flood_window_ms) {
      window_start_ms_ = now_ms;
      useful_ = completed_ = 0;
      for (uint32_t& count : counts_) count = 0;
    }
    return ++counts_[kind] <= limit(kind);
  }

  static const char* text(Kind kind) {
    static constexpr const char* kTexts[] = {"SETTINGS flood",      "PING flood",        "PRIORITY flood",
                                             "WINDOW_UPDATE flood", "empty frame flood", "unknown frame flood",
                                             "stream reset flood"};
    return kTexts[kind];
  }

 private:
  uint64_t limit(Kind kind) const {
    const uint64_t useful = useful_;
    switch (kind) {
      case kSettings:
        return settings_.max_settings_frames;
      case kPing:
        return settings_.max_ping_frames + useful;
      case kPriority:
        return settings_.max_priority_frames + 2 * useful;
      case kWindowUpdate:
        return settings_.max_window_update_frames + 4 * useful;
      case kEmpty:
        return settings_.max_empty_frames;
      case kUnknown:
        return settings_.max_unknown_frames + useful;
      case kReset:
        return settings_.max_resets > completed_ ? settings_.max_resets : completed_;
      case kKinds:
        break;
    }
    return 0;
  }

  const Http2Settings& settings_;
  uint64_t window_start_ms_ = 0;
  uint32_t useful_ = 0;
  uint32_t completed_ = 0;
  uint32_t counts_[kKinds] = {};
};

}  // namespace sluice::http
