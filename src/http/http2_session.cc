#include "http/http2_session.h"

#include <algorithm>
#include <cstring>
#include <utility>

// States of a connection: kOpen until nghttp2 has nothing more to do or the peer broke a rule; then
// kClosing, where the rest of the output is written, our direction ended and input discarded, so
// that the peer gets the last GOAWAY and not a TCP reset; then kClosed.

namespace sluice::http {
namespace {

constexpr size_t kWriteBudget = 1'048'576;
constexpr size_t kCopyIntoTail = 1024;  // body slices up to this size join the frame head in one vector

void put_u32(char* to, uint32_t value) {
  to[0] = static_cast<char>(value >> 24);
  to[1] = static_cast<char>(value >> 16);
  to[2] = static_cast<char>(value >> 8);
  to[3] = static_cast<char>(value);
}

}  // namespace

Http2Session::Http2Session(event::Loop& loop, net::Stream stream, const Http2Settings& settings, Side side)
    : loop_(loop),
      stream_(std::move(stream)),
      settings_(settings),
      flood_(settings),
      frame_left_(side == Side::kServer ? NGHTTP2_CLIENT_MAGIC_LEN : 0),
      is_server_(side == Side::kServer) {}

Http2Session::~Http2Session() {
  // Streams that still wait for their deletion in this turn do not touch nghttp2 any more.
  while (Http2Stream* stream = streams_) {
    streams_ = stream->next_;
    delete stream;
  }
  nghttp2_session_del(ng_);
}

bool Http2Session::start_session(std::string_view received, bool already_registered) {
  const Status registered = already_registered ? loop_.rebind(stream_.fd(), this) : loop_.add(stream_.fd(), this);
  if (!registered.ok() || !make_nghttp2_session()) {
    state_ = State::kClosed;
    stream_.close();
    return false;
  }
  last_read_ms_ = loop_.now_ms();
  if (settings_.preface_timeout_ms) arm(Wait::kPreface, settings_.preface_timeout_ms);
  schedule_write();
  if (!received.empty() && !feed(received.data(), received.size())) return true;
  if (stream_.readable()) read_more_ = true;
  return true;
}

void Http2Session::attach(Http2Stream& stream) {
  stream.next_ = streams_;
  if (streams_) streams_->previous_ = &stream;
  streams_ = &stream;
  ++active_;
  ++total_;
  if (wait_ == Wait::kIdle) arm(Wait::kNone, 0);
}

// --- input

void Http2Session::on_io(uint32_t events) {
  if (state_ == State::kClosed) return;
  stream_.note(events);
  read_input();
  if (state_ != State::kClosed && stream_.writable() && (!out_.empty() || stream_.has_pending_output())) {
    schedule_write();
  }
}

void Http2Session::run_turn() {
  if (state_ == State::kClosed) return finish_close();
  if (std::exchange(read_more_, false)) read_input();
  if (state_ != State::kClosed) write_output();
}

// --- output

void Http2Session::append_output(const char* data, size_t size) {
  while (size > 0) {
    if (!tail_ || tail_used_ == tail_->capacity) {
      tail_ = BlockRef(acquire_block());
      tail_used_ = 0;
    }
    const size_t n = std::min<size_t>(size, tail_->capacity - tail_used_);
    char* to = tail_->data() + tail_used_;
    std::memcpy(to, data, n);
    tail_used_ += static_cast<uint32_t>(n);
    const Slice* last = out_.empty() ? nullptr : &out_[out_.count() - 1];
    if (last && last->data() + last->size() == to && last->block().get() == tail_.get()) {
      out_.extend_back(n);
    } else {
      out_.push_back(Slice(tail_, to, n));
    }
    data += n;
    size -= n;
  }
}

// Lets nghttp2 make frames until the queue is full. False: it failed.
bool Http2Session::make_frames() {
  in_nghttp2_ = true;
  ssize_t n = 0;
  while (out_.bytes() < settings_.output_bytes) {
    const uint8_t* frame = nullptr;
    n = nghttp2_session_mem_send(ng_, &frame);
    if (n <= 0) break;
    append_output(reinterpret_cast<const char*>(frame), static_cast<size_t>(n));
  }
  in_nghttp2_ = false;
  return n >= 0;
}

int Http2Session::send_data_frame(Http2Stream& stream, const uint8_t* frame_head, size_t length) {
  append_output(reinterpret_cast<const char*>(frame_head), 9);
  SliceQueue& body = stream.out_;
  data_sent_ += length;
  stream.writing_.bytes += length;
  while (length > 0) {
    const Slice& front = body[0];
    const size_t n = std::min(length, front.size());
    if (n <= kCopyIntoTail) {
      append_output(front.data(), n);
      body.consume(n);
    } else if (n == front.size()) {
      out_.push_back(body.pop_front());
    } else {
      out_.push_back(front.sub(0, n));
      body.consume(n);
    }
    length -= n;
  }
  if (body.empty()) stream.writing_.deadline_ms = 0;
  if (stream.above_low_ && body.bytes() <= kBufferLow) {
    stream.above_low_ = false;
    stream.drained_pending_ = true;
    mark(stream);
  }
  return out_.bytes() >= settings_.output_bytes ? NGHTTP2_ERR_PAUSE : 0;
}

void Http2Session::write_output() {
  size_t budget = kWriteBudget;
  while (true) {
    if (state_ == State::kOpen && !make_frames()) {
      end_session(violation_ ? violation_ : uint32_t{NGHTTP2_INTERNAL_ERROR}, violation_error(),
                  violation_text_ ? violation_text_ : "cannot make frames");
      return;
    }
    if (close_pending_) return close_session(close_error_, close_detail_);
    if (out_.empty() && !stream_.has_pending_output()) break;
    if (!stream_.writable()) break;
    const size_t before = out_.bytes();
    const net::IoResult result = out_.empty() ? stream_.flush() : stream_.write(out_);
    if (result.status == net::IoStatus::kError) {
      close_session(StreamError::kConnectionClosed, "write failed: " + stream_.error_text());
      return;
    }
    if (result.status == net::IoStatus::kAgain || out_.bytes() == before) break;
    written_ += before - out_.bytes();
    budget -= std::min(budget, before - out_.bytes());
    if (budget == 0) {
      schedule_write();
      break;
    }
  }
  if (out_.empty()) {
    tail_.reset();
    tail_used_ = 0;
  }
  watch_socket();
  settle();
  if (state_ != State::kClosed) maybe_finish();
}

// --- telling handlers

void Http2Session::mark(Http2Stream& stream) {
  if (!stream.marked_) {
    stream.marked_ = true;
    stream.next_settle_ = nullptr;
    if (settle_tail_) {
      settle_tail_->next_settle_ = &stream;
    } else {
      settle_head_ = &stream;
    }
    settle_tail_ = &stream;
  }
  if (!in_nghttp2_ && !in_settle_) loop_.defer_flush(settle_task_);
}

void Http2Session::settle() {
  if (in_settle_ || in_nghttp2_) return;
  in_settle_ = true;
  while (Http2Stream* stream = settle_head_) {
    settle_head_ = stream->next_settle_;
    if (!settle_head_) settle_tail_ = nullptr;
    stream->marked_ = false;
    stream->settle();
  }
  in_settle_ = false;
  if (close_pending_) close_session(close_error_, close_detail_);
  if (state_ == State::kClosed) finish_close();
}

void Http2Session::release(Http2Stream& stream) {
  if (stream.released_) return;
  stream.released_ = true;
  if (stream.previous_) {
    stream.previous_->next_ = stream.next_;
  } else {
    streams_ = stream.next_;
  }
  if (stream.next_) stream.next_->previous_ = stream.previous_;
  loop_.destroy_later(&stream);
  --active_;
  if (active_ == 0) on_streams_gone();
  if (state_ != State::kClosed) on_stream_released();
}

void Http2Session::on_streams_gone() {
  if (state_ != State::kOpen) return;
  if (drain_ == Drain::kWhenIdle) return send_final_goaway();
  if (drain_ == Drain::kFinal) return schedule_write();  // nghttp2 has nothing left to wait for
  if (wait_ == Wait::kNone && settings_received_ && settings_.idle_timeout_ms) {
    arm(Wait::kIdle, settings_.idle_timeout_ms);
  }
}

void Http2Session::tell_all(StreamError error, std::string_view detail) {
  for (Http2Stream* stream = streams_; stream; stream = stream->next_) {
    const bool complete = stream->in_end_ && stream->out_end_sent_;
    stream->closed_ = true;
    // What is complete is not harmed, though its handler may have yet to hear or to finish something.
    if (stream->error_ == StreamError::kNone && !complete) {
      stream->error_ = error;
      stream->error_detail_ = detail;
    }
    mark(*stream);
  }
}

// --- flow control

void Http2Session::return_connection_window(size_t bytes) {
  if (held_ > settings_.max_held_bytes) {
    withheld_ += bytes;
    window_withheld_ = true;
  } else {
    nghttp2_session_consume_connection(ng_, bytes);
  }
}

void Http2Session::unhold(size_t bytes) {
  held_ -= bytes;
  if (withheld_ > 0 && held_ <= settings_.max_held_bytes && state_ == State::kOpen) {
    nghttp2_session_consume_connection(ng_, std::exchange(withheld_, 0));
    schedule_write();
  }
}

// --- the end

void Http2Session::begin_drain() {
  if (state_ != State::kOpen || drain_ != Drain::kNone) return;
  if (!is_server_) {
    drain_ = Drain::kWhenIdle;
    if (active_ == 0) send_final_goaway();
    return;
  }
  drain_ = Drain::kNoticed;
  nghttp2_submit_shutdown_notice(ng_);  // a PING follows: on_frame_sent()
  arm(Wait::kDrain, std::max(settings_.drain_notice_ms, 1u));
  schedule_write();
}

void Http2Session::send_final_goaway() {
  if (state_ != State::kOpen || drain_ == Drain::kFinal) return;
  drain_ = Drain::kFinal;
  if (wait_ == Wait::kDrain) arm(Wait::kNone, 0);
  const int32_t last = nghttp2_session_get_last_proc_stream_id(ng_);
  nghttp2_submit_goaway(ng_, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, nullptr, 0);
  schedule_write();
}

// nghttp2 may be in any state: the frame is written by hand.
void Http2Session::end_session(uint32_t http2_error, StreamError error, std::string_view detail) {
  if (state_ != State::kOpen) return;
  char frame[17] = {};
  frame[2] = static_cast<char>(8 + std::min<size_t>(detail.size(), 100));
  frame[3] = NGHTTP2_GOAWAY;
  put_u32(frame + 9, is_server_ ? static_cast<uint32_t>(nghttp2_session_get_last_proc_stream_id(ng_)) : 0);
  put_u32(frame + 13, http2_error);
  append_output(frame, sizeof(frame));
  append_output(detail.data(), std::min<size_t>(detail.size(), 100));
  begin_closing(error, detail);
}

// Nothing more goes to or comes from nghttp2.
void Http2Session::begin_closing(StreamError error, std::string_view detail) {
  state_ = State::kClosing;
  header_timer_.cancel();
  pace_timer_.cancel();
  arm(Wait::kLinger, std::max(settings_.linger_ms, 1u));
  tell_all(error, detail);
  settle();
  if (state_ == State::kClosing) schedule_write();
}

void Http2Session::maybe_finish() {
  if (state_ == State::kOpen) {
    if (nghttp2_session_want_read(ng_) || nghttp2_session_want_write(ng_)) return;
    begin_closing(active_ ? StreamError::kProtocol : StreamError::kNone, "connection ended after an error");
    if (state_ != State::kClosing) return;
  }
  if (!out_.empty() || stream_.has_pending_output() || write_shut_) return;
  write_shut_ = true;
  if (stream_.peer_closed()) return close_session(StreamError::kConnectionClosed, "");
  stream_.shutdown_write();
  read_input();
}

void Http2Session::close_session(StreamError error, std::string_view detail) {
  if (state_ == State::kClosed) return;
  if (in_nghttp2_ || in_settle_) {
    close_error_ = error;
    close_detail_ = detail;
    close_pending_ = true;
    return;
  }
  close_pending_ = false;
  state_ = State::kClosed;
  timer_.cancel();
  header_timer_.cancel();
  pace_timer_.cancel();
  wait_ = Wait::kNone;
  stream_.close();
  out_.clear();
  tail_.reset();
  input_.reset();
  tell_all(error, std::string(detail));
  settle();
}

// The side is told, and destroys the connection, once all streams have been told (a complete
// response may still wait for a paused handler) and no task of ours is queued for a later turn.
void Http2Session::finish_close() {
  if (notified_closed_ || streams_ || turn_task_.queued() || settle_task_.queued()) return;
  notified_closed_ = true;
  on_session_closed();
}

// --- timers

void Http2Session::arm(Wait wait, uint64_t delay_ms) {
  wait_ = wait;
  if (wait == Wait::kNone) {
    timer_.cancel();
  } else {
    loop_.arm(timer_, delay_ms);
  }
}

void Http2Session::on_timer() {
  switch (std::exchange(wait_, Wait::kNone)) {
    case Wait::kNone:
      return;
    case Wait::kPreface:
      return end_session(NGHTTP2_SETTINGS_TIMEOUT, StreamError::kTimeout, "no SETTINGS from the peer");
    case Wait::kIdle:
    case Wait::kDrain:
      return send_final_goaway();
    case Wait::kLinger:
      return close_session(StreamError::kTimeout, "the peer does not read");
  }
}

void Http2Session::on_header_timer() {
  end_session(NGHTTP2_ENHANCE_YOUR_CALM, StreamError::kTimeout, "header block timeout");
}

// --- pace

void Http2Session::judge_pace_at(uint64_t deadline_ms) {
  if (state_ != State::kOpen) return;
  if (pace_timer_.armed() && pace_timer_.deadline() <= deadline_ms) return;
  loop_.arm(pace_timer_, deadline_ms > loop_.now_ms() ? deadline_ms - loop_.now_ms() : 1);
}

void Http2Session::watch_socket() {
  if (state_ != State::kOpen || (out_.empty() && !stream_.has_pending_output())) {
    socket_.deadline_ms = 0;
  } else if (!socket_.deadline_ms && settings_.write_timeout_ms) {
    socket_ = {loop_.now_ms() + settings_.write_timeout_ms, written_};
    judge_pace_at(socket_.deadline_ms);
  }
}

// The timer is lazy: it was armed for a deadline that may have moved or gone since.
void Http2Session::on_pace_timer() {
  const uint64_t now = loop_.now_ms();
  if (!judge_socket(now)) return;
  const bool window_withheld = std::exchange(window_withheld_, withheld_ > 0);
  for (Http2Stream *stream = streams_, *next; stream; stream = next) {
    next = stream->next_;
    if (stream->closed_) continue;
    stream->judge_reading(now, window_withheld);
    if (!judge_writing(*stream, now)) return;
  }
  uint64_t earliest = socket_.deadline_ms;
  for (const Http2Stream* stream = streams_; stream; stream = stream->next_) {
    for (const uint64_t deadline : {stream->reading_.deadline_ms, stream->writing_.deadline_ms}) {
      if (deadline && (!earliest || deadline < earliest)) earliest = deadline;
    }
  }
  if (earliest) judge_pace_at(earliest);
}

// False: the connection is over.
bool Http2Session::judge_socket(uint64_t now) {
  if (!socket_.due(now)) return true;
  if (written_ - socket_.bytes < settings_.wanted(settings_.write_timeout_ms)) {
    close_session(StreamError::kTimeout, "the client does not read the response");
    return false;
  }
  socket_ = {now + settings_.write_timeout_ms, written_};
  return true;
}

// A stream is to blame for its own window only. If the connection's window holds it back, what all streams have sent
// counts; if the socket does, judge_socket() has seen to it. False: the connection is over.
bool Http2Session::judge_writing(Http2Stream& stream, uint64_t now) {
  Http2Stream::Pace& pace = stream.writing_;
  if (!pace.due(now)) return true;
  const uint64_t wanted = settings_.wanted(settings_.write_timeout_ms);
  if (pace.bytes < wanted && nghttp2_session_get_stream_remote_window_size(ng_, stream.id_) <= 0) {
    stream.time_out("the client does not read the response");
    return true;
  }
  if (data_sent_ - stream.data_sent_before_ < wanted && nghttp2_session_get_remote_window_size(ng_) <= 0) {
    end_session(NGHTTP2_ENHANCE_YOUR_CALM, StreamError::kTimeout, "the client does not read the responses");
    return false;
  }
  stream.watch_writing();
  return true;
}

}  // namespace sluice::http
