#include "http/http1_client.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace sluice::http {
Http1ClientConnection::Http1ClientConnection(event::Loop& loop, net::Stream stream, const Http1ClientSettings& settings,
                                             Observer& observer)
    : loop_(loop), stream_(std::move(stream)), settings_(settings), observer_(observer) {}

Http1ClientConnection::~Http1ClientConnection() = default;

bool Http1ClientConnection::start() {
  closed_ = !loop_.rebind(stream_.fd(), this).ok();
  return !closed_;
}

ClientStream* Http1ClientConnection::open(ClientHandler& handler) {
  if (!can_open()) return nullptr;
  handler_ = &handler;
  ++streams_;
  input_ = Input::kHead;
  scanner_.reset();
  keep_alive_ = true;
  request_done_ = chunked_out_ = paused_ = was_above_low_ = received_any_ = unprocessed_ = false;
  bytes_before_request_ = bytes_written_;
  informational_ = 0;
  return this;
}

void Http1ClientConnection::drain() {
  reusable_ = false;
  if (!handler_) close_idle();
}

void Http1ClientConnection::close_idle() { close_quietly(); }

bool Http1ClientConnection::is_stale() {
  if (stream_.peer_closed() || closed_) return true;
  if (stream_.tls()) return stream_.readable();
  char byte;
  const ssize_t n = ::recv(stream_.fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

const net::Address& Http1ClientConnection::local_address() const {
  if (local_.is_none() && stream_.is_open()) {
    sockaddr_storage storage;
    socklen_t length = sizeof(storage);
    if (::getsockname(stream_.fd(), reinterpret_cast<sockaddr*>(&storage), &length) == 0) {
      local_ = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length);
    }
  }
  return local_;
}

// True if the server has not processed the current request (RFC 9110 §9.2.2 asks for such knowledge before repeating
// one that is not idempotent): nothing of it was written, or its kernel has acknowledged none of what was and the
// connection ended at once. A FIN was then on its way before the request came. A RST comes from a socket that was
// closed with the request unread, or from a server that read, worked and aborted; only the former answers within a
// round trip.
bool Http1ClientConnection::nothing_acknowledged() const {
  if (bytes_written_ == bytes_before_request_) return true;
  if (!stream_.is_open() || stream_.tls()) return false;
  tcp_info info{};
  socklen_t length = sizeof(info);
  if (::getsockopt(stream_.fd(), IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return false;
  if (length < offsetof(tcp_info, tcpi_bytes_acked) + sizeof(info.tcpi_bytes_acked)) return false;
  // The SYN counts as one acknowledged byte.
  if (info.tcpi_bytes_acked > bytes_before_request_ + 1) return false;
  constexpr uint64_t kMarginUs = 2000;
  const uint64_t elapsed_us = (loop_.now_ns() - request_written_ns_) / 1000;
  return ended_in_order_ || elapsed_us <= 2 * uint64_t{info.tcpi_rtt} + kMarginUs;
}

void Http1ClientConnection::on_io(uint32_t events) {
  if (closed_) return;
  stream_.note(events);
  if (stream_.writable() && (out_.bytes() || stream_.has_pending_output())) loop_.defer_flush(*this);
  process_input();
}

void Http1ClientConnection::process_input() {
  if (in_process_) return;
  in_process_ = true;
  const bool done = in_.run(
      stream_, [this] { return input_waits(); }, [this] { return take_input(); }, [this] { return fill_input(); });
  // Idle: anything but silence makes the connection useless.
  if (!closed_ && !handler_ && stream_.readable() && fill_input()) close_quietly();
  in_process_ = false;
  if (closed_) return;
  if (!done) loop_.run_soon(*this);
  in_.release_if_empty();
}

bool Http1ClientConnection::input_waits() const {
  return closed_ || !handler_ || input_ == Input::kDone || (paused_ && input_ != Input::kHead);
}

bool Http1ClientConnection::take_input() {
  const size_t before = in_.size();
  const Input state = input_;
  if (state == Input::kHead) {
    parse_head();
  } else {
    consume_body();
  }
  return in_.size() != before || input_ != state || closed_;
}

size_t Http1ClientConnection::fill_input() {
  const bool in_head = input_ == Input::kHead || input_ == Input::kTrailers;
  if (in_head && in_.size() >= settings_.max_head_bytes) {
    fail(StreamError::kProtocol, "response head too large");
    return 0;
  }
  __builtin_prefetch(handler_);  // cold under many slow streams; comes while the kernel copies
  const net::IoResult result =
      in_.fill(stream_, input_ == Input::kBody, in_head ? settings_.max_head_bytes + 1024 : kHugeBlock);
  switch (result.status) {
    case net::IoStatus::kOk:
      received_any_ = true;
      return result.bytes;
    case net::IoStatus::kAgain:
      return 0;
    case net::IoStatus::kEof:
      on_peer_end();
      return 0;
    case net::IoStatus::kError:
      fail(StreamError::kConnectionClosed, "connection reset by the upstream");
      return 0;
  }
  return 0;
}

void Http1ClientConnection::on_peer_end() {
  ended_in_order_ = true;
  if (!handler_) return close_quietly();
  if (input_ == Input::kBody && body_ == Framing::Body::kUntilClose) {
    input_ = Input::kDone;
    handler_->on_data(Slice(), true);
    return;
  }
  fail(StreamError::kConnectionClosed, received_any_ ? "upstream closed the connection inside the response"
                                                     : "upstream closed the connection before the response");
}

void Http1ClientConnection::parse_head() {
  const HeadScanner::Result scanned = scanner_.scan(in_.data(), in_.size());
  if (scanned == HeadScanner::Result::kBareLineFeed)
    return fail(StreamError::kProtocol, "bare line feed in the response head");
  const size_t length = scanner_.length();
  if (length > settings_.max_head_bytes) return fail(StreamError::kProtocol, "response head too large");
  if (scanned == HeadScanner::Result::kNeedMore) return;

  Arena& arena = handler_->arena();
  auto* head = arena.create<ResponseHead>();
  head->headers = HeaderMap(&arena);
  Framing framing;
  const std::string_view error =
      parse_response_head(in_.data(), length, settings_.max_fields, method_, upgrade_requested_, *head, framing);
  if (!error.empty()) return fail(StreamError::kProtocol, error);
  arena.pin(in_.block());
  in_.consume(length);
  scanner_.reset();

  if (head->status < 200 && head->status != 101) {
    if (++informational_ > kMaxInformational) return fail(StreamError::kProtocol, "too many informational responses");
    return handler_->on_informational(*head);
  }
  keep_alive_ = framing.keep_alive && !last_request_;
  body_ = framing.body;
  body_remaining_ = framing.length;
  if (body_ == Framing::Body::kChunked) chunks_ = ChunkedDecoder();
  tunnel_ = head->upgrade;
  const bool end = body_ == Framing::Body::kNone;
  input_ = end ? Input::kDone : Input::kBody;
  handler_->on_response(*head, end);
}

void Http1ClientConnection::deliver(Slice data, bool end) {
  if (end) input_ = Input::kDone;
  handler_->on_data(std::move(data), end);
}

void Http1ClientConnection::consume_body() {
  if (input_ == Input::kTrailers) {
    const HeadScanner::Result scanned = scanner_.scan(in_.data(), in_.size());
    if (scanned == HeadScanner::Result::kBareLineFeed) {
      return fail(StreamError::kProtocol, "bare line feed in the trailer section");
    }
    const size_t length = scanner_.length();
    if (length > settings_.max_head_bytes) return fail(StreamError::kProtocol, "trailer section too large");
    if (scanned == HeadScanner::Result::kNeedMore) return;
    if (length == 2) {
      in_.consume(2);
      return deliver(Slice(), true);
    }
    HeaderMap trailers(&handler_->arena());
    const std::string_view error = parse_trailers(in_.data(), length, settings_.max_fields, trailers);
    if (!error.empty()) return fail(StreamError::kProtocol, error);
    handler_->arena().pin(in_.block());
    in_.consume(length);
    input_ = Input::kDone;
    return handler_->on_trailers(trailers);
  }
  switch (body_) {
    case Framing::Body::kNone:
      return;
    case Framing::Body::kUntilClose:
      return deliver(in_.take(in_.size()), false);
    case Framing::Body::kLength: {
      const size_t n = std::min<uint64_t>(body_remaining_, in_.size());
      body_remaining_ -= n;
      return deliver(in_.take(n), body_remaining_ == 0);
    }
    case Framing::Body::kChunked:
      break;
  }
  size_t consumed = 0;
  const char* base = in_.data();
  switch (chunks_.decode(base, in_.size(), consumed)) {
    case ChunkedDecoder::Event::kNeedMore:
      return in_.consume(consumed);
    case ChunkedDecoder::Event::kData: {
      Slice data(in_.block(), base + chunks_.offset(), chunks_.length());
      in_.consume(consumed);
      return deliver(std::move(data), false);
    }
    case ChunkedDecoder::Event::kTrailers:
      in_.consume(consumed);
      input_ = Input::kTrailers;
      return scanner_.reset();
    case ChunkedDecoder::Event::kError:
      return fail(StreamError::kProtocol, "malformed chunked body");
  }
}

void Http1ClientConnection::send_head(const RequestHead& head, bool end) {
  if (closed_) return;
  method_ = head.method;
  upgrade_requested_ = !head.upgrade.empty();
  last_request_ = head.as_http10 && !upgrade_requested_;
  chunked_out_ = !end && head.content_length < 0 && !upgrade_requested_;
  out_.push_back(write_request_head(head, chunked_out_));
  request_done_ = end;
  was_above_low_ = true;
  loop_.defer_flush(*this);
}

void Http1ClientConnection::send_data(Slice data, bool end) {
  if (closed_) return;
  if (chunked_out_ && !data.empty()) {
    char size[18];
    out_.append_copy({size, write_chunk_header(size, data.size())});
    out_.gather(std::move(data));
    out_.append_copy(end ? "\r\n0\r\n\r\n" : "\r\n");
  } else {
    out_.gather(std::move(data));
    if (chunked_out_ && end) out_.append_copy("0\r\n\r\n");
  }
  if (end) {
    request_done_ = true;
    if (tunnel_) fin_after_flush_ = true;
  }
  if (out_.bytes() > kBufferLow || end) was_above_low_ = true;
  loop_.defer_flush(*this);
}

void Http1ClientConnection::send_trailers(const HeaderMap& trailers) {
  if (closed_) return;
  if (chunked_out_) out_.push_back(write_trailers(trailers));
  request_done_ = true;
  was_above_low_ = true;
  loop_.defer_flush(*this);
}

void Http1ClientConnection::resume() {
  if (!paused_) return;
  paused_ = false;
  loop_.run_soon(*this);
}

void Http1ClientConnection::flush() {
  if (closed_) return;
  if (out_.bytes()) {
    const size_t before = out_.bytes();
    if (bytes_written_ == bytes_before_request_) request_written_ns_ = loop_.now_ns();
    const net::IoResult result = stream_.write(out_);
    bytes_written_ += before - out_.bytes();
    if (result.status == net::IoStatus::kError) {
      // The server may have answered before it stopped reading: look before giving up.
      out_.clear();
      process_input();
      // When the server has ended its direction no read will tell.
      const bool unheard = (input_ == Input::kHead && !received_any_) || (input_ == Input::kDone && tunnel_);
      if (!closed_ && handler_ && unheard) {
        fail(StreamError::kConnectionClosed, "write to the upstream failed: " + stream_.error_text());
      }
      return;
    }
  } else if (stream_.has_pending_output()) {
    stream_.flush();
  }
  const bool all_sent = out_.empty() && !stream_.has_pending_output();
  if (handler_ && was_above_low_ && (request_done_ ? all_sent : out_.bytes() <= kBufferLow)) {
    was_above_low_ = false;
    handler_->on_drained();
    if (closed_) return;
  }
  if (out_.empty() && !stream_.has_pending_output() && fin_after_flush_) {
    fin_after_flush_ = false;
    stream_.shutdown_write();
  }
  if (handler_ && (stream_.readable() || !in_.empty())) process_input();
}

void Http1ClientConnection::reset(StreamError) {
  handler_ = nullptr;
  close_quietly();
}

void Http1ClientConnection::detach() {
  handler_ = nullptr;
  if (closed_) return;
  const bool clean = input_ == Input::kDone && request_done_ && out_.empty() && in_.empty() && keep_alive_ &&
                     reusable_ && !tunnel_ && !stream_.peer_closed();
  if (!clean) return close_quietly();
  input_ = Input::kIdle;
  in_.reset_read_size();
  observer_.on_available(*this);
}

// Ends the connection because of an error; the handler is told.
void Http1ClientConnection::fail(StreamError error, std::string_view detail) {
  if (closed_) return;
  if (ClientHandler* handler = handler_) {
    unprocessed_ = !received_any_ && nothing_acknowledged();
    handler_ = nullptr;
    handler->on_reset(error, detail);
  }
  close_quietly();
}

void Http1ClientConnection::close_quietly() {
  if (closed_) return;
  closed_ = true;
  reusable_ = false;
  stream_.close();
  out_.clear();
  in_.clear();
  in_.release_if_empty();
  observer_.on_closed(*this);
  loop_.destroy_later(this);
}

}  // namespace sluice::http
