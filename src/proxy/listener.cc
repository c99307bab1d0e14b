#include "proxy/listener.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "config/router.h"
#include "net/client_hello.h"
#include "net/proxy_protocol.h"
#include "proxy/passthrough.h"
#include "proxy/worker.h"

namespace sluice::proxy {
namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr uint64_t kHandshakeTimeoutMs = 10'000;
constexpr uint64_t kExhaustedPauseMs = 50;
// A ClientHello that comes in ever so small pieces is looked at again and again, but not for more than this.
constexpr size_t kMaxPeekedBytes = 4 << 20;

// Percent-encodes all but unreserved characters and those in `also`.
std::string percent_encode(std::string_view text, std::string_view also = {}) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '_' || c == '.' || c == '~' || also.find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      out += '%';
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    }
  }
  return out;
}

// Without what may not stand in a header field.
std::string field_text(std::string text) {
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  return text;
}

// The value of x-forwarded-client-cert, in Envoy's form. Names can't forge other fields: separators in them are
// encoded.
std::string client_certificate_header(const net::TlsPeerCertificate& certificate) {
  std::string text = "Hash=" + certificate.sha256;
  text += ";Cert=\"" + percent_encode(certificate.pem) + "\";Subject=\"";
  for (const char c : certificate.subject) {
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
  text += '"';
  constexpr std::string_view kOfNames = "/:@*+!$&'()?#[]%";
  for (const std::string& uri : certificate.uri_sans) text += ";URI=" + percent_encode(uri, kOfNames);
  for (const std::string& dns : certificate.dns_sans) text += ";DNS=" + percent_encode(dns, kOfNames);
  return field_text(std::move(text));
}

}  // namespace

Listener::Listener(Worker& worker, int fd, const ListenerOptions& options)
    : worker_(worker), fd_(fd), options_(options) {}

Listener::~Listener() {
  if (fd_ >= 0) ::close(fd_);
}

Status Listener::start() {
  // Level-triggered: a full turn's worth is accepted at a time, the rest is reported again.
  Status added = worker_.loop().add(fd_, this, EPOLLIN);
  listening_ = added.ok();
  return added;
}

void Listener::stop() {
  if (fd_ < 0) return;
  pause_timer_.cancel();
  accept_some(1 << 16);
  if (listening_) worker_.loop().remove(fd_);
  listening_ = false;
  ::close(fd_);
  fd_ = -1;
}

void Listener::on_io(uint32_t) { accept_some(kAcceptsPerTurn); }

void Listener::accept_some(int limit) {
  for (int i = 0; i < limit; ++i) {
    sockaddr_storage storage;
    socklen_t length = sizeof(storage);
    const int fd = ::accept4(fd_, reinterpret_cast<sockaddr*>(&storage), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      // Out of descriptors or memory: leave the rest in the backlog until some have come free.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) pause();
      return;
    }
    ListenerStats& stats = worker_.listener_stats(options_.tls);
    if (!worker_.admit_connection()) {
      ++stats.connections_refused;
      ::close(fd);
      continue;
    }
    ++stats.connections_total;
    http::ConnectionInfo info;
    info.peer = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length);
    length = sizeof(storage);
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) == 0) {
      info.local = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length);
    }
    info.id = worker_.next_connection_id();
    const bool proxy_header = options_.accept_proxy_protocol || worker_.snapshot()->globals->proxy_protocol;
    if (options_.tls || proxy_header) {
      (new PendingConnection(worker_, net::Stream(fd), std::move(info), options_.tls, proxy_header))->start();
    } else {
      worker_.serve(net::Stream(fd), std::move(info), Slice(), false, false);
    }
  }
}

void Listener::pause() {
  if (!listening_) return;
  worker_.loop().remove(fd_);
  listening_ = false;
  worker_.loop().arm(pause_timer_, kExhaustedPauseMs);
}

void Listener::on_pause_over() {
  if (!start().ok()) worker_.loop().arm(pause_timer_, kExhaustedPauseMs);
}

PendingConnection::PendingConnection(Worker& worker, net::Stream stream, http::ConnectionInfo info, bool tls,
                                     bool proxy_header)
    : worker_(worker),
      stream_(std::move(stream)),
      info_(std::move(info)),
      tls_(tls),
      state_(proxy_header ? State::kProxyHeader : after_proxy_header()) {
  worker_.pending_begin();
}

PendingConnection::State PendingConnection::after_proxy_header() const {
  return tls_ && worker_.snapshot()->passthrough_hosts ? State::kClientHello : State::kHandshake;
}

void PendingConnection::start() {
  if (!worker_.loop().add(stream_.fd(), this).ok()) return fail();
  worker_.loop().arm(timer_, kHandshakeTimeoutMs);
  if (state_ == State::kHandshake) begin_tls();
}

std::shared_ptr<const net::TlsContext> PendingConnection::select(std::string_view sni) {
  return worker_.select_tls(sni);
}

void PendingConnection::begin_tls() {
  state_ = State::kHandshake;
  auto session = net::TlsSession::accept(stream_.fd(), *this);
  if (!session) return fail();
  stream_.set_tls(std::move(session));
}

void PendingConnection::on_io(uint32_t events) {
  if (state_ == State::kDone) return;
  stream_.note(events);
  advance();
}

void PendingConnection::advance() {
  if (state_ == State::kProxyHeader) {
    if (!read_proxy_header()) return;
    if (!tls_) return hand_over();
    state_ = after_proxy_header();
    if (state_ == State::kHandshake) begin_tls();
    if (state_ == State::kDone) return;
  }
  if (state_ == State::kClientHello) {
    if (!read_client_hello()) return;
    begin_tls();
    if (state_ == State::kDone) return;
  }
  const net::IoResult result = stream_.tls()->handshake();
  if (result.status == net::IoStatus::kAgain) return;
  if (result.status != net::IoStatus::kOk) {
    ++worker_.listener_stats(true).tls_failures;
    return fail();
  }
  ++worker_.listener_stats(true).tls_handshakes;
  hand_over();
}

// Looks at the first bytes without taking them, then takes exactly the header. True: the header is over (or there is
// none).
bool PendingConnection::read_proxy_header() {
  char bytes[4096 + 16];
  const ssize_t n = ::recv(stream_.fd(), bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  if (n <= 0) {
    fail();
    return false;
  }
  const net::ProxyProtocolResult parsed = net::parse_proxy_protocol({bytes, static_cast<size_t>(n)});
  switch (parsed.status) {
    case net::ProxyProtocolResult::Status::kNeedMore:
      return false;  // more bytes come with another edge
    case net::ProxyProtocolResult::Status::kNotProxy:
      return true;
    case net::ProxyProtocolResult::Status::kInvalid:
      fail();
      return false;
    case net::ProxyProtocolResult::Status::kDone:
      break;
  }
  if (::recv(stream_.fd(), bytes, parsed.consumed, MSG_DONTWAIT) != static_cast<ssize_t>(parsed.consumed)) {
    fail();
    return false;
  }
  if (!parsed.header.local) {
    info_.peer = parsed.header.source;
    info_.local = parsed.header.destination;
  }
  return true;
}

// Looks at the ClientHello without taking it. True: it is for an ordinary handshake.
bool PendingConnection::read_client_hello() {
  char bytes[net::kClientHelloMax];
  const ssize_t n = ::recv(stream_.fd(), bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
  const size_t size = static_cast<size_t>(std::max<ssize_t>(n, 0));
  net::ClientHello hello = net::parse_client_hello({bytes, size});
  if (hello.status == net::ClientHello::Status::kNeedMore) {
    peeked_ += size;
    // More bytes come with another edge, unless the end has been reported.
    if (size > 0 && !stream_.peer_closed() && peeked_ <= kMaxPeekedBytes) return false;
    ++worker_.listener_stats(true).tls_failures;
    fail();
    return false;
  }
  // What is no ClientHello gets its alert from the handshake.
  if (hello.status == net::ClientHello::Status::kInvalid || hello.server_name.empty()) return true;
  const SnapshotRef& snapshot = worker_.snapshot();
  const config::PassthroughHost* host = config::match_passthrough(*snapshot, hello.server_name);
  if (!host) return true;
  info_.sni = std::move(hello.server_name);
  pass_through(*host);
  return false;
}

void PendingConnection::pass_through(const config::PassthroughHost& host) {
  state_ = State::kDone;
  timer_.cancel();
  info_.tls = true;
  auto* connection = new Passthrough(worker_, std::move(stream_), std::move(info_), worker_.snapshot(), host);
  worker_.pending_end();
  worker_.loop().destroy_later(this);
  connection->start();
}

void PendingConnection::hand_over() {
  state_ = State::kDone;
  timer_.cancel();
  bool http2 = false;
  if (net::TlsSession* tls = stream_.tls()) {
    info_.tls = true;
    info_.sni = std::string(tls->sni());
    http2 = tls->alpn() == "h2";
    if (const auto certificate = tls->peer_certificate()) {
      if (certificate->problem.empty()) info_.client_certificate_header = client_certificate_header(*certificate);
      info_.client_certificate = std::make_shared<const http::ClientCertificate>(
          http::ClientCertificate{field_text(certificate->subject), field_text(certificate->issuer),
                                  percent_encode(certificate->pem), certificate->problem});
    }
  }
  worker_.serve(std::move(stream_), std::move(info_), Slice(), true, http2);
  worker_.pending_end();
  worker_.loop().destroy_later(this);
}

void PendingConnection::fail() {
  if (state_ == State::kDone) return;
  state_ = State::kDone;
  timer_.cancel();
  stream_.close();
  worker_.release_connection();
  worker_.pending_end();
  worker_.loop().destroy_later(this);
}

}  // namespace sluice::proxy
