#include "proxy/filter_run.h"

namespace sluice::proxy {

using filter::Status;

void FilterRun::build(filter::Context& context, Arena& arena, const config::FilterChain* const* chains, size_t count) {
  size_t total = 0;
  for (size_t c = 0; c < count; ++c) total += chains[c]->size();
  if (total == 0) return;
  entries_ = static_cast<Entry*>(arena.allocate(sizeof(Entry) * total, alignof(Entry)));
  for (size_t c = 0; c < count; ++c) {
    for (const auto& factory : *chains[c]) {
      filter::Filter* filter = factory->create(context);
      if (!filter) continue;
      auto* entry = new (&entries_[count_++]) Entry();
      entry->filter = filter;
      entry->wants_body[0] = factory->wants_request_body();
      entry->wants_body[1] = factory->wants_response_body();
      body_[0] = body_[0] || entry->wants_body[0];
      body_[1] = body_[1] || entry->wants_body[1];
    }
  }
  response_from_ = count_;
}

std::vector<std::unique_ptr<filter::TunnelHold>> FilterRun::begin_tunnel() {
  std::vector<std::unique_ptr<filter::TunnelHold>> holds;
  for (uint32_t i = 0; i < count_; ++i) {
    if (auto hold = entries_[i].filter->on_tunnel()) holds.push_back(std::move(hold));
  }
  return holds;
}

void FilterRun::finish(filter::Context& context) {
  for (uint32_t i = 0; i < count_; ++i) {
    entries_[i].filter->on_complete(context);
    entries_[i].filter->~Filter();
    entries_[i].~Entry();
  }
  count_ = response_from_ = 0;
  paused_[0] = paused_[1] = 0;
  body_[0] = body_[1] = false;
}

void FilterRun::headers(filter::Context& context, Direction direction, bool end) {
  end_[index(direction)] = end;
  run_headers(context, direction, 0, end);
}

void FilterRun::run_headers(filter::Context& context, Direction direction, uint32_t step, bool end) {
  for (; step < steps(direction); ++step) {
    const uint32_t position = at(direction, step);
    Entry& entry = entries_[position];
    Status status;
    if (direction == Direction::kRequest) {
      seen_ = position + 1;
      status = entry.filter->on_request_headers(context, end);
      if (sink_.stopped(direction)) return;
      sink_.after_request_headers();
    } else {
      status = entry.filter->on_response_headers(context, end);
    }
    if (sink_.stopped(direction)) return;
    if (status == Status::kContinue) continue;
    Side& side = entry.sides[index(direction)];
    side.paused = side.headers_wait = true;
    ++paused_[index(direction)];
    if (direction == Direction::kRequest && !end && entry.wants_body[index(direction)]) sink_.on_request_body_wanted();
    return;
  }
  sink_.on_headers_through(direction, end);
}

void FilterRun::data(filter::Context& context, Direction direction, SliceQueue& data, bool end) {
  run_data(context, direction, 0, data, end);
}

void FilterRun::run_data(filter::Context& context, Direction direction, uint32_t step, SliceQueue& data, bool end) {
  const int d = index(direction);
  for (; step < steps(direction); ++step) {
    Entry& entry = entries_[at(direction, step)];
    Side& side = entry.sides[d];
    if (entry.wants_body[d]) {
      const Status status = direction == Direction::kRequest ? entry.filter->on_request_body(context, data, end)
                                                             : entry.filter->on_response_body(context, data, end);
      if (sink_.stopped(direction)) return;
      if (status == Status::kPause && !side.paused) {
        side.paused = true;
        ++paused_[d];
      }
      if (status == Status::kPause) side.collecting = true;
    }
    if (side.paused) return hold(direction, entry, data, end);
  }
  sink_.on_data_through(direction, data, end);
}

void FilterRun::hold(Direction direction, Entry& entry, SliceQueue& data, bool end) {
  Side& side = entry.sides[index(direction)];
  while (!data.empty()) side.held.gather(data.pop_front());
  side.end = side.end || end;
  sink_.on_held(direction, side.held.bytes(), side.collecting);
}

void FilterRun::trailers(filter::Context& context, Direction direction, http::HeaderMap& trailers) {
  run_trailers(context, direction, 0, trailers);
}

void FilterRun::run_trailers(filter::Context& context, Direction direction, uint32_t step, http::HeaderMap& trailers) {
  const int d = index(direction);
  for (; step < steps(direction); ++step) {
    Entry& entry = entries_[at(direction, step)];
    Side& side = entry.sides[d];
    Status status = Status::kContinue;
    if (entry.wants_body[d]) {
      status = direction == Direction::kRequest ? entry.filter->on_request_trailers(context, trailers)
                                                : entry.filter->on_response_trailers(context, trailers);
      if (sink_.stopped(direction)) return;
    }
    if (status == Status::kPause && !side.paused) {
      side.paused = true;
      ++paused_[d];
    }
    if (!side.paused) continue;
    auto* kept = context.arena().create<http::HeaderMap>(&context.arena());
    for (const http::HeaderField& field : trailers) kept->append(field.id, field.name(), field.value());
    side.trailers = kept;
    return;
  }
  sink_.on_trailers_through(direction, trailers);
}

uint32_t FilterRun::find(Direction direction, const filter::Filter& self) const {
  for (uint32_t step = 0; step < steps(direction); ++step) {
    if (entries_[at(direction, step)].filter == &self) return step;
  }
  return UINT32_MAX;
}

SliceQueue& FilterRun::held(Direction direction, filter::Filter& self) {
  return entries_[at(direction, find(direction, self))].sides[index(direction)].held;
}

void FilterRun::resume(filter::Context& context, Direction direction, filter::Filter& self) {
  const uint32_t step = find(direction, self);
  if (step == UINT32_MAX) return;
  Side& side = entries_[at(direction, step)].sides[index(direction)];
  if (!side.paused) return;
  side.paused = side.collecting = false;
  --paused_[index(direction)];
  const bool headers_wait = std::exchange(side.headers_wait, false);
  SliceQueue held = std::move(side.held);
  const bool end = std::exchange(side.end, false);
  http::HeaderMap* trailers = std::exchange(side.trailers, nullptr);
  if (headers_wait) {
    run_headers(context, direction, step + 1, end_[index(direction)]);
    if (sink_.stopped(direction)) return;
  }
  if (!held.empty() || end) {
    run_data(context, direction, step + 1, held, end);
    if (sink_.stopped(direction)) return;
  }
  if (trailers) run_trailers(context, direction, step + 1, *trailers);
}

}  // namespace sluice::proxy
