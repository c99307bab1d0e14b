#include "http/http2_stream.h"

#include <algorithm>
#include <cstring>

#include "http/http2_session.h"

namespace sluice::http {
void Http2Stream::queue_data(Slice data, bool end) {
  if (out_end_ || abandoned_ || !open_in_nghttp2()) return;
  if (end) out_end_ = true;
  if (no_body_) return;
  if (out_.empty()) {
    out_.push_back(std::move(data));  // may well leave in this turn
  } else {
    out_.gather(std::move(data));
  }
  if (out_.bytes() > kBufferLow) above_low_ = true;
  if (!writing_.deadline_ms && !out_.empty()) watch_writing();
  if (body_deferred_) {
    body_deferred_ = false;
    nghttp2_session_resume_data(session_.ng_, id_);
  }
  session_.schedule_write();
}

void Http2Stream::queue_trailers(const HeaderMap& trailers) {
  if (out_end_ || abandoned_ || !open_in_nghttp2()) return;
  if (trailers.empty()) return queue_data(Slice(), true);
  out_end_ = true;
  if (no_body_) return;
  session_.schedule_write();
  // nghttp2 sends heads in order, a client's first one excepted: that waits in a queue of its own.
  if (out_.empty() && (head_left_ || session_.is_server_)) {
    const Http2FieldList list = Http2FieldList::trailers(trailers);
    if (!list.empty()) {
      nghttp2_submit_trailer(session_.ng_, id_, list.data(), list.size());
      return;
    }
  } else {
    trailers_out_ = std::make_unique<PendingTrailers>();
    for (const HeaderField& field : trailers) {
      trailers_out_->fields.append(field.id, trailers_out_->arena.copy(field.name()),
                                   trailers_out_->arena.copy(field.value()));
    }
  }
  if (body_deferred_) {
    body_deferred_ = false;
    nghttp2_session_resume_data(session_.ng_, id_);
  }
}

void Http2Stream::send_pending_trailers() {
  const Http2FieldList list = Http2FieldList::trailers(trailers_out_->fields);
  nghttp2_submit_trailer(session_.ng_, id_, list.data(), list.size());
  trailers_out_.reset();
}

nghttp2_data_provider Http2Stream::body_source() {
  nghttp2_data_provider provider;
  provider.source.ptr = this;
  provider.read_callback = [](nghttp2_session*, int32_t, uint8_t*, size_t limit, uint32_t* flags,
                              nghttp2_data_source* source, void*) -> ssize_t {
    return static_cast<Http2Stream*>(source->ptr)->read_body(limit, flags);
  };
  return provider;
}

// Says how much of the body goes into the next DATA frame; Http2Session::send_data_frame() takes
// it.
ssize_t Http2Stream::read_body(size_t limit, uint32_t* flags) {
  const size_t n = std::min(limit, out_.bytes());
  if (n == 0 && !out_end_) {
    body_deferred_ = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (out_end_ && n == out_.bytes()) {
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (trailers_out_) {
      *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
      send_pending_trailers();
    }
  }
  if (n > 0) *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  return static_cast<ssize_t>(n);
}

void Http2Stream::set_paused(bool paused) {
  paused_ = paused;
  was_paused_ = was_paused_ || paused;
  if (!paused && handler_ && (!held_.empty() || undelivered())) session_.mark(*this);
}

void Http2Stream::reset_stream(StreamError error) {
  if (abandoned_) return;
  abandoned_ = true;
  forget_handler();
  out_.clear();
  trailers_out_.reset();
  if (open_in_nghttp2()) {
    submit_reset(reset_code(error));
  } else {
    if (id_ <= 0) closed_ = true;  // never got as far as nghttp2
    session_.mark(*this);
  }
}

void Http2Stream::mark_failed(StreamError error, std::string_view why) {
  closed_ = true;
  error_ = error;
  error_detail_ = why;
  session_.mark(*this);
}

void Http2Stream::submit_reset(uint32_t http2_error) {
  if (reset_sent_ || !open_in_nghttp2()) return;
  reset_sent_ = true;
  nghttp2_submit_rst_stream(session_.ng_, NGHTTP2_FLAG_NONE, id_, http2_error);
  session_.schedule_write();
}

void Http2Stream::forget_handler() {
  handler_ = nullptr;
  if (held_.bytes()) session_.unhold(held_.bytes());
  held_.clear();
}

void Http2Stream::watch_reading() {
  const Http2Settings& settings = session_.settings_;
  if (!settings.min_body_rate || !settings.body_rate_window_ms) return;
  was_paused_ = paused_;
  reading_ = {session_.loop_.now_ms() + settings.body_rate_window_ms, 0};
  session_.judge_pace_at(reading_.deadline_ms);
}

void Http2Stream::watch_writing() {
  const Http2Settings& settings = session_.settings_;
  if (!settings.write_timeout_ms) return;
  writing_ = {session_.loop_.now_ms() + settings.write_timeout_ms, 0};
  data_sent_before_ = session_.data_sent_;
  session_.judge_pace_at(writing_.deadline_ms);
}

// Time in which we held the body back counts for nobody.
void Http2Stream::judge_reading(uint64_t now_ms, bool window_withheld) {
  if (!reading_.due(now_ms)) return;
  const uint64_t received = reading_.bytes;
  reading_ = {};
  if (in_end_ || head_sent_ || !handler_) return;
  const Http2Settings& settings = session_.settings_;
  const bool excused = was_paused_ || window_withheld || !owes_body();
  if (!excused && received < settings.wanted(settings.body_rate_window_ms)) return on_body_too_slow();
  watch_reading();
}

void Http2Stream::time_out(std::string_view why) {
  StreamHandler* handler = handler_;
  abandoned_ = true;
  forget_handler();
  out_.clear();
  trailers_out_.reset();
  writing_ = reading_ = {};
  submit_reset(NGHTTP2_CANCEL);
  if (handler) handler->on_reset(StreamError::kTimeout, why);
}

void Http2Stream::receive(Slice data, bool end) {
  reading_.bytes += data.size();
  if (end) in_end_ = true;
  if (!handler_) return;
  if (paused_ || !held_.empty()) {
    hold(std::move(data));
    return;
  }
  if (!data.empty() && open_in_nghttp2()) nghttp2_session_consume_stream(session_.ng_, id_, data.size());
  if (end) in_end_told_ = true;
  handler_->on_data(std::move(data), end);
}

void Http2Stream::receive_trailers(HeaderMap* trailers) {
  in_end_ = true;
  if (!handler_) return;
  trailers_in_ = trailers;
  if (paused_ || !held_.empty()) return;
  in_end_told_ = true;
  handler_->on_trailers(*trailers);
}

void Http2Stream::hold(Slice data) {
  session_.hold(data.size());
  held_.gather(std::move(data));
}

void Http2Stream::deliver_held() {
  while (handler_ && !paused_ && !held_.empty()) {
    Slice data = held_.pop_front();
    session_.unhold(data.size());
    if (open_in_nghttp2()) {
      nghttp2_session_consume_stream(session_.ng_, id_, data.size());
      session_.schedule_write();
    }
    const bool end = held_.empty() && in_end_ && !trailers_in_;
    if (end) in_end_told_ = true;
    handler_->on_data(std::move(data), end);
  }
  if (!undelivered() || paused_ || !held_.empty()) return;
  in_end_told_ = true;
  if (trailers_in_) {
    handler_->on_trailers(*trailers_in_);
  } else {
    handler_->on_data(Slice(), true);
  }
}

// Runs outside of nghttp2: tells the handler what has happened, and lets the stream go when it is
// over.
void Http2Stream::settle() {
  if (handler_) deliver_held();
  if (drained_pending_) {
    drained_pending_ = false;
    if (handler_) handler_->on_drained();
  }
  if (!closed_) return;
  // A complete response is delivered first, however its stream ended afterwards.
  const bool wait = !session_.is_server_ && undelivered();
  if (error_ != StreamError::kNone && handler_ && !wait) {
    StreamHandler* handler = handler_;
    forget_handler();
    abandoned_ = true;
    handler->on_reset(error_, error_detail_);
  }
  if (!handler_) session_.release(*this);
}

}  // namespace sluice::http
