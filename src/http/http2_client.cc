#include "http/http2_client.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace sluice::http {

class Http2ClientConnection::Exchange final : public Http2Stream, public ClientStream {
 public:
  Exchange(Http2ClientConnection& connection, const Http2Settings& settings, ClientHandler& handler, bool reused)
      : Http2Stream(connection, settings), connection_(connection), client_(&handler), reused_(reused) {
    handler_ = &handler;
  }

  // ClientStream
  void send_head(const RequestHead& head, bool end) override {
    if (head_sent_ || abandoned_ || closed_) return;
    head_sent_ = true;
    tunnel_ = !head.upgrade.empty() || head.method == Method::kConnect;
    if (!head.upgrade.empty() && connection_.settings_received() && !connection_.allows_extended_connect()) {
      return mark_failed(StreamError::kProtocol, "the server takes no extended CONNECT (RFC 8441)");
    }
    if (end && !tunnel_) out_end_ = true;  // the head of a tunnel never ends it
    const Http2FieldList list = Http2FieldList::request(head);
    const nghttp2_data_provider body = body_source();
    const int32_t id = nghttp2_submit_request(connection_.ng_, nullptr, list.data(), list.size(),
                                              end && !tunnel_ ? nullptr : &body, static_cast<Http2Stream*>(this));
    if (id < 0) return mark_failed(StreamError::kRefused, "no stream id left");  // they are used up
    id_ = id;
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
    const bool complete = in_end_ && out_end_sent_;  // nghttp2 closes it, if it has not yet
    if (!closed_ && !complete) return reset_stream(in_end_ ? StreamError::kNoError : StreamError::kCancelled);
    abandoned_ = true;
    forget_handler();
    if (closed_) connection_.mark(*this);
  }

  bool certainly_unprocessed() const override { return unprocessed(); }
  bool on_reused_connection() const override { return reused_; }
  const net::Address& local_address() const override { return connection_.local_; }

 private:
  // Http2Stream
  void on_block_begin() override {
    reader_.reset();
    if (!handler_) return;
    if (final_) {
      trailers_ = HeaderMap(&client_->arena());
    } else {
      head_ = client_->arena().create<ResponseHead>();
      head_->headers = HeaderMap(&client_->arena());
      head_->version = Protocol::kHttp2;
    }
  }

  HeadError on_field(std::string_view name, std::string_view value) override {
    if (!handler_) return HeadError::kNone;
    return final_ ? reader_.add_trailer(trailers_, name, value) : reader_.add_response_field(*head_, name, value);
  }

  void on_block_end(bool end_stream) override {
    if (!handler_) {
      if (end_stream) in_end_ = true;
      return;
    }
    if (reader_.too_large()) {
      submit_reset(NGHTTP2_ENHANCE_YOUR_CALM);
      return;
    }
    if (final_) {
      if (end_stream) receive_trailers(&trailers_);
      return;
    }
    if (head_->status == 101 || head_->status < 100) {
      submit_reset(NGHTTP2_PROTOCOL_ERROR);  // RFC 9113 §8.6
      return;
    }
    if (head_->status < 200) {
      if (++informational_ > kMaxInformational) return submit_reset(NGHTTP2_PROTOCOL_ERROR);
      client_->on_informational(*head_);
      return;
    }
    final_ = true;
    head_->upgrade = tunnel_ && head_->status < 300;
    if (end_stream) in_end_ = in_end_told_ = true;
    client_->on_response(*head_, end_stream);
  }

  uint32_t reset_code(StreamError error) const override {
    switch (error) {
      case StreamError::kNoError:
        return NGHTTP2_NO_ERROR;
      case StreamError::kProtocol:
        return NGHTTP2_PROTOCOL_ERROR;
      default:
        return NGHTTP2_CANCEL;
    }
  }

  Http2ClientConnection& connection_;
  ClientHandler* client_;
  ResponseHead* head_ = nullptr;
  HeaderMap trailers_;
  uint32_t informational_ = 0;  // 1xx heads
  bool final_ = false;
  bool tunnel_ = false;
  bool reused_;
};

Http2ClientConnection::Http2ClientConnection(event::Loop& loop, net::Stream stream, const Http2Settings& settings,
                                             Observer& observer)
    : Http2Session(loop, std::move(stream), settings, Side::kClient), observer_(&observer) {
  sockaddr_storage address;
  socklen_t length = sizeof(address);
  if (getsockname(stream_.fd(), reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    local_ = net::Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&address), length);
  }
}

Http2ClientConnection::~Http2ClientConnection() = default;

bool Http2ClientConnection::start(bool already_registered) {
  if (!start_session({}, already_registered)) return false;
  if (settings_.keepalive_interval_ms) loop_.arm(keepalive_, settings_.keepalive_interval_ms);
  return true;
}

void Http2ClientConnection::close_idle() {
  observer_ = nullptr;
  close_now();
}

size_t Http2ClientConnection::stream_limit() const {
  constexpr uint32_t kBeforeSettings = 10;
  const uint32_t theirs = settings_received()
                              ? nghttp2_session_get_remote_settings(ng_, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
                              : kBeforeSettings;
  return std::min(theirs, settings_.max_concurrent_streams);
}

bool Http2ClientConnection::can_open() const {
  if (!is_open() || draining() || draining_told_) return false;
  if (Http2Session::active_streams() >= stream_limit()) return false;
  return nghttp2_session_check_request_allowed(ng_) &&
         nghttp2_session_get_next_stream_id(ng_) + 2 * Http2Session::active_streams() < settings_.last_stream_id;
}

ClientStream* Http2ClientConnection::open(ClientHandler& handler) {
  if (!can_open()) return nullptr;
  auto* exchange = new Exchange(*this, settings_, handler, Http2Session::total_streams() > 0);
  attach(*exchange);
  return exchange;
}

void Http2ClientConnection::drain() {
  draining_told_ = true;
  begin_drain();
}

bool Http2ClientConnection::allows_extended_connect() const {
  return settings_received() && is_open() &&
         nghttp2_session_get_remote_settings(ng_, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

void Http2ClientConnection::on_peer_settings() {
  // Also when it has no room: whoever waits may need another connection.
  if (observer_ && is_open() && !draining_told_) observer_->on_available(*this);
}

void Http2ClientConnection::announce_draining() {
  if (std::exchange(draining_told_, true) || !observer_) return;
  observer_->on_draining(*this);
}

void Http2ClientConnection::on_stream_released() {
  if (can_open()) {
    if (observer_) observer_->on_available(*this);
  } else if (is_open() && !draining_told_ && nghttp2_session_get_next_stream_id(ng_) >= settings_.last_stream_id) {
    announce_draining();
    begin_drain();
  }
}

void Http2ClientConnection::on_session_closed() {
  keepalive_.cancel();
  if (observer_) observer_->on_closed(*this);
  loop_.destroy_later(this);
}

void Http2ClientConnection::on_keepalive() {
  if (!is_open()) return;
  const uint64_t now = loop_.now_ms();
  if (ping_sent_ms_ && last_read_ms_ < ping_sent_ms_) {
    return end_session(NGHTTP2_NO_ERROR, StreamError::kTimeout, "no answer to a keepalive PING");
  }
  ping_sent_ms_ = 0;
  const uint64_t quiet = now - last_read_ms_;
  if (Http2Session::active_streams() == 0 || quiet < settings_.keepalive_interval_ms) {
    const uint64_t rest = Http2Session::active_streams() == 0 ? 0 : quiet;
    return loop_.arm(keepalive_, settings_.keepalive_interval_ms - rest);
  }
  nghttp2_submit_ping(ng_, NGHTTP2_FLAG_NONE, nullptr);
  ping_sent_ms_ = now;
  schedule_write();
  loop_.arm(keepalive_, settings_.keepalive_timeout_ms);
}

}  // namespace sluice::http
