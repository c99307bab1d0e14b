#pragma once
// The part of an HTTP/2 stream that both sides share: queues, pausing, trailers, and the end. Made
// by a Http2Session, destroyed by it when nghttp2 has closed the stream and nobody handles it any
// more.

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/slice_queue.h"
#include "event/loop.h"
#include "http/http2_headers.h"
#include "http/stream.h"

namespace sluice::http {

class Http2Session;

class Http2Stream : public event::Destroyable {
 public:
  int32_t id() const { return id_; }

 protected:
  friend class Http2Session;
  friend struct Http2Callbacks;

  Http2Stream(Http2Session& session, const Http2Settings& settings) : session_(session), reader_(settings) {}

  // What must have moved by a deadline for the peer not to count as too slow.
  struct Pace {
    uint64_t deadline_ms = 0;  // 0: not watched
    uint64_t bytes = 0;        // since the watch began (of the socket: before)
    bool due(uint64_t now_ms) const { return deadline_ms && now_ms >= deadline_ms; }
  };

  // --- for the sides: header blocks as they arrive
  virtual void on_block_begin() = 0;
  virtual HeadError on_field(std::string_view name, std::string_view value) = 0;
  virtual void on_block_end(bool end_stream) = 0;
  // The nghttp2 code for a reset() of ours.
  virtual uint32_t reset_code(StreamError error) const = 0;
  // END_STREAM has been queued for the socket.
  virtual void on_end_sent() {}
  // Server: whether the client owes a body: not before its Expect: 100-continue has been answered.
  virtual bool owes_body() const { return false; }
  virtual void on_body_too_slow() {}

  // --- what ServerStream and ClientStream offer
  void queue_data(Slice data, bool end);
  void queue_trailers(const HeaderMap& trailers);
  size_t queued_bytes() const { return out_.bytes(); }
  void set_paused(bool paused);
  void reset_stream(StreamError error);

  // Body or end of the incoming message.
  void receive(Slice data, bool end);
  void receive_trailers(HeaderMap* trailers);
  // RST_STREAM.
  void submit_reset(uint32_t http2_error);
  // Watches the body that arrives, the body that waits to be sent.
  void watch_reading();
  void watch_writing();
  void judge_reading(uint64_t now_ms, bool window_withheld);
  // RST_STREAM, and on_reset(kTimeout).
  void time_out(std::string_view why);
  // The handler is told no more, what it held back is dropped.
  void forget_handler();
  // A request that nghttp2 did not get: on_reset() follows after the current callback.
  void mark_failed(StreamError error, std::string_view why);
  // Meaningful once the stream has ended with an error.
  bool unprocessed() const { return error_ == StreamError::kRefused || !head_left_; }
  nghttp2_data_provider body_source();
  bool open_in_nghttp2() const { return id_ > 0 && !closed_; }

  Http2Session& session_;
  StreamHandler* handler_ = nullptr;
  Http2HeadReader reader_;
  int32_t id_ = -1;

  bool head_sent_ = false;
  bool head_left_ = false;  // the final head has been queued for the socket
  bool no_body_ = false;    // the message we send ends with its head, whatever the handler sends
  bool out_end_ = false;    // the handler has sent the end
  bool out_end_sent_ = false;
  bool in_end_ = false;  // the peer has sent the end
  bool in_end_told_ = false;
  bool abandoned_ = false;  // reset or detached: further events are nobody's
  bool reset_sent_ = false;
  bool closed_ = false;  // nghttp2 has forgotten the stream
  bool reset_by_peer_ = false;
  bool malformed_ = false;  // its head was refused

 private:
  struct PendingTrailers {
    Arena arena;
    HeaderMap fields{&arena};
  };

  void settle();
  void deliver_held();
  void hold(Slice data);
  bool undelivered() const { return handler_ && in_end_ && !in_end_told_; }
  ssize_t read_body(size_t limit, uint32_t* flags);
  void send_pending_trailers();

  SliceQueue out_;
  SliceQueue held_;
  std::unique_ptr<PendingTrailers> trailers_out_;  // wait until the body before them has gone
  HeaderMap* trailers_in_ = nullptr;

  Http2Stream* previous_ = nullptr;
  Http2Stream* next_ = nullptr;
  Http2Stream* next_settle_ = nullptr;

  Pace reading_;
  Pace writing_;
  uint64_t data_sent_before_ = 0;  // the session's, when writing_ began

  StreamError error_ = StreamError::kNone;
  std::string error_detail_;
  bool paused_ = false;
  bool was_paused_ = false;  // since reading_ began
  bool above_low_ = false;
  bool body_deferred_ = false;  // nghttp2 waits for resume_data
  bool drained_pending_ = false;
  bool marked_ = false;
  bool released_ = false;
};

}  // namespace sluice::http
