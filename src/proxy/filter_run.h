#pragma once
// FilterRun: the filters of one exchange and how far each direction has got through them. Request events run first to
// last, response events last to first. A paused filter holds what has reached it; resuming moves it on.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/arena.h"
#include "base/slice_queue.h"
#include "config/route.h"
#include "filter/filter.h"

namespace sluice::proxy {

enum class Direction : uint8_t { kRequest, kResponse };

class FilterRun {
 public:
  // What comes out at the end of the chain. Calls may end the exchange; FilterRun notices by alive().
  class Sink {
   public:
    virtual void on_headers_through(Direction direction, bool end) = 0;
    virtual void on_data_through(Direction direction, SliceQueue& data, bool end) = 0;
    virtual void on_trailers_through(Direction direction, const http::HeaderMap& trailers) = 0;
    // A paused filter holds more than `limit` bytes: the sink answers, or slows the sender down.
    virtual void on_held(Direction direction, size_t bytes, bool collecting) = 0;
    // After each filter's request headers: true stops the run (the exchange was answered or ended meanwhile).
    virtual bool stopped(Direction direction) = 0;
    virtual void after_request_headers() = 0;
    // A filter keeps the request headers until it has seen the body.
    virtual void on_request_body_wanted() = 0;

   protected:
    ~Sink() = default;
  };

  explicit FilterRun(Sink& sink) : sink_(sink) {}

  // Instantiates the filters of the chains, in order. `context` is passed to factories and events.
  void build(filter::Context& context, Arena& arena, const config::FilterChain* const* chains, size_t count);
  // What the filters hold on to while a tunnel lasts. finish() is to follow.
  std::vector<std::unique_ptr<filter::TunnelHold>> begin_tunnel();
  // Calls on_complete() of all filters and destroys them.
  void finish(filter::Context& context);

  bool empty() const { return count_ == 0; }
  // True if body data must go through data(): a filter wants it, or is paused.
  bool touches_body(Direction direction) const { return body_[index(direction)] || paused_[index(direction)]; }
  bool paused(Direction direction) const { return paused_[index(direction)] != 0; }

  void headers(filter::Context& context, Direction direction, bool end);
  void data(filter::Context& context, Direction direction, SliceQueue& data, bool end);
  void trailers(filter::Context& context, Direction direction, http::HeaderMap& trailers);
  void resume(filter::Context& context, Direction direction, filter::Filter& self);
  SliceQueue& held(Direction direction, filter::Filter& self);

  // A response that a filter or the gateway makes passes only filters that have seen the request headers.
  void limit_response_to_seen() { response_from_ = seen_; }

 private:
  struct Side {
    SliceQueue held;
    http::HeaderMap* trailers = nullptr;
    bool paused = false;
    bool headers_wait = false;  // paused in the header event: the headers are still to go on
    bool end = false;           // the end of the message is held too
    bool collecting = false;    // paused in a body event
  };
  struct Entry {
    filter::Filter* filter;
    bool wants_body[2];
    Side sides[2];
  };

  static int index(Direction direction) { return static_cast<int>(direction); }
  // Position of the n-th step of a direction in entries_.
  uint32_t at(Direction direction, uint32_t step) const {
    return direction == Direction::kRequest ? step : response_from_ - 1 - step;
  }
  uint32_t steps(Direction direction) const { return direction == Direction::kRequest ? count_ : response_from_; }
  void run_headers(filter::Context& context, Direction direction, uint32_t step, bool end);
  void run_data(filter::Context& context, Direction direction, uint32_t step, SliceQueue& data, bool end);
  void run_trailers(filter::Context& context, Direction direction, uint32_t step, http::HeaderMap& trailers);
  void hold(Direction direction, Entry& entry, SliceQueue& data, bool end);
  uint32_t find(Direction direction, const filter::Filter& self) const;

  Sink& sink_;
  Entry* entries_ = nullptr;
  uint32_t count_ = 0;
  uint32_t seen_ = 0;            // filters that have seen the request headers
  uint32_t response_from_ = 0;   // response events start below this entry
  uint32_t paused_[2] = {0, 0};  // filters paused per direction
  bool body_[2] = {false, false};
  bool end_[2] = {false, false};  // the headers' end flag
};

}  // namespace sluice::proxy
