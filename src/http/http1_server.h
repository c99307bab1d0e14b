#pragma once
// The server side of an HTTP/1.0 or 1.1 connection (RFC 9112): parses requests, hands them to ServerCallbacks one at a
// time, and writes the responses.
//
// An idle connection holds no block: the input block is borrowed when bytes arrive and given back when they are
// consumed. Requests that are pipelined stay in the input block (or the kernel) until the one before has been answered.

#include "event/loop.h"
#include "http/http1_input.h"
#include "http/http1_parser.h"
#include "http/server_connection.h"
#include "http/stream.h"
#include "net/stream.h"

namespace sluice::http {

// Limits of a server connection; shared by all connections of a listener, outlives them.
struct Http1Settings {
  uint32_t max_head_bytes = 60 * 1024;
  uint32_t max_fields = 100;
  uint64_t head_timeout_ms = 15'000;     // from the first byte of a head to its end: 408
  uint64_t idle_timeout_ms = 180'000;    // between requests; 0: none
  uint64_t write_timeout_ms = 60'000;    // output that does not move at all
  uint64_t linger_timeout_ms = 5'000;    // reading on after the last response, so that the client gets it
  uint64_t half_close_grace_ms = 5'000;  // how long an exchange goes on after the client ended its direction
  uint64_t drain_grace_ms = 1'000;       // drain(): how long an idle connection may still bring a request, which is
                                         // then its last; closing at once would cross with the client's next request
  uint32_t min_body_rate = 64;  // bytes per second of a request body, averaged over body_rate_window_ms; 0: off
  uint64_t body_rate_window_ms = 30'000;
  size_t max_discard_bytes = 256 * 1024;  // rest of an unwanted request body that is read to keep the connection
};

class Http1ServerConnection final : public ServerConnection,
                                    public event::IoHandler,
                                    public ServerStream,
                                    private event::Task {
 public:
  // Sees the first bytes of the connection. If they are an HTTP/2 preface the connection gives its stream away.
  class Upgrader {
   public:
    // Takes over a connection that speaks HTTP/2 by prior knowledge; `received` starts with the preface.
    virtual void on_http2_preface(Http1ServerConnection& connection, net::Stream stream, ConnectionInfo info,
                                  Slice received) = 0;

   protected:
    ~Upgrader() = default;
  };

  // `settings`, `callbacks`, `owner` and `upgrader` (may be null) outlive the connection.
  Http1ServerConnection(event::Loop& loop, net::Stream stream, ConnectionInfo info, const Http1Settings& settings,
                        ServerCallbacks& callbacks, Owner& owner, Upgrader* upgrader);
  ~Http1ServerConnection() override;

  // Registers with the loop (or takes the descriptor over from another handler of it) and reads what has arrived.
  // `received`: bytes read before. May call handlers. False: could not register; the owner has not been told.
  bool start(Slice received, bool already_registered = false);

  // ServerConnection
  void drain() override;
  void close_now() override;
  bool is_tls() const override { return info_.tls; }

  // ServerStream
  const ConnectionInfo& connection() const override { return info_; }
  void send_informational(const ResponseHead& head) override;
  void send_head(const ResponseHead& head, bool end) override;
  void send_data(Slice data, bool end) override;
  void send_trailers(const HeaderMap& trailers) override;
  size_t buffered() const override { return out_.bytes(); }
  void pause() override;
  void resume() override;
  void reset(StreamError error) override;
  void detach() override;
  void close_after_response() override { keep_alive_ = false; }
  int refused_status() const override { return refused_status_; }
  void compact() override;

 private:
  enum class Input : uint8_t { kHead, kBody, kTrailers, kDone, kTunnel, kDiscard, kClosed };
  enum class Wait : uint8_t { kNone, kIdle, kHead, kBody, kLinger, kHalfClosed, kWrite };

  void on_io(uint32_t events) override;
  void run_task() override { flush(); }
  void on_timer();

  bool busy() const { return handler_ != nullptr; }
  void process_input();
  bool input_waits() const;
  bool take_input();
  size_t fill_input();
  void parse_head();
  void consume_body();
  void deliver(Slice data, bool end);
  void begin_next_request();
  void expect_next_request();
  void finish_request() {
    input_ = Input::kDone;
    if (wait_ == Wait::kBody) wait_ = Wait::kNone;
  }
  void on_peer_end();
  void refuse(int status, std::string_view why);
  void flush();
  void end_exchange();
  void begin_linger();
  void fail(StreamError error, std::string_view detail);
  void shut();
  void expect(Wait wait, uint64_t delay_ms);
  uint64_t discardable() const;
  // Nothing waits any more, neither here nor encrypted in the TLS session.
  bool all_sent() const { return out_.empty() && !stream_.has_pending_output(); }
  // Both sides have ended a tunnel in order: whatever becomes of the socket, the handler detaches when it has passed on
  // what it got.
  bool tunnel_complete() const { return tunnel_ && input_ == Input::kDone && response_done_ && all_sent(); }

  // What each piece of a body needs comes first: under many slow streams all of it is cold.
  event::Loop& loop_;
  net::Stream stream_;
  Input input_ = Input::kHead;
  Framing::Body body_ = Framing::Body::kNone;
  Wait wait_ = Wait::kNone;
  bool keep_alive_ = true;
  bool paused_ = false;
  bool was_paused_ = false;  // in the current body-rate window
  bool head_sent_ = false;
  bool response_done_ = false;
  bool chunked_out_ = false;
  bool no_body_out_ = false;  // HEAD and statuses without a body: data is dropped
  bool was_above_low_ = false;
  bool tunnel_ = false;
  bool first_bytes_ = true;
  bool in_process_ = false;
  bool closed_ = false;
  bool draining_ = false;
  bool fin_after_flush_ = false;
  bool continue_sent_ = false;
  uint16_t refused_status_ = 0;
  StreamHandler* handler_ = nullptr;
  SliceQueue out_;
  Http1Input in_;

  const Http1Settings& settings_;
  ServerCallbacks& callbacks_;
  Owner& owner_;
  Upgrader* upgrader_;
  ConnectionInfo info_;
  event::MemberTimer<Http1ServerConnection, &Http1ServerConnection::on_timer> timer_{this};
  uint64_t wait_deadline_ms_ = 0;

  HeadScanner scanner_;
  ChunkedDecoder chunks_;
  uint64_t body_remaining_ = 0;  // Framing::kLength
  uint64_t body_received_ = 0;   // since the body-rate window began
  uint64_t discarded_ = 0;

  Arena arena_;
  RequestHead head_;
};

}  // namespace sluice::http
