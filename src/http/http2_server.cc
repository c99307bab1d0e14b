#include "http/http2_server.h"

#include <utility>

namespace sluice::http {

class Http2ServerConnection::Request final : public Http2Stream, public ServerStream {
 public:
  Request(Http2ServerConnection& connection, const Http2Settings& settings)
      : Http2Stream(connection, settings), connection_(connection) {
    head_.headers = HeaderMap(&arena_);
  }

  // ServerStream
  const ConnectionInfo& connection() const override { return connection_.info_; }

  void send_informational(const ResponseHead& head) override {
    if (head_sent_ || abandoned_ || !open_in_nghttp2()) return;
    const Http2FieldList list = Http2FieldList::response(head, false);
    nghttp2_submit_headers(connection_.ng_, NGHTTP2_FLAG_NONE, id_, nullptr, list.data(), list.size(), nullptr);
    connection_.schedule_write();
  }

  void send_head(const ResponseHead& head, bool end) override {
    if (head_sent_ || abandoned_ || !open_in_nghttp2()) return;
    head_sent_ = true;
    no_body_ = is_head_ || head.status == 204 || head.status == 304;
    if (end) out_end_ = true;
    const Http2FieldList list = Http2FieldList::response(head, tunnel_);
    const nghttp2_data_provider body = body_source();
    nghttp2_submit_response(connection_.ng_, id_, list.data(), list.size(), end || no_body_ ? nullptr : &body);
    connection_.schedule_write();
  }

  void send_data(Slice data, bool end) override { queue_data(std::move(data), end); }
  void send_trailers(const HeaderMap& trailers) override { queue_trailers(trailers); }
  size_t buffered() const override { return queued_bytes(); }
  void pause() override { set_paused(true); }
  void resume() override { set_paused(false); }
  void reset(StreamError error) override { reset_stream(error); }

  void detach() override {
    if (abandoned_) return;
    if (!closed_ && !out_end_) return reset_stream(StreamError::kCancelled);
    abandoned_ = true;
    forget_handler();
    if (closed_) {
      connection_.mark(*this);
    } else if (out_end_sent_) {
      on_end_sent();
    }
  }

  void close_after_response() override { connection_.begin_drain(); }
  int refused_status() const override { return refused_status_; }

  void compact() override {
    head_ = RequestHead();
    arena_.reset();
    head_.headers = HeaderMap(&arena_);
  }

 private:
  // Http2Stream
  void on_block_begin() override {
    if (!head_complete_) return;
    reader_.reset();
    trailers_ = HeaderMap(&arena_);
  }

  HeadError on_field(std::string_view name, std::string_view value) override {
    if (!head_complete_) return reader_.add_request_field(head_, name, value);
    if (abandoned_) return HeadError::kNone;
    return reader_.add_trailer(trailers_, name, value);
  }

  void on_block_end(bool end_stream) override {
    if (head_complete_) {
      if (reader_.too_large()) {
        submit_reset(NGHTTP2_ENHANCE_YOUR_CALM);
      } else if (end_stream) {
        receive_trailers(&trailers_);
      }
      return;
    }
    head_complete_ = true;
    const HeadError error = reader_.finish_request(head_);
    tunnel_ = reader_.extended_connect();
    is_head_ = head_.method == Method::kHead;
    if (end_stream) in_end_ = in_end_told_ = true;
    if (error == HeadError::kTooLarge) return refuse(431, "request head too large");
    if (error != HeadError::kNone) {
      abandoned_ = true;
      // As a rule broken by the peer, not as a reset of ours: it counts as such.
      nghttp2_submit_rst_stream(connection_.ng_, NGHTTP2_FLAG_NONE, id_, NGHTTP2_PROTOCOL_ERROR);
      connection_.schedule_write();
      return;
    }
    if (!end_stream && !tunnel_ && !is_grpc(head_)) watch_reading();
    StreamHandler* handler = connection_.callbacks_.on_request(*this, head_, end_stream);
    if (abandoned_) return;
    if (!handler) return detach();
    handler_ = handler;
  }

  void answer(int status) {
    ResponseHead head;
    head.status = status;
    head.content_length = 0;
    send_head(head, true);
    abandoned_ = true;
  }

  void refuse(int status, std::string_view why) {
    answer(status);
    connection_.callbacks_.on_refused(connection_.info_, status, why);
  }

  // A client that waits for 100 owes nothing.
  bool owes_body() const override { return !head_.expect_continue; }

  void on_body_too_slow() override {
    StreamHandler* handler = handler_;
    forget_handler();
    refused_status_ = 408;
    handler->on_reset(StreamError::kTimeout, "request body too slow");
    answer(refused_status_);
  }

  // Nobody wants the rest of the request (RFC 9113 §8.1: NO_ERROR after a complete response).
  void on_end_sent() override {
    if (abandoned_ && !in_end_) submit_reset(NGHTTP2_NO_ERROR);
  }

  uint32_t reset_code(StreamError error) const override {
    switch (error) {
      case StreamError::kNoError:
        return NGHTTP2_NO_ERROR;
      case StreamError::kRefused:
        return NGHTTP2_REFUSED_STREAM;
      case StreamError::kProtocol:
        return NGHTTP2_PROTOCOL_ERROR;
      case StreamError::kOverload:
        return NGHTTP2_ENHANCE_YOUR_CALM;
      case StreamError::kCancelled:
      case StreamError::kReset:
        return NGHTTP2_CANCEL;
      default:
        return NGHTTP2_INTERNAL_ERROR;
    }
  }

  Http2ServerConnection& connection_;
  Arena arena_;
  RequestHead head_;
  HeaderMap trailers_;
  bool head_complete_ = false;
  bool tunnel_ = false;  // extended CONNECT
  bool is_head_ = false;
  int refused_status_ = 0;
};

Http2ServerConnection::Http2ServerConnection(event::Loop& loop, net::Stream stream, ConnectionInfo info,
                                             const Http2Settings& settings, ServerCallbacks& callbacks, Owner& owner)
    : Http2Session(loop, std::move(stream), settings, Side::kServer),
      info_(std::move(info)),
      callbacks_(callbacks),
      owner_(owner) {}

bool Http2ServerConnection::start(Slice received, bool already_registered) {
  return start_session(received.view(), already_registered);
}

void Http2ServerConnection::close_now() { close_session(StreamError::kConnectionClosed, "gateway is shutting down"); }

Http2Stream* Http2ServerConnection::accept_stream() { return new Request(*this, settings_); }

void Http2ServerConnection::on_session_closed() {
  owner_.on_closed(*this);
  loop_.destroy_later(this);
}

}  // namespace sluice::http
