#include <algorithm>
#include <cstring>
#include <utility>

#include "http/http2_session.h"

// The way in: reading, and a look at every frame header before nghttp2 sees it. nghttp2 passes over
// frames of unknown types and frames of closed streams without a word; here they are counted, and
// refused where RFC 9113 §5.1 has it.

namespace sluice::http {
namespace {

constexpr size_t kReadBudget = 64 * 1024;  // per callback; more is read later in the turn or in the next
constexpr size_t kMinReadRoom = 2048;

uint32_t get_u32(const char* from) {
  const auto* p = reinterpret_cast<const unsigned char*>(from);
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

}  // namespace

void Http2Session::read_input() {
  size_t budget = kReadBudget;
  while (state_ != State::kClosed && stream_.readable()) {
    if (budget == 0) {
      read_more_ = true;
      schedule_write();
      break;
    }
    // The rest of a block that slices still refer to is used up before the next one is taken, so
    // that many small frames cannot keep a block each.
    if (input_.unique()) input_used_ = 0;
    if (!input_ || input_->capacity - input_used_ < kMinReadRoom) {
      input_ = BlockRef(acquire_block(large_reads_ ? kLargeBlock : kBlock));
      input_used_ = 0;
    }
    char* to = input_->data() + input_used_;
    const size_t room = input_->capacity - input_used_;
    const net::IoResult result = stream_.read(to, room);
    if (result.status == net::IoStatus::kAgain) break;
    if (result.status != net::IoStatus::kOk) {
      const bool broken = result.status == net::IoStatus::kError;
      close_session(StreamError::kConnectionClosed,
                    broken ? "connection reset by the peer" : "peer closed the connection");
      break;
    }
    last_read_ms_ = loop_.now_ms();
    large_reads_ = result.bytes == room;
    budget -= std::min(budget, result.bytes);
    if (state_ == State::kClosing) continue;
    input_used_ += static_cast<uint32_t>(result.bytes);
    feed(to, result.bytes);
  }
  if (!input_ || input_.unique() || active_ == 0) {
    input_.reset();
    input_used_ = 0;
  }
}

// Gives bytes to nghttp2 and tells handlers what came of them. False: the connection is closing or
// closed.
bool Http2Session::feed(const char* data, size_t size) {
  const char* given = data;  // up to here nghttp2 has them
  const char* p = data;
  const char* end = data + size;
  while (p < end) {
    if (frame_left_ > 0) {
      const auto n = static_cast<uint32_t>(std::min<size_t>(frame_left_, static_cast<size_t>(end - p)));
      frame_left_ -= n;
      p += n;
      continue;
    }
    const auto n = static_cast<uint8_t>(std::min<ptrdiff_t>(9 - frame_head_used_, end - p));
    std::memcpy(frame_head_ + frame_head_used_, p, n);
    frame_head_used_ = static_cast<uint8_t>(frame_head_used_ + n);
    p += n;
    if (frame_head_used_ < 9) break;
    frame_head_used_ = 0;
    frame_left_ = get_u32(frame_head_) >> 8;
    const nghttp2_frame_hd head{frame_left_, static_cast<int32_t>(get_u32(frame_head_ + 5) & 0x7fff'ffff),
                                static_cast<uint8_t>(frame_head_[3]), static_cast<uint8_t>(frame_head_[4]), 0};
    if (asks_for_stream_state(head)) {
      const char* start = std::max(data, p - 9);
      if (start > given && !give(std::exchange(given, start), start)) return false;
    }
    if (on_frame_header(head) != 0) {
      end_session(violation_, violation_error(), violation_text_);
      return false;
    }
  }
  if (given < end && !give(given, end)) return false;

  settle();
  if (state_ != State::kOpen) return false;
  if (nghttp2_session_get_outbound_queue_size(ng_) > settings_.max_queued_frames) {
    end_session(NGHTTP2_ENHANCE_YOUR_CALM, StreamError::kOverload, "the peer makes us answer but does not read");
    return false;
  }
  const bool in_header_block = in_header_frame_ && (frame_left_ > 0 || !header_block_ends_);
  if (!in_header_block) {
    header_timer_.cancel();
  } else if (!header_timer_.armed() && settings_.header_timeout_ms) {
    loop_.arm(header_timer_, settings_.header_timeout_ms);
  }
  if (nghttp2_session_want_write(ng_) || !nghttp2_session_want_read(ng_)) schedule_write();
  return true;
}

bool Http2Session::give(const char* from, const char* to) {
  in_nghttp2_ = true;
  const ssize_t taken =
      nghttp2_session_mem_recv(ng_, reinterpret_cast<const uint8_t*>(from), static_cast<size_t>(to - from));
  if (stash_stream_) flush_stash(false);
  in_nghttp2_ = false;
  if (close_pending_) {
    close_session(close_error_, close_detail_);
    return false;
  }
  if (taken >= 0) return true;
  if (violation_) {
    end_session(violation_, violation_error(), violation_text_);
  } else if (taken == NGHTTP2_ERR_FLOODED || taken == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS) {
    end_session(NGHTTP2_ENHANCE_YOUR_CALM, StreamError::kOverload, nghttp2_strerror(static_cast<int>(taken)));
  } else {
    end_session(NGHTTP2_PROTOCOL_ERROR, StreamError::kProtocol, nghttp2_strerror(static_cast<int>(taken)));
  }
  return false;
}

void Http2Session::flush_stash(bool end) {
  Http2Stream* stream = std::exchange(stash_stream_, nullptr);
  Slice data = std::move(stash_);
  stash_ = Slice();
  stream->receive(std::move(data), end);
}

int Http2Session::violate(uint32_t http2_error, const char* text) {
  if (!violation_) {
    violation_ = http2_error;
    violation_text_ = text;
  }
  return NGHTTP2_ERR_CALLBACK_FAILURE;
}

int Http2Session::charge(FloodGuard::Kind kind) {
  if (flood_.allow(kind, loop_.now_ms())) return 0;
  return violate(NGHTTP2_ENHANCE_YOUR_CALM, FloodGuard::text(kind));
}

// Frames that are judged by the state of their stream, which nghttp2 must have brought up to date.
bool Http2Session::asks_for_stream_state(const nghttp2_frame_hd& head) const {
  const bool about_stream =
      head.type == NGHTTP2_DATA || head.type == NGHTTP2_HEADERS || head.type == NGHTTP2_RST_STREAM;
  return is_server_ && about_stream && head.stream_id <= last_stream_id_;
}

int Http2Session::on_frame_header(const nghttp2_frame_hd& head) {
  const bool ack = (head.flags & NGHTTP2_FLAG_ACK) != 0;
  in_header_frame_ = head.type == NGHTTP2_HEADERS || head.type == NGHTTP2_CONTINUATION;
  if (in_header_frame_) header_block_ends_ = (head.flags & NGHTTP2_FLAG_END_HEADERS) != 0;
  const bool closed = asks_for_stream_state(head) && head.stream_id > 0 && !find(head.stream_id);
  switch (head.type) {
    case NGHTTP2_DATA:
      if (closed) {
        if (const int result = on_frame_of_closed_stream(head); result != 0) return result;
      }
      return head.length == 0 && !(head.flags & NGHTTP2_FLAG_END_STREAM) ? charge(FloodGuard::kEmpty) : 0;
    case NGHTTP2_HEADERS:
      if (closed) return on_frame_of_closed_stream(head);
      if (is_server_ && (head.stream_id & 1)) last_stream_id_ = std::max(last_stream_id_, head.stream_id);
      return 0;
    case NGHTTP2_CONTINUATION:
      return 0;
    case NGHTTP2_SETTINGS:
      return ack ? 0 : charge(FloodGuard::kSettings);
    case NGHTTP2_PING:
      return charge(FloodGuard::kPing);
    case NGHTTP2_PRIORITY:
    case NGHTTP2_PRIORITY_UPDATE:
      return charge(FloodGuard::kPriority);
    case NGHTTP2_WINDOW_UPDATE:
      return charge(FloodGuard::kWindowUpdate);
    case NGHTTP2_PUSH_PROMISE:
      // Our first SETTINGS forbid it, and they go before any request that could be answered with a
      // push.
      return violate(NGHTTP2_PROTOCOL_ERROR, "PUSH_PROMISE");
    case NGHTTP2_RST_STREAM:
      return closed ? charge(FloodGuard::kUnknown) : 0;
    default:
      return charge(FloodGuard::kUnknown);
  }
}

// nghttp2 ignores such frames, since one may cross a reset of ours. If it cannot have, the peer
// broke RFC 9113 §5.1.
int Http2Session::on_frame_of_closed_stream(const nghttp2_frame_hd& head) {
  if (drain_ == Drain::kFinal) return 0;  // streams that our GOAWAY refused
  const auto id = static_cast<uint32_t>(head.stream_id);
  for (const uint32_t closed : recently_closed_) {
    if (closed == id) return violate(NGHTTP2_STREAM_CLOSED, "frame after the end of its stream");
    if (closed == (id | kResetByPeer)) {
      nghttp2_submit_rst_stream(ng_, NGHTTP2_FLAG_NONE, head.stream_id, NGHTTP2_STREAM_CLOSED);
      return charge(FloodGuard::kUnknown);
    }
  }
  if (id >= reset_low_ && id <= reset_high_) return 0;
  return head.type == NGHTTP2_HEADERS ? violate(NGHTTP2_PROTOCOL_ERROR, "stream id that is not larger than the last")
                                      : violate(NGHTTP2_STREAM_CLOSED, "DATA of a closed stream");
}

}  // namespace sluice::http
