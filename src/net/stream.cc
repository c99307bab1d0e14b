#include "net/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/tls.h"

namespace sluice::net {
namespace {

constexpr int kMaxVectors = 64;

}  // namespace

Stream::Stream() = default;

Stream::Stream(int fd) : fd_(fd), readable_(true), writable_(true) {}

Stream::Stream(Stream&& other) noexcept { *this = std::move(other); }

Stream& Stream::operator=(Stream&& other) noexcept {
  if (this == &other) return *this;
  close();
  fd_ = std::exchange(other.fd_, -1);
  last_errno_ = other.last_errno_;
  readable_ = other.readable_;
  new_input_ = other.new_input_;
  writable_ = other.writable_;
  peer_closed_ = other.peer_closed_;
  broken_ = other.broken_;
  fin_waits_ = other.fin_waits_;
  tls_ = std::move(other.tls_);
  return *this;
}

Stream::~Stream() { close(); }

void Stream::close() {
  if (fd_ < 0) return;
  if (tls_ && !broken_) tls_->shutdown();
  ::close(fd_);
  fd_ = -1;
  readable_ = writable_ = false;
}

void Stream::abort() {
  if (fd_ < 0) return;
  const linger hard{.l_onoff = 1, .l_linger = 0};
  setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
  broken_ = true;
  close();
}

int Stream::release() { return std::exchange(fd_, -1); }

void Stream::set_tls(std::unique_ptr<TlsSession> tls) { tls_ = std::move(tls); }

void Stream::note(uint32_t events) {
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) readable_ = new_input_ = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) writable_ = true;
  if (events & (EPOLLRDHUP | EPOLLHUP)) peer_closed_ = true;
  if (events & (EPOLLHUP | EPOLLERR)) broken_ = true;
}

IoResult Stream::read(char* data, size_t size) {
  if (tls_) {
    // What the session knows of the socket is from its last recv(). With nothing buffered it receives now; otherwise an
    // edge that came in between must not be forgotten.
    if (!tls_->has_buffered_input()) new_input_ = false;
    const IoResult result = tls_->read(data, size);
    if (result.status == IoStatus::kAgain) readable_ = false;
    if (result.status == IoStatus::kOk && !tls_->has_buffered_input() && !tls_->socket_may_have_more() && !new_input_ &&
        !peer_closed_) {
      readable_ = false;
    }
    if (result.status == IoStatus::kEof) peer_closed_ = true;
    if (result.status == IoStatus::kError) broken_ = peer_closed_ = true;
    return result;
  }
  ssize_t n;
  do {
    n = ::recv(fd_, data, size, 0);
  } while (n < 0 && errno == EINTR);
  if (n > 0) {
    // A short read has emptied the socket; the next bytes or the end of the stream come with a new edge, unless the end
    // has been reported already.
    if (static_cast<size_t>(n) < size && !peer_closed_) readable_ = false;
    return {IoStatus::kOk, static_cast<size_t>(n)};
  }
  if (n == 0) {
    peer_closed_ = true;
    return {IoStatus::kEof};
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    readable_ = false;
    return {IoStatus::kAgain};
  }
  last_errno_ = errno;
  broken_ = peer_closed_ = true;
  return {IoStatus::kError};
}

IoResult Stream::writev(const iovec* vectors, int count) {
  if (tls_) {
    const IoResult result = tls_->writev(vectors, count);
    if (result.status == IoStatus::kAgain) writable_ = false;
    if (result.status == IoStatus::kError) broken_ = true;
    return result;
  }
  ssize_t n;
  do {
    if (count == 1) {
      n = ::send(fd_, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL);
    } else {
      msghdr message{};
      message.msg_iov = const_cast<iovec*>(vectors);
      message.msg_iovlen = static_cast<size_t>(count);
      n = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
    }
  } while (n < 0 && errno == EINTR);
  if (n >= 0) {
    size_t wanted = 0;
    for (int i = 0; i < count; ++i) wanted += vectors[i].iov_len;
    if (static_cast<size_t>(n) < wanted) writable_ = false;
    return {IoStatus::kOk, static_cast<size_t>(n)};
  }
  if (errno == EAGAIN || errno == EWOULDBLOCK) {
    writable_ = false;
    return {IoStatus::kAgain};
  }
  last_errno_ = errno;
  broken_ = true;
  return {IoStatus::kError};
}

IoResult Stream::write(SliceQueue& queue) {
  size_t total = 0;
  while (!queue.empty()) {
    iovec vectors[kMaxVectors];
    const int count = static_cast<int>(std::min<size_t>(queue.count(), kMaxVectors));
    for (int i = 0; i < count; ++i) {
      vectors[i].iov_base = const_cast<char*>(queue[i].data());
      vectors[i].iov_len = queue[i].size();
    }
    const IoResult result = writev(vectors, count);
    if (result.status != IoStatus::kOk) {
      return total && result.status == IoStatus::kAgain ? IoResult{IoStatus::kOk, total} : result;
    }
    queue.consume(result.bytes);
    total += result.bytes;
    if (!writable_) break;
  }
  return {IoStatus::kOk, total};
}

IoResult Stream::write(const char* data, size_t size) {
  const iovec vector{const_cast<char*>(data), size};
  return writev(&vector, 1);
}

bool Stream::has_pending_output() const { return tls_ && tls_->has_pending_output(); }

IoResult Stream::flush() {
  if (!tls_) return {IoStatus::kOk};
  const IoResult result = tls_->flush();
  if (result.status == IoStatus::kAgain) writable_ = false;
  if (result.status == IoStatus::kError) broken_ = true;
  if (result.status == IoStatus::kOk && std::exchange(fin_waits_, false)) ::shutdown(fd_, SHUT_WR);
  return result;
}

bool Stream::send_close_notify() {
  if (!tls_ || tls_->shutdown() != IoStatus::kAgain) return true;
  writable_ = false;
  return false;
}

void Stream::shutdown_write() {
  if (fd_ < 0) return;
  fin_waits_ = !send_close_notify();
  if (!fin_waits_) ::shutdown(fd_, SHUT_WR);
}

std::string Stream::error_text() const {
  if (tls_) {
    std::string text = tls_->error_text();
    if (!text.empty()) return text;
  }
  return last_errno_ ? std::strerror(last_errno_) : "closed by the peer";
}

void set_no_delay(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

}  // namespace sluice::net
