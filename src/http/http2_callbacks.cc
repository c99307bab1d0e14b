#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <new>

#include "http/http2_session.h"

// nghttp2's side of Http2Session: how a session is made, and what its callbacks do.

namespace sluice::http {

// nghttp2 keeps a buffer of 16 KiB a session in which it makes one frame at a time. Since frames
// are copied out before any other session of the thread makes one (make_frames() runs to the end,
// and no callback enters another session), all sessions of a thread share one buffer: it is lent in
// place of the first large allocation of a new session.
struct Http2FrameBuffer {
  static constexpr size_t kSize = 16384 + 512;
  alignas(16) char bytes[kSize];
  bool lend = false;

  static const std::shared_ptr<Http2FrameBuffer>& of_this_thread() {
    thread_local std::shared_ptr<Http2FrameBuffer> buffer = std::make_shared<Http2FrameBuffer>();
    return buffer;
  }

  static void* allocate(size_t size, void* user) {
    auto* self = static_cast<Http2FrameBuffer*>(user);
    if (self->lend && size >= 16384 && size <= kSize) {
      self->lend = false;
      return self->bytes;
    }
    return std::malloc(size);
  }
  static void release(void* memory, void* user) {
    if (memory != static_cast<Http2FrameBuffer*>(user)->bytes) std::free(memory);
  }
  static void* allocate_zeroed(size_t count, size_t size, void*) { return std::calloc(count, size); }
  static void* reallocate(void* memory, size_t size, void* user) {
    if (!memory) return allocate(size, user);
    auto* self = static_cast<Http2FrameBuffer*>(user);
    if (memory != self->bytes) return std::realloc(memory, size);
    void* moved = std::malloc(size);
    if (moved) std::memcpy(moved, self->bytes, size < kSize ? size : kSize);
    return moved;
  }
};

namespace {

// Heads we send are bounded by whoever received them first; this only stops what is absurd.
constexpr size_t kMaxSentHeaderBlock = 1 << 20;
constexpr int32_t kReservedSetting = 0x0a0a;  // means nothing (RFC 8701's pattern)

std::string_view view(nghttp2_rcbuf* buffer) {
  const nghttp2_vec bytes = nghttp2_rcbuf_get_buf(buffer);
  return {reinterpret_cast<const char*>(bytes.base), bytes.len};
}

}  // namespace

struct Http2Callbacks {
  static Http2Session& self(void* user) { return *static_cast<Http2Session*>(user); }

  static const nghttp2_session_callbacks* table() {
    static const nghttp2_session_callbacks* const callbacks = make_table();
    return callbacks;
  }

  static nghttp2_session_callbacks* make_table() {
    nghttp2_session_callbacks* callbacks = nullptr;
    if (nghttp2_session_callbacks_new(&callbacks) != 0) throw std::bad_alloc();
    nghttp2_session_callbacks_set_on_begin_headers_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, void* user) { return self(user).on_begin_headers(*frame); });
    nghttp2_session_callbacks_set_on_header_callback2(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, nghttp2_rcbuf* name, nghttp2_rcbuf* value, uint8_t,
                      void* user) { return self(user).on_header(*frame, view(name), view(value)); });
    // Without this nghttp2 drops fields with forbidden bytes; RFC 9113 §8.2.1 has them malformed.
    nghttp2_session_callbacks_set_on_invalid_header_callback2(
        callbacks, [](nghttp2_session*, const nghttp2_frame*, nghttp2_rcbuf*, nghttp2_rcbuf*, uint8_t, void*) -> int {
          return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, void* user) { return self(user).on_frame(*frame); });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks,
        [](nghttp2_session*, uint8_t flags, int32_t stream_id, const uint8_t* data, size_t size, void* user) {
          return self(user).on_data_chunk(flags, stream_id, reinterpret_cast<const char*>(data), size);
        });
    nghttp2_session_callbacks_set_on_frame_send_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, void* user) { return self(user).on_frame_sent(*frame); });
    nghttp2_session_callbacks_set_on_frame_not_send_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, int, void* user) {
          self(user).on_frame_not_sent(*frame);
          return 0;
        });
    nghttp2_session_callbacks_set_send_data_callback(
        callbacks,
        [](nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t length, nghttp2_data_source* source,
           void* user) { return self(user).send_data_frame(*static_cast<Http2Stream*>(source->ptr), head, length); });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, int32_t stream_id, uint32_t error, void* user) {
          self(user).on_stream_close(stream_id, error);
          return 0;
        });
    return callbacks;
  }
};

bool Http2Session::make_nghttp2_session() {
  frame_buffer_ = Http2FrameBuffer::of_this_thread();
  nghttp2_option* option = nullptr;
  if (nghttp2_option_new(&option) != 0) throw std::bad_alloc();
  nghttp2_option_set_no_auto_window_update(option, 1);
  nghttp2_option_set_no_closed_streams(option, 1);
  nghttp2_option_set_max_deflate_dynamic_table_size(option, settings_.encoder_table_bytes);
  nghttp2_option_set_max_send_header_block_length(option, kMaxSentHeaderBlock);
  nghttp2_option_set_max_outbound_ack(option, settings_.max_queued_frames);
  nghttp2_option_set_max_continuations(option, settings_.max_continuations);
  // FloodGuard counts resets, with a budget that follows the use of the connection.
  nghttp2_option_set_stream_reset_rate_limit(option, 1u << 30, 1u << 30);
  // Priorities are RFC 9218's; clients that don't know them may still send RFC 7540's.
  nghttp2_option_set_server_fallback_rfc7540_priorities(option, 1);
  nghttp2_option_set_peer_max_concurrent_streams(option, settings_.max_concurrent_streams);

  nghttp2_mem memory{frame_buffer_.get(), Http2FrameBuffer::allocate, Http2FrameBuffer::release,
                     Http2FrameBuffer::allocate_zeroed, Http2FrameBuffer::reallocate};
  frame_buffer_->lend = true;
  const int result = is_server_ ? nghttp2_session_server_new3(&ng_, Http2Callbacks::table(), this, option, &memory)
                                : nghttp2_session_client_new3(&ng_, Http2Callbacks::table(), this, option, &memory);
  frame_buffer_->lend = false;
  nghttp2_option_del(option);
  if (result != 0) throw std::bad_alloc();

  if (submit_settings() != 0) return false;
  // The client's preface is made in the shared buffer at once.
  if (!make_frames()) return false;
  if (is_server_) {
    // See submit_settings(): the first entry of the first frame.
    tail_->data()[9] = 0;
    tail_->data()[10] = NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS;
  }
  return true;
}

int Http2Session::submit_settings() {
  nghttp2_settings_entry entries[8];
  size_t n = 0;
  const auto add = [&](int32_t id, uint32_t value) { entries[n++] = {id, value}; };
  if (is_server_) {
    // nghttp2 would end the connection over a stream too many, where RFC 9113 §5.1.2 has a stream error. So the entry
    // has an id that says nothing to nghttp2 until the frame is made, and on_begin_headers() keeps to the limit.
    max_streams_ = settings_.max_concurrent_streams;
    add(kReservedSetting, max_streams_);
    if (settings_.extended_connect) add(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1);
    add(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1);
  } else {
    add(NGHTTP2_SETTINGS_ENABLE_PUSH, 0);
  }
  add(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, settings_.stream_window);
  add(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, settings_.max_header_list_bytes);
  if (settings_.header_table_bytes != 4096) add(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, settings_.header_table_bytes);
  if (const int result = nghttp2_submit_settings(ng_, NGHTTP2_FLAG_NONE, entries, n); result != 0) return result;
  return nghttp2_session_set_local_window_size(ng_, NGHTTP2_FLAG_NONE, 0,
                                               static_cast<int32_t>(settings_.connection_window));
}

int Http2Session::on_begin_headers(const nghttp2_frame& frame) {
  if (frame.hd.type != NGHTTP2_HEADERS) return 0;
  Http2Stream* stream;
  if (frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
    if (open_requests_ >= max_streams_) return refuse_stream(frame.hd.stream_id);
    ++open_requests_;
    stream = accept_stream();
    stream->id_ = frame.hd.stream_id;
    attach(*stream);
    nghttp2_session_set_stream_user_data(ng_, frame.hd.stream_id, stream);
    if (static_cast<uint32_t>(frame.hd.stream_id) >= settings_.last_stream_id) begin_drain();
  } else {
    stream = find(frame.hd.stream_id);
  }
  if (stream) stream->on_block_begin();
  return 0;
}

// Counts as a reset for FloodGuard: on_frame_sent().
int Http2Session::refuse_stream(int32_t stream_id) {
  nghttp2_submit_rst_stream(ng_, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_REFUSED_STREAM);
  note_reset_of_ours(stream_id);  // the peer's frames may cross it
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

void Http2Session::note_reset_of_ours(int32_t stream_id) {
  reset_low_ = std::min(reset_low_, static_cast<uint32_t>(stream_id));
  reset_high_ = std::max(reset_high_, static_cast<uint32_t>(stream_id));
}

int Http2Session::on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value) {
  Http2Stream* stream = find(frame.hd.stream_id);
  if (!stream) return 0;
  switch (stream->on_field(name, value)) {
    case HeadError::kNone:
    case HeadError::kTooLarge:
      return 0;
    case HeadError::kHostile:
      return violate(NGHTTP2_ENHANCE_YOUR_CALM, "header list too large");
    case HeadError::kMalformed:
      break;
  }
  stream->malformed_ = true;
  nghttp2_submit_rst_stream(ng_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_PROTOCOL_ERROR);
  return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

int Http2Session::on_frame(const nghttp2_frame& frame) {
  const bool end = (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS: {
      flood_.note_useful();
      if (Http2Stream* stream = find(frame.hd.stream_id)) stream->on_block_end(end);
      return 0;
    }
    case NGHTTP2_DATA: {
      if (frame.hd.length > frame.data.padlen) {
        flood_.note_useful();
      } else if (frame.hd.length > 0 && !end) {
        if (const int result = charge(FloodGuard::kEmpty); result != 0) return result;
      }
      if (!end) return 0;
      Http2Stream* stream = find(frame.hd.stream_id);
      if (stream && stash_stream_ == stream) {
        flush_stash(true);
      } else if (stream) {
        stream->receive(Slice(), true);
      }
      return 0;
    }
    case NGHTTP2_SETTINGS:
      if (frame.hd.flags & NGHTTP2_FLAG_ACK) return 0;
      if (!settings_received_) {
        settings_received_ = true;
        if (wait_ == Wait::kPreface) {
          arm(Wait::kNone, 0);
          if (active_ == 0) on_streams_gone();
        }
      }
      on_peer_settings();
      return 0;
    case NGHTTP2_PING:
      if (!(frame.hd.flags & NGHTTP2_FLAG_ACK)) return 0;
      on_ping_ack();
      if (drain_ == Drain::kNoticed) send_final_goaway();
      return 0;
    case NGHTTP2_GOAWAY:
      on_goaway();
      return 0;
    case NGHTTP2_RST_STREAM:
      if (Http2Stream* stream = find(frame.hd.stream_id)) {
        stream->reset_by_peer_ = true;
        if (is_server_ && !stream->out_end_sent_) return charge(FloodGuard::kReset);
      }
      return 0;
    default:
      return 0;
  }
}

int Http2Session::on_data_chunk(uint8_t flags, int32_t stream_id, const char* data, size_t size) {
  return_connection_window(size);
  Http2Stream* stream = find(stream_id);
  if (!stream || !stream->handler_) return 0;
  if (stash_stream_) flush_stash(false);
  Slice slice = input_ ? Slice(input_, data, size) : Slice::copy({data, size});
  if (flags & NGHTTP2_FLAG_END_STREAM) {
    stash_ = std::move(slice);
    stash_stream_ = stream;
  } else {
    stream->receive(std::move(slice), false);
  }
  return 0;
}

int Http2Session::on_frame_sent(const nghttp2_frame& frame) {
  switch (frame.hd.type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA: {
      flood_.note_useful();
      Http2Stream* stream = find(frame.hd.stream_id);
      if (!stream) return 0;
      stream->head_left_ = true;
      if (!(frame.hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
      stream->out_end_sent_ = true;
      stream->drained_pending_ = true;
      stream->above_low_ = false;
      mark(*stream);
      stream->on_end_sent();
      return 0;
    }
    case NGHTTP2_GOAWAY:
      // Its answer says that the peer has seen the notice. (nghttp2 would send a PING submitted
      // with it first.)
      if (drain_ == Drain::kNoticed) nghttp2_submit_ping(ng_, NGHTTP2_FLAG_NONE, nullptr);
      return 0;
    case NGHTTP2_RST_STREAM: {
      // A reset that nghttp2 thought of: the peer broke a rule on that stream.
      Http2Stream* stream = find(frame.hd.stream_id);
      if (!stream || !stream->in_end_) note_reset_of_ours(frame.hd.stream_id);
      return is_server_ && !(stream && stream->reset_sent_) ? charge(FloodGuard::kReset) : 0;
    }
    default:
      return 0;
  }
}

// A head that cannot be sent (too large) must not leave its stream waiting for ever. A request's
// stream nghttp2 closes.
void Http2Session::on_frame_not_sent(const nghttp2_frame& frame) {
  if (frame.hd.type != NGHTTP2_HEADERS || frame.headers.cat == NGHTTP2_HCAT_REQUEST) return;
  nghttp2_submit_rst_stream(ng_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_INTERNAL_ERROR);
}

void Http2Session::on_stream_close(int32_t stream_id, uint32_t error) {
  Http2Stream* stream = find(stream_id);
  if (!stream) return;
  if (is_server_) --open_requests_;
  stream->closed_ = true;
  if (stash_stream_ == stream) flush_stash(false);
  if (is_server_ && (stream->in_end_ || stream->reset_by_peer_)) {
    recently_closed_[recently_closed_next_++ % std::size(recently_closed_)] =
        static_cast<uint32_t>(stream_id) | (stream->in_end_ ? 0 : kResetByPeer);
  }
  if (stream->in_end_ && stream->out_end_sent_) {
    flood_.note_completed_stream();
  } else if (stream->reset_by_peer_) {
    stream->error_ = error == NGHTTP2_REFUSED_STREAM                ? StreamError::kRefused
                     : error == NGHTTP2_NO_ERROR && stream->in_end_ ? StreamError::kNoError
                                                                    : StreamError::kReset;
    stream->error_detail_ = std::string("stream reset by the peer: ") + nghttp2_http2_strerror(error);
  } else if (!is_server_ && (error == NGHTTP2_REFUSED_STREAM || !stream->head_left_)) {
    stream->error_ = StreamError::kRefused;
    stream->error_detail_ = "the server is going away";
  } else {
    stream->error_ = StreamError::kProtocol;
    stream->error_detail_ = std::string("protocol error on the stream: ") + nghttp2_http2_strerror(error);
  }
  mark(*stream);
}

}  // namespace sluice::http
