#pragma once
// What the server and the client side of an HTTP/2 connection share: the nghttp2 session, the
// socket, flow control, the output queue, limits and the end of the connection.
//
// Input: bytes are read into one borrowed block and given to nghttp2; body bytes are handed on as
// slices of that block. Output: send_*() only leaves work for nghttp2. Frames are made and written
// once per loop turn (Loop::run_soon), so that what became ready on all streams of the connection
// in one turn leaves in one system call. Body slices are queued as they are; frame heads and small
// bodies are gathered in one borrowed block.
//
// Flow control: the stream window is given back as the handler takes the bytes, so pause() closes
// it. The connection window is given back on receipt, until max_held_bytes wait for paused streams.
//
// nghttp2 may not be re-entered from its callbacks with mem_recv or mem_send. Handlers are called
// from receive callbacks directly (their send_*() only submit), and in all other cases from
// settle(), outside of nghttp2.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/slice_queue.h"
#include "event/loop.h"
#include "http/http2_flood.h"
#include "http/http2_headers.h"
#include "http/http2_stream.h"
#include "net/stream.h"

namespace sluice::http {

struct Http2FrameBuffer;

class Http2Session : public event::IoHandler {
 public:
  Http2Session(const Http2Session&) = delete;
  Http2Session& operator=(const Http2Session&) = delete;

  size_t active_streams() const { return active_; }
  uint64_t total_streams() const { return total_; }
  bool is_open() const { return state_ == State::kOpen; }

 protected:
  friend class Http2Stream;
  friend struct Http2Callbacks;

  enum class Side : uint8_t { kServer, kClient };

  Http2Session(event::Loop& loop, net::Stream stream, const Http2Settings& settings, Side side);
  ~Http2Session();

  // Registers (or takes over) the descriptor, sends the preface and reads `received` and what has
  // arrived. False: failed, nothing was called.
  bool start_session(std::string_view received, bool already_registered);

  // --- for the sides
  virtual Http2Stream* accept_stream() = 0;  // server: a HEADERS frame opens a stream
  virtual void on_peer_settings() {}
  virtual void on_goaway() {}
  virtual void on_ping_ack() {}
  virtual void on_stream_released() {}  // a stream object went away; room for another
  virtual void on_session_closed() = 0;

  // --- graceful and other ends
  // GOAWAY that announces the end, and the final one when the peer has seen it. Streams under way
  // finish.
  void begin_drain();
  // Final GOAWAY at once.
  void send_final_goaway();
  bool draining() const { return drain_ != Drain::kNone; }
  // GOAWAY with an error; all streams are told.
  void end_session(uint32_t http2_error, StreamError error, std::string_view detail);
  // The socket is closed now; all streams are told.
  void close_session(StreamError error, std::string_view detail);

  void schedule_write() {
    if (state_ != State::kClosed) loop_.run_soon(turn_task_);
  }
  // Has the stream settled (its handler told, itself released) after the current callback.
  void mark(Http2Stream& stream);
  void attach(Http2Stream& stream);
  bool settings_received() const { return settings_received_; }

  event::Loop& loop_;
  net::Stream stream_;
  const Http2Settings& settings_;
  nghttp2_session* ng_ = nullptr;
  uint64_t last_read_ms_ = 0;

 private:
  enum class State : uint8_t { kOpen, kClosing, kClosed };
  enum class Drain : uint8_t { kNone, kNoticed, kWhenIdle, kFinal };
  enum class Wait : uint8_t { kNone, kPreface, kIdle, kDrain, kLinger };

  // Reads and writes later in the turn.
  struct TurnTask final : event::Task {
    explicit TurnTask(Http2Session* session) : session(session) {}
    void run_task() override { session->run_turn(); }
    Http2Session* session;
  };
  // Tells handlers what happened, after the current callback.
  struct SettleTask final : event::Task {
    explicit SettleTask(Http2Session* session) : session(session) {}
    void run_task() override { session->settle(); }
    Http2Session* session;
  };

  void on_io(uint32_t events) override;
  void run_turn();
  void read_input();
  bool feed(const char* data, size_t size);
  bool give(const char* from, const char* to);
  void write_output();
  bool make_frames();
  void append_output(const char* data, size_t size);
  void settle();
  void release(Http2Stream& stream);
  void maybe_finish();
  void begin_closing(StreamError error, std::string_view detail);
  void finish_close();
  void tell_all(StreamError error, std::string_view detail);
  void arm(Wait wait, uint64_t delay_ms);
  void on_timer();
  void on_header_timer();
  // Has the pace judged at that time, of what the peer sends or takes: see Http2Stream::Pace.
  void judge_pace_at(uint64_t deadline_ms);
  void on_pace_timer();
  bool judge_socket(uint64_t now_ms);
  bool judge_writing(Http2Stream& stream, uint64_t now_ms);
  void watch_socket();
  void on_streams_gone();

  bool make_nghttp2_session();
  int submit_settings();

  // Counts; on a flood remembers the violation and returns NGHTTP2_ERR_CALLBACK_FAILURE, for
  // callbacks to return.
  int charge(FloodGuard::Kind kind);
  int violate(uint32_t http2_error, const char* text);
  StreamError violation_error() const {
    return violation_ == NGHTTP2_ENHANCE_YOUR_CALM ? StreamError::kOverload : StreamError::kProtocol;
  }
  void flush_stash(bool end);
  bool asks_for_stream_state(const nghttp2_frame_hd& head) const;
  int on_frame_header(const nghttp2_frame_hd& head);
  int on_frame_of_closed_stream(const nghttp2_frame_hd& head);
  void return_connection_window(size_t bytes);
  void hold(size_t bytes) { held_ += bytes; }
  void unhold(size_t bytes);

  // nghttp2's callbacks
  int on_begin_headers(const nghttp2_frame& frame);
  int refuse_stream(int32_t stream_id);
  void note_reset_of_ours(int32_t stream_id);
  int on_header(const nghttp2_frame& frame, std::string_view name, std::string_view value);
  int on_frame(const nghttp2_frame& frame);
  int on_data_chunk(uint8_t flags, int32_t stream_id, const char* data, size_t size);
  int on_frame_sent(const nghttp2_frame& frame);
  void on_frame_not_sent(const nghttp2_frame& frame);
  void on_stream_close(int32_t stream_id, uint32_t error);
  int send_data_frame(Http2Stream& stream, const uint8_t* frame_head, size_t length);
  Http2Stream* find(int32_t stream_id) const {
    return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(ng_, stream_id));
  }

  std::shared_ptr<Http2FrameBuffer> frame_buffer_;
  TurnTask turn_task_{this};
  SettleTask settle_task_{this};
  event::MemberTimer<Http2Session, &Http2Session::on_timer> timer_{this};
  event::MemberTimer<Http2Session, &Http2Session::on_header_timer> header_timer_{this};
  event::MemberTimer<Http2Session, &Http2Session::on_pace_timer> pace_timer_{this};
  FloodGuard flood_;

  // Where the input is in the sequence of frames.
  char frame_head_[9];
  uint8_t frame_head_used_ = 0;
  uint32_t frame_left_;

  BlockRef input_;
  uint32_t input_used_ = 0;
  bool large_reads_ = false;  // the last read filled its block
  SliceQueue out_;
  BlockRef tail_;
  uint32_t tail_used_ = 0;

  Http2Stream* streams_ = nullptr;  // all stream objects
  Http2Stream* settle_head_ = nullptr;
  Http2Stream* settle_tail_ = nullptr;
  uint32_t active_ = 0;
  uint64_t total_ = 0;
  uint32_t max_streams_ = 0;    // server: as advertised
  uint32_t open_requests_ = 0;  // server: streams that are open for nghttp2

  // The last chunk of a DATA frame that ends its stream, until the frame is known to be complete.
  Slice stash_;
  Http2Stream* stash_stream_ = nullptr;

  uint64_t data_sent_ = 0;        // DATA bytes of all streams
  uint64_t written_ = 0;          // bytes that the socket took
  Http2Stream::Pace socket_;      // while output waits for the socket
  bool window_withheld_ = false;  // since the pace was judged last

  size_t held_ = 0;      // body bytes that wait for paused streams
  size_t withheld_ = 0;  // connection window not given back because of them

  // Server: which closed streams the peer knows to be closed, and which it may not know of.
  static constexpr uint32_t kResetByPeer = 0x8000'0000;
  int32_t last_stream_id_ = 0;
  uint32_t recently_closed_[8] = {};
  uint32_t recently_closed_next_ = 0;
  uint32_t reset_low_ = 0xffff'ffff;  // streams we have reset are between these
  uint32_t reset_high_ = 0;

  uint32_t violation_ = 0;
  const char* violation_text_ = nullptr;
  StreamError close_error_ = StreamError::kNone;  // a close asked for inside of nghttp2
  std::string close_detail_;

  State state_ = State::kOpen;
  Drain drain_ = Drain::kNone;
  Wait wait_ = Wait::kNone;
  bool is_server_;
  bool in_nghttp2_ = false;
  bool in_settle_ = false;
  bool in_header_frame_ = false;    // the last frame header was of HEADERS or CONTINUATION
  bool header_block_ends_ = false;  // with END_HEADERS
  bool settings_received_ = false;
  bool read_more_ = false;
  bool write_shut_ = false;
  bool close_pending_ = false;
  bool notified_closed_ = false;
};

}  // namespace sluice::http
