#include "http/http1_server.h"

#include <algorithm>
#include <cstring>

// Life of a connection: kHead → (kBody → kTrailers)? → kDone, back to kHead when the response has left and the handler
// has detached. An upgrade goes to kTunnel, a response that ends before its request to kDiscard, and the last state is
// kClosed. Output is queued in out_ and written by flush(), which the loop runs after the current callback.

namespace sluice::http {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

}  // namespace

Http1ServerConnection::Http1ServerConnection(event::Loop& loop, net::Stream stream, ConnectionInfo info,
                                             const Http1Settings& settings, ServerCallbacks& callbacks, Owner& owner,
                                             Upgrader* upgrader)
    : loop_(loop),
      stream_(std::move(stream)),
      settings_(settings),
      callbacks_(callbacks),
      owner_(owner),
      upgrader_(upgrader),
      info_(std::move(info)) {}

Http1ServerConnection::~Http1ServerConnection() = default;

bool Http1ServerConnection::start(Slice received, bool already_registered) {
  const Status registered = already_registered ? loop_.rebind(stream_.fd(), this) : loop_.add(stream_.fd(), this);
  if (!registered.ok()) {
    closed_ = true;
    return false;
  }
  expect(Wait::kHead, settings_.head_timeout_ms);
  if (!received.empty()) in_.assign(received.view());
  // A fresh socket's first edge tells when there is something to read.
  if (!received.empty() || stream_.tls()) {
    process_input();
    if (out_.bytes()) loop_.defer_flush(*this);
  }
  return true;
}

// Timers are lazy: the deadline moves with every request, the wheel entry only when it fires early.
void Http1ServerConnection::expect(Wait wait, uint64_t delay_ms) {
  wait_ = delay_ms ? wait : Wait::kNone;
  wait_deadline_ms_ = loop_.now_ms() + delay_ms;
  if (wait_ == Wait::kNone) return;
  if (!timer_.armed() || timer_.deadline() > wait_deadline_ms_) loop_.arm(timer_, delay_ms);
}

void Http1ServerConnection::on_timer() {
  if (closed_ || wait_ == Wait::kNone) return;
  if (loop_.now_ms() < wait_deadline_ms_) {
    loop_.arm(timer_, wait_deadline_ms_ - loop_.now_ms());
    return;
  }
  const Wait wait = std::exchange(wait_, Wait::kNone);
  switch (wait) {
    case Wait::kNone:
      return;
    case Wait::kIdle:
      return shut();
    case Wait::kHead:
      if (in_.size() == 0) return shut();
      return refuse(408, "request head timeout");
    case Wait::kBody: {
      const uint64_t wanted = uint64_t{settings_.min_body_rate} * settings_.body_rate_window_ms / 1000;
      if (input_ != Input::kBody && input_ != Input::kTrailers) return;
      const bool excused = was_paused_ || head_.expect_continue;  // one that waits for 100 owes nothing
      if (!excused && body_received_ < wanted) return fail(StreamError::kTimeout, "request body too slow");
      body_received_ = 0;
      was_paused_ = paused_;
      return expect(Wait::kBody, settings_.body_rate_window_ms);
    }
    case Wait::kLinger:
      return shut();
    case Wait::kWrite:
      return fail(StreamError::kTimeout, "the client does not read the response");
    case Wait::kHalfClosed:
      return fail(StreamError::kConnectionClosed, "client half-closed the connection");
  }
}

void Http1ServerConnection::on_io(uint32_t events) {
  if (closed_) return;
  stream_.note(events);
  if (stream_.writable() && (out_.bytes() || stream_.has_pending_output())) loop_.defer_flush(*this);
  const bool reading = input_ == Input::kBody || input_ == Input::kTrailers || input_ == Input::kTunnel;
  if (tunnel_complete()) return;
  if (stream_.broken() && busy() && !reading) {
    return fail(StreamError::kConnectionClosed, "connection reset by the client");
  }
  process_input();
}

// Runs the input side until it has to wait: for bytes, for the handler (paused) or for the exchange to end.
void Http1ServerConnection::process_input() {
  if (in_process_) return;
  in_process_ = true;
  const bool done = in_.run(
      stream_, [this] { return input_waits(); }, [this] { return take_input(); }, [this] { return fill_input(); });
  if (!closed_ && input_ == Input::kDone && busy() && stream_.peer_closed()) on_peer_end();
  in_process_ = false;
  if (closed_) return;
  if (!done) loop_.run_soon(*this);
  in_.release_if_empty();
  // A head that trickles in must not hold a large block.
  if (input_ == Input::kHead && !busy()) in_.shrink();
}

bool Http1ServerConnection::input_waits() const {
  if (closed_ || input_ == Input::kDone || input_ == Input::kClosed) return true;
  return paused_ && input_ != Input::kHead && input_ != Input::kDiscard;
}

bool Http1ServerConnection::take_input() {
  const size_t before = in_.size();
  const Input state = input_;
  if (state == Input::kHead) {
    parse_head();
  } else {
    consume_body();
  }
  return in_.size() != before || input_ != state || closed_;
}

// Reads once into the input buffer; returns how many bytes came.
size_t Http1ServerConnection::fill_input() {
  const bool in_head = input_ == Input::kHead || input_ == Input::kTrailers;
  if (in_head && in_.size() >= settings_.max_head_bytes) {
    refuse(431, "request head too large");
    return 0;
  }
  const bool streaming = input_ == Input::kBody || input_ == Input::kTunnel;
  const net::IoResult result = in_.fill(stream_, streaming, in_head ? settings_.max_head_bytes + 1024 : kHugeBlock);
  switch (result.status) {
    case net::IoStatus::kOk:
      return result.bytes;
    case net::IoStatus::kAgain:
      return 0;
    case net::IoStatus::kEof:
      on_peer_end();
      return 0;
    case net::IoStatus::kError:
      if (busy()) {
        fail(StreamError::kConnectionClosed, "connection reset by the client");
      } else {
        shut();
      }
      return 0;
  }
  return 0;
}

// The client has ended its direction.
void Http1ServerConnection::on_peer_end() {
  if (tunnel_complete()) return;
  if (stream_.broken() && busy()) return fail(StreamError::kConnectionClosed, "connection reset by the client");
  switch (input_) {
    case Input::kHead:
      // The last response may still be on its way out.
      if (out_.bytes() || stream_.has_pending_output()) return begin_linger();
      return shut();
    case Input::kBody:
    case Input::kTrailers:
      if (busy()) return fail(StreamError::kConnectionClosed, "client closed the connection in the request body");
      return shut();
    case Input::kTunnel:
      input_ = Input::kDone;
      keep_alive_ = false;
      if (busy()) handler_->on_data(Slice(), true);
      return;
    case Input::kDone:
      // Perhaps only half-closed: the response, and those of requests that are pipelined, may still be wanted, but not
      // for long. Reading on tells the end again.
      if (busy() && !tunnel_ && wait_ != Wait::kHalfClosed) expect(Wait::kHalfClosed, settings_.half_close_grace_ms);
      return;
    case Input::kDiscard:
      if (!out_.bytes() && !stream_.has_pending_output()) shut();
      return;
    case Input::kClosed:
      return;
  }
}

// Parses the next head if it is complete.
void Http1ServerConnection::parse_head() {
  if (first_bytes_ && upgrader_) {
    const size_t n = std::min(in_.size(), kPreface.size());
    if (std::memcmp(in_.data(), kPreface.data(), n) == 0) {
      if (n < kPreface.size()) return;
      Slice received = in_.take(in_.size());
      loop_.remove(stream_.fd());
      closed_ = true;
      input_ = Input::kClosed;
      timer_.cancel();
      upgrader_->on_http2_preface(*this, std::move(stream_), std::move(info_), std::move(received));
      owner_.on_closed(*this);
      loop_.destroy_later(this);
      return;
    }
  }
  // One empty line before a request is ignored (RFC 9112 §2.2).
  const bool at_start = scanner_.length() == 0 && !head_sent_ && in_.data()[0] == '\r';
  if (at_start && in_.size() == 1) return;
  if (at_start && in_.data()[1] == '\n') {
    if (discarded_ >= 2) return refuse(400, "empty lines before the request");
    discarded_ += 2;
    in_.consume(2);
    return;
  }
  if (wait_ != Wait::kHead) expect(Wait::kHead, settings_.head_timeout_ms);
  const HeadScanner::Result scanned = scanner_.scan(in_.data(), in_.size());
  if (scanned == HeadScanner::Result::kBareLineFeed) return refuse(400, "bare line feed in the request head");
  const auto first = static_cast<unsigned char>(in_.data()[0]);
  if (first <= 0x20 && first != '\r') return refuse(400, "not an HTTP request");
  if (scanned == HeadScanner::Result::kNeedMore) {
    if (in_.size() >= settings_.max_head_bytes) return refuse(431, "request head too large");
    return;
  }
  if (scanner_.length() > settings_.max_head_bytes) return refuse(431, "request head too large");

  head_ = RequestHead();
  head_.headers = HeaderMap(&arena_);
  head_.scheme = info_.tls ? "https" : "http";
  Framing framing;
  const size_t length = scanner_.length();
  const std::string_view error = parse_request_head(in_.data(), length, settings_.max_fields, head_, framing);
  if (!error.empty()) {
    // Nothing has been answered on this connection, so that it can just be closed.
    return refuse(framing.status == 0 && !first_bytes_ ? 400 : framing.status, error);
  }
  arena_.pin(in_.block());
  in_.consume(length);
  scanner_.reset();
  first_bytes_ = false;
  discarded_ = 0;
  keep_alive_ = framing.keep_alive && !draining_ && !owner_.draining();
  body_ = framing.body;
  body_remaining_ = framing.length;
  if (body_ == Framing::Body::kChunked) chunks_ = ChunkedDecoder();
  const bool end = body_ == Framing::Body::kNone;
  // An upgrade's input waits until the answer says whether it is a tunnel.
  input_ = end ? Input::kDone : Input::kBody;
  wait_ = Wait::kNone;
  if (!end && settings_.min_body_rate) {
    body_received_ = 0;
    was_paused_ = false;
    expect(Wait::kBody, settings_.body_rate_window_ms);
  }
  handler_ = callbacks_.on_request(*this, head_, end);
}

void Http1ServerConnection::deliver(Slice data, bool end) {
  body_received_ += data.size();
  if (handler_) {
    if (end) finish_request();
    handler_->on_data(std::move(data), end);
    return;
  }
  // The rest of a request that has been answered.
  discarded_ += data.size();
  if (discarded_ > settings_.max_discard_bytes) return begin_linger();
  if (end) begin_next_request();
}

void Http1ServerConnection::begin_next_request() {
  arena_.reset();
  scanner_.reset();
  discarded_ = 0;
  input_ = Input::kHead;
  expect_next_request();
}

void Http1ServerConnection::expect_next_request() {
  // When draining, the response may have promised a connection that goes on: see drain().
  const bool draining = draining_ || owner_.draining();
  expect(Wait::kIdle, draining ? settings_.drain_grace_ms : settings_.idle_timeout_ms);
}

// Takes body bytes (or tunnel bytes, or bytes to discard) from the input.
void Http1ServerConnection::consume_body() {
  if (input_ == Input::kTunnel) {
    Slice data = in_.take(in_.size());
    if (handler_) handler_->on_data(std::move(data), false);
    return;
  }
  if (input_ == Input::kDiscard) {
    in_.clear();
    return;
  }
  if (input_ == Input::kTrailers) {
    const HeadScanner::Result scanned = scanner_.scan(in_.data(), in_.size());
    if (scanned == HeadScanner::Result::kBareLineFeed) return refuse(400, "bare line feed in the trailer section");
    if (scanned == HeadScanner::Result::kNeedMore) {
      if (in_.size() >= settings_.max_head_bytes) refuse(431, "trailer section too large");
      return;
    }
    const size_t length = scanner_.length();
    if (length == 2) {
      in_.consume(2);
      scanner_.reset();
      return deliver(Slice(), true);
    }
    HeaderMap trailers(&arena_);
    const std::string_view error = parse_trailers(in_.data(), length, settings_.max_fields, trailers);
    if (!error.empty()) return refuse(400, error);
    arena_.pin(in_.block());
    in_.consume(length);
    scanner_.reset();
    if (!handler_) return begin_next_request();
    finish_request();
    handler_->on_trailers(trailers);
    return;
  }
  if (body_ == Framing::Body::kLength) {
    const size_t n = std::min<uint64_t>(body_remaining_, in_.size());
    Slice data = in_.take(n);
    body_remaining_ -= n;
    return deliver(std::move(data), body_remaining_ == 0);
  }
  size_t consumed = 0;
  const char* base = in_.data();
  switch (chunks_.decode(base, in_.size(), consumed)) {
    case ChunkedDecoder::Event::kNeedMore:
      in_.consume(consumed);
      return;
    case ChunkedDecoder::Event::kData: {
      Slice data(in_.block(), base + chunks_.offset(), chunks_.length());
      in_.consume(consumed);
      return deliver(std::move(data), false);
    }
    case ChunkedDecoder::Event::kTrailers:
      in_.consume(consumed);
      input_ = Input::kTrailers;
      scanner_.reset();
      return;
    case ChunkedDecoder::Event::kError:
      return refuse(400, "malformed chunked body");
  }
}

// Answers a request that can't be accepted, and closes.
void Http1ServerConnection::refuse(int status, std::string_view why) {
  keep_alive_ = false;
  // Inside the rest of a request that has been answered there is nothing more to say.
  if (!busy() && input_ != Input::kHead) return begin_linger();
  StreamHandler* handler = std::exchange(handler_, nullptr);
  if (handler) {
    if (!head_sent_) refused_status_ = static_cast<uint16_t>(status);
    handler->on_reset(status == 408 ? StreamError::kTimeout : StreamError::kProtocol, why);
  }
  if (closed_) return;
  if (status == 0) {
    callbacks_.on_refused(info_, status, why);
    return shut();
  }
  if (!head_sent_) {
    char text[192];
    const std::string_view reason = reason_phrase(status);
    const int n =
        std::snprintf(text, sizeof(text), "HTTP/1.1 %d %.*s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", status,
                      static_cast<int>(reason.size()), reason.data());
    out_.push_back(Slice::copy({text, static_cast<size_t>(n)}));
    head_sent_ = true;
    if (!handler) callbacks_.on_refused(info_, status, why);
  } else {
    // The response has begun: cutting it off is the only honest signal.
    stream_.abort();
    return shut();
  }
  response_done_ = true;
  begin_linger();
}

// Sends what is queued, then FIN, and reads on for a while so that the client can read the response before a RST.
void Http1ServerConnection::begin_linger() {
  input_ = Input::kDiscard;
  in_.clear();
  paused_ = false;
  fin_after_flush_ = true;
  wait_ = Wait::kNone;  // flush() sees to the time
  loop_.defer_flush(*this);
}

void Http1ServerConnection::send_informational(const ResponseHead& head) {
  if (closed_ || head_sent_ || head_.version == Protocol::kHttp10) return;
  ResponseFraming framing;
  framing.no_length = true;
  out_.push_back(write_response_head(head, framing));
  if (head.status == 100) continue_sent_ = true;
  loop_.defer_flush(*this);
}

void Http1ServerConnection::send_head(const ResponseHead& head, bool end) {
  if (closed_) return;
  head_sent_ = true;
  ResponseFraming framing;
  if (head.upgrade && head.status == 101) {
    tunnel_ = true;
    keep_alive_ = false;
    framing.no_length = true;
    input_ = Input::kTunnel;
  } else {
    no_body_out_ = head_.method == Method::kHead || head.status == 204 || head.status == 304 || head.status < 200;
    if (head.status == 204 || head.status < 200) framing.no_length = true;
    if (!no_body_out_ && head.content_length < 0) {
      if (end) {
        framing.no_length = true;
      } else if (head_.version == Protocol::kHttp11) {
        framing.chunked = chunked_out_ = true;
      } else {
        keep_alive_ = false;  // the end of the body is the end of the connection
      }
    }
    if (draining_ || owner_.draining()) keep_alive_ = false;
    // The rest of an unfinished request is read only if it is short.
    if (input_ != Input::kDone && end && discardable() > settings_.max_discard_bytes) keep_alive_ = false;
    if (head_.expect_continue && !continue_sent_ && input_ != Input::kDone) keep_alive_ = false;
    framing.close = !keep_alive_;
    framing.keep_alive = keep_alive_ && head_.version == Protocol::kHttp10;
  }
  if (end && !no_body_out_ && head.content_length < 0 && !tunnel_) {
    ResponseHead sized = head;
    sized.content_length = 0;
    framing.no_length = false;
    out_.push_back(write_response_head(sized, framing));
  } else {
    out_.push_back(write_response_head(head, framing));
  }
  if (end) response_done_ = true;
  was_above_low_ = true;
  loop_.defer_flush(*this);
  if (tunnel_ && (in_.size() > 0 || stream_.readable())) loop_.run_soon(*this);
}

uint64_t Http1ServerConnection::discardable() const {
  if (input_ == Input::kDone) return 0;
  return body_ == Framing::Body::kLength ? body_remaining_ : UINT64_MAX;
}

void Http1ServerConnection::send_data(Slice data, bool end) {
  if (closed_) return;
  if (tunnel_) {
    out_.gather(std::move(data));
    if (end) {
      response_done_ = true;
      fin_after_flush_ = true;
    }
  } else if (!no_body_out_ && !data.empty()) {
    if (chunked_out_) {
      char size[18];
      out_.append_copy({size, write_chunk_header(size, data.size())});
    }
    out_.gather(std::move(data));
    if (chunked_out_) out_.append_copy(end ? "\r\n0\r\n\r\n" : "\r\n");
  } else if (chunked_out_ && end) {
    out_.append_copy("0\r\n\r\n");
  }
  if (end) response_done_ = true;
  if (out_.bytes() > kBufferLow || end) was_above_low_ = true;
  loop_.defer_flush(*this);
}

void Http1ServerConnection::send_trailers(const HeaderMap& trailers) {
  if (closed_) return;
  if (chunked_out_) out_.push_back(write_trailers(trailers));
  response_done_ = true;
  was_above_low_ = true;
  loop_.defer_flush(*this);
}

void Http1ServerConnection::pause() { paused_ = was_paused_ = true; }

void Http1ServerConnection::resume() {
  if (!paused_) return;
  paused_ = false;
  loop_.run_soon(*this);
}

// Writes what is queued and goes on with whatever waited for that. Also the target of run_soon().
void Http1ServerConnection::flush() {
  if (closed_) return;
  if (out_.bytes()) {
    const net::IoResult result = stream_.write(out_);
    if (result.status == net::IoStatus::kError) {
      if (busy()) return fail(StreamError::kConnectionClosed, "write to the client failed: " + stream_.error_text());
      return shut();
    }
    if (result.status == net::IoStatus::kOk && wait_ == Wait::kWrite) wait_ = Wait::kNone;
  } else if (stream_.has_pending_output()) {
    if (stream_.flush().status == net::IoStatus::kError) return shut();
  }
  if (out_.bytes() || stream_.has_pending_output()) {
    if (wait_ == Wait::kNone || wait_ == Wait::kIdle) expect(Wait::kWrite, settings_.write_timeout_ms);
  } else if (wait_ == Wait::kNone && input_ == Input::kHead && !busy()) {
    expect_next_request();
  }
  if (handler_ && was_above_low_ && (response_done_ ? all_sent() : out_.bytes() <= kBufferLow)) {
    was_above_low_ = false;
    handler_->on_drained();
    if (closed_) return;
  }
  if (all_sent() && fin_after_flush_) {
    fin_after_flush_ = false;
    stream_.shutdown_write();
    if (stream_.peer_closed() && !busy() && all_sent()) return shut();
    if (input_ == Input::kDiscard) expect(Wait::kLinger, settings_.linger_timeout_ms);
  }
  process_input();
}

void Http1ServerConnection::reset(StreamError error) {
  handler_ = nullptr;
  if (closed_) return;
  if (head_sent_) {
    stream_.abort();
    return shut();
  }
  shut();
}

void Http1ServerConnection::detach() {
  handler_ = nullptr;
  if (closed_) return;
  end_exchange();
}

// The handler is gone and has sent a complete response (possibly still queued).
void Http1ServerConnection::end_exchange() {
  if (tunnel_) {
    if (all_sent()) return shut();
    return begin_linger();
  }
  if (!keep_alive_ || !response_done_) {
    // Nothing unread that would turn our close into a RST.
    const bool may_shut = input_ == Input::kDone && all_sent() && in_.size() == 0 && !stream_.readable();
    if (may_shut && stream_.send_close_notify()) return shut();
    return begin_linger();
  }
  head_sent_ = false;
  response_done_ = false;
  chunked_out_ = false;
  no_body_out_ = false;
  continue_sent_ = false;
  in_.reset_read_size();
  paused_ = false;
  if (input_ == Input::kDone) {
    begin_next_request();
    if (in_.size() > 0 || stream_.readable()) loop_.run_soon(*this);
    return;
  }
  // An unfinished request body, short enough to be read and dropped; deliver() counts it.
  discarded_ = 0;
  loop_.run_soon(*this);
}

void Http1ServerConnection::compact() {
  arena_.reset();
  head_ = RequestHead();
  head_.headers = HeaderMap(&arena_);
}

void Http1ServerConnection::drain() {
  draining_ = true;
  if (busy() || closed_) return;
  if (input_ == Input::kHead && in_.size() == 0) expect(Wait::kIdle, settings_.drain_grace_ms);
}

void Http1ServerConnection::close_now() {
  if (busy()) return fail(StreamError::kConnectionClosed, "gateway is shutting down");
  shut();
}

void Http1ServerConnection::fail(StreamError error, std::string_view detail) {
  if (closed_) return;
  if (error == StreamError::kTimeout && !head_sent_) return refuse(408, detail);
  if (StreamHandler* handler = std::exchange(handler_, nullptr)) handler->on_reset(error, detail);
  if (closed_) return;
  if (head_sent_ && !response_done_) stream_.abort();
  shut();
}

void Http1ServerConnection::shut() {
  if (closed_) return;
  closed_ = true;
  input_ = Input::kClosed;
  timer_.cancel();
  if (StreamHandler* handler = std::exchange(handler_, nullptr)) {
    handler->on_reset(StreamError::kConnectionClosed, "connection closed");
  }
  stream_.close();
  out_.clear();
  in_.clear();
  in_.release_if_empty();
  arena_.reset();
  owner_.on_closed(*this);
  loop_.destroy_later(this);
}

}  // namespace sluice::http
