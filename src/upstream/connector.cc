#include "upstream/connector.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "net/tls.h"

namespace sluice::upstream {

Connector::Connector(event::Loop& loop, Options options, Owner& owner)
    : loop_(loop), options_(std::move(options)), owner_(owner) {}

Connector::~Connector() = default;

void Connector::start() {
  sockaddr_storage storage;
  const socklen_t length = options_.address.to_sockaddr(&storage);
  const int fd = length ? ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -1;
  if (fd < 0) {
    state_ = State::kFailed;
    failure_ = length ? std::string("socket: ") + std::strerror(errno) : "unusable endpoint address";
    loop_.arm(timer_, 0);
    return;
  }
  stream_ = net::Stream(fd);
  if (options_.address.is_ip()) net::set_no_delay(fd);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0 && errno != EINPROGRESS) {
    state_ = State::kFailed;
    failure_ = std::strerror(errno);
    loop_.arm(timer_, 0);
    return;
  }
  if (Status added = loop_.add(fd, this); !added.ok()) {
    state_ = State::kFailed;
    failure_ = added.error().message;
    loop_.arm(timer_, 0);
    return;
  }
  loop_.arm(timer_, options_.timeout_ms);
}

void Connector::cancel() {
  if (state_ == State::kDone) return;
  state_ = State::kDone;
  timer_.cancel();
  stream_.close();
  loop_.destroy_later(this);
}

void Connector::on_timer() {
  if (state_ == State::kFailed) return fail(http::StreamError::kConnectFailed, failure_);
  fail(http::StreamError::kTimeout, state_ == State::kHandshake ? "TLS handshake timeout" : "connect timeout");
}

void Connector::on_io(uint32_t events) {
  if (state_ == State::kDone || state_ == State::kFailed) return;
  stream_.note(events);
  if (state_ == State::kConnecting) {
    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(stream_.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) return fail(http::StreamError::kConnectFailed, std::strerror(error));
    if (!options_.proxy_header.empty()) {
      // The header is far smaller than an empty socket buffer.
      const ssize_t sent =
          ::send(stream_.fd(), options_.proxy_header.data(), options_.proxy_header.size(), MSG_NOSIGNAL);
      if (sent != static_cast<ssize_t>(options_.proxy_header.size())) {
        return fail(http::StreamError::kConnectFailed, "cannot send the PROXY header");
      }
    }
    if (options_.tls) {
      net::TlsConnectOptions tls_options;
      tls_options.sni = options_.sni;
      tls_options.cache = options_.sessions;
      auto session = net::TlsSession::connect(stream_.fd(), options_.tls->context, tls_options);
      if (!session) return fail(http::StreamError::kConnectFailed, "cannot set up TLS");
      stream_.set_tls(std::move(session));
    }
    state_ = State::kHandshake;
  }
  advance();
}

void Connector::advance() {
  if (net::TlsSession* tls = stream_.tls()) {
    const net::IoResult result = tls->handshake();
    if (result.status == net::IoStatus::kAgain) return;
    if (result.status != net::IoStatus::kOk) {
      std::string why = tls->error_text();
      return fail(http::StreamError::kConnectFailed, "TLS_error: " + (why.empty() ? "peer closed the connection" : why));
    }
  }
  state_ = State::kDone;
  timer_.cancel();
  owner_.on_connected(*this, std::move(stream_));
  loop_.destroy_later(this);
}

void Connector::fail(http::StreamError error, std::string detail) {
  state_ = State::kDone;
  timer_.cancel();
  stream_.close();
  owner_.on_connect_failed(*this, error, std::move(detail));
  loop_.destroy_later(this);
}

}  // namespace sluice::upstream
