#pragma once
// The client side of an HTTP/1.1 connection (RFC 9112): one stream at a time over a connected net::Stream. An idle
// connection holds no block and closes itself when the server does.

#include "event/loop.h"
#include "http/http1_input.h"
#include "http/http1_parser.h"
#include "http/stream.h"
#include "net/stream.h"

namespace sluice::http {

struct Http1ClientSettings {
  uint32_t max_head_bytes = 60 * 1024;
  uint32_t max_fields = 200;
};

class Http1ClientConnection final : public ClientConnection,
                                    public event::Destroyable,
                                    public event::IoHandler,
                                    public ClientStream,
                                    private event::Task {
 public:
  Http1ClientConnection(event::Loop& loop, net::Stream stream, const Http1ClientSettings& settings, Observer& observer);
  ~Http1ClientConnection() override;

  // Takes over the events of the (registered) descriptor. False: failed; the observer has not been told.
  bool start();
  // Closes an idle connection.
  void close_idle();

  // ClientConnection
  ClientStream* open(ClientHandler& handler) override;
  bool can_open() const override { return !closed_ && !handler_ && reusable_; }
  size_t active_streams() const override { return handler_ ? 1 : 0; }
  uint64_t total_streams() const override { return streams_; }
  void drain() override;
  // True if the server has closed or sent something unasked-for, which only a look at the socket can tell in time. One
  // system call; for requests that must not be sent twice.
  bool is_stale();

  // ClientStream
  void send_head(const RequestHead& head, bool end) override;
  void send_data(Slice data, bool end) override;
  void send_trailers(const HeaderMap& trailers) override;
  size_t buffered() const override { return out_.bytes(); }
  void pause() override { paused_ = true; }
  void resume() override;
  void reset(StreamError error) override;
  void detach() override;
  bool certainly_unprocessed() const override { return unprocessed_; }
  bool on_reused_connection() const override { return streams_ > 1; }
  const net::Address& local_address() const override;

 private:
  enum class Input : uint8_t { kIdle, kHead, kBody, kTrailers, kDone };

  void on_io(uint32_t events) override;
  void run_task() override { flush(); }
  void flush();
  void process_input();
  bool input_waits() const;
  bool take_input();
  size_t fill_input();
  void parse_head();
  void consume_body();
  void deliver(Slice data, bool end);
  void on_peer_end();
  void fail(StreamError error, std::string_view detail);
  void close_quietly();
  bool nothing_acknowledged() const;

  // What each piece of a body needs comes first, in three cache lines: under many slow streams all of it is cold.
  event::Loop& loop_;
  net::Stream stream_;
  ClientHandler* handler_ = nullptr;
  Input input_ = Input::kIdle;
  Framing::Body body_ = Framing::Body::kNone;
  Method method_ = Method::kGet;
  bool upgrade_requested_ = false;
  bool last_request_ = false;  // the connection is not kept, whatever the server says
  bool tunnel_ = false;
  bool keep_alive_ = true;
  bool reusable_ = true;
  bool request_done_ = false;
  bool chunked_out_ = false;
  bool paused_ = false;
  bool was_above_low_ = false;
  bool received_any_ = false;  // of the current response
  bool unprocessed_ = false;
  bool ended_in_order_ = false;  // the server sent FIN
  bool fin_after_flush_ = false;
  bool in_process_ = false;
  bool closed_ = false;
  Http1Input in_;
  ChunkedDecoder chunks_;
  SliceQueue out_;
  uint64_t body_remaining_ = 0;

  const Http1ClientSettings& settings_;
  Observer& observer_;
  mutable net::Address local_;
  HeadScanner scanner_;
  uint64_t bytes_written_ = 0;  // on this connection
  uint64_t bytes_before_request_ = 0;
  uint64_t request_written_ns_ = 0;  // when the first byte of the request was written
  uint64_t streams_ = 0;
  uint32_t informational_ = 0;  // 1xx heads before the current response
};

}  // namespace sluice::http
