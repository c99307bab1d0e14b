#include "upstream/connector.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "net/tls.h"

namespace sluice::upstream {

Connector::Connector(event::Loop& loop, Options options, Owner& owner)
    : loop_(loop), options_(std::move(options)), owner_(owner) {}

Connector::~Connector() = default;

std::string Connector::Attempt::start(const net::Address& address) {
  sockaddr_storage storage;
  const socklen_t length = address.to_sockaddr(&storage);
  if (!length) return "unusable endpoint address";
  const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return std::string("socket: ") + std::strerror(errno);
  stream = net::Stream(fd);
  if (address.is_ip()) net::set_no_delay(fd);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0 && errno != EINPROGRESS) {
    const std::string why = std::strerror(errno);
    stream.close();
    return why;
  }
  if (Status added = connector_.loop_.add(fd, this); !added.ok()) {
    stream.close();
    return added.error().message;
  }
  return {};
}

void Connector::start() {
  loop_.arm(timer_, options_.timeout_ms);
  if (!options_.fallback.is_none()) loop_.arm(head_start_, kHeadStartMs);
  start_attempt(first_, options_.address);
}

void Connector::start_attempt(Attempt& attempt, const net::Address& address) {
  std::string why = attempt.start(address);
  if (!why.empty()) attempt_failed(attempt, std::move(why));
}

void Connector::attempt_failed(Attempt& attempt, std::string why) {
  attempt.stream.close();
  failure_ = std::move(why);
  if (!options_.fallback.is_none() && !fallback_started_) {
    loop_.arm(head_start_, 0);  // now, but not from inside start()
    return;
  }
  if (!first_.active() && !second_.active()) loop_.arm(timer_, 0);
}

void Connector::on_head_start_over() {
  if (state_ != State::kConnecting || fallback_started_) return;
  fallback_started_ = true;
  start_attempt(second_, options_.fallback);
}

void Connector::cancel() {
  if (state_ == State::kDone) return;
  state_ = State::kDone;
  timer_.cancel();
  head_start_.cancel();
  first_.stream.close();
  second_.stream.close();
  loop_.destroy_later(this);
}

void Connector::on_timer() {
  if (!failure_.empty() && !first_.active() && !second_.active()) {
    return fail(http::StreamError::kConnectFailed, failure_);
  }
  fail(http::StreamError::kTimeout, state_ == State::kHandshake ? "TLS handshake timeout" : "connect timeout");
}

void Connector::on_io(Attempt& attempt, uint32_t events) {
  if (state_ == State::kDone || !attempt.active()) return;
  attempt.stream.note(events);
  if (state_ == State::kHandshake) return handshake(attempt);
  if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(attempt.stream.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error) return attempt_failed(attempt, std::strerror(error));
  connected(attempt);
}

void Connector::connected(Attempt& attempt) {
  head_start_.cancel();
  (&attempt == &first_ ? second_ : first_).stream.close();
  state_ = State::kHandshake;
  if (!options_.proxy_header.empty()) {
    // The header is far smaller than an empty socket buffer.
    const ssize_t sent =
        ::send(attempt.stream.fd(), options_.proxy_header.data(), options_.proxy_header.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(options_.proxy_header.size())) {
      return fail(http::StreamError::kConnectFailed, "cannot send the PROXY header");
    }
  }
  if (options_.tls) {
    net::TlsConnectOptions tls_options;
    tls_options.sni = options_.sni;
    tls_options.cache = options_.sessions;
    auto session = net::TlsSession::connect(attempt.stream.fd(), options_.tls->context, tls_options);
    if (!session) return fail(http::StreamError::kConnectFailed, "cannot set up TLS");
    attempt.stream.set_tls(std::move(session));
  }
  handshake(attempt);
}

void Connector::handshake(Attempt& attempt) {
  if (net::TlsSession* tls = attempt.stream.tls()) {
    const net::IoResult result = tls->handshake();
    if (result.status == net::IoStatus::kAgain) return;
    if (result.status != net::IoStatus::kOk) {
      std::string why = tls->error_text();
      return fail(http::StreamError::kConnectFailed,
                  "TLS_error: " + (why.empty() ? "peer closed the connection" : why));
    }
  }
  state_ = State::kDone;
  timer_.cancel();
  owner_.on_connected(*this, std::move(attempt.stream));
  loop_.destroy_later(this);
}

void Connector::fail(http::StreamError error, std::string detail) {
  state_ = State::kDone;
  timer_.cancel();
  head_start_.cancel();
  first_.stream.close();
  second_.stream.close();
  owner_.on_connect_failed(*this, error, std::move(detail));
  loop_.destroy_later(this);
}

}  // namespace sluice::upstream
