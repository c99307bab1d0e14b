#include "api/http_service.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "http/http2_server.h"
#include "net/tls_session.h"

namespace sluice::api {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string url_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      out += ' ';
    } else if (text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string> ServiceRequest::parameters(std::string_view name) const {
  std::vector<std::string> values;
  std::string_view rest = query;
  while (!rest.empty()) {
    const size_t end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    const size_t equals = pair.find('=');
    if (url_decode(pair.substr(0, equals)) == name) {
      values.push_back(equals == std::string_view::npos ? "" : url_decode(pair.substr(equals + 1)));
    }
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  return values;
}

std::string ServiceRequest::parameter(std::string_view name) const {
  std::vector<std::string> values = parameters(name);
  return values.empty() ? std::string() : values.front();
}

std::string_view ServiceRequest::header(std::string_view name) const {
  for (const auto& [field, value] : headers) {
    if (field == name) return value;
  }
  return {};
}

void BodyStream::write(std::string_view text) {
  if (stream_ && !ended_ && !text.empty()) stream_->send_data(Slice::copy(text), false);
}

size_t BodyStream::buffered() const { return stream_ ? stream_->buffered() : 0; }

void BodyStream::end() {
  if (!stream_ || ended_) return;
  ended_ = true;
  stream_->send_data(Slice(), true);
}

void BodyStream::cut() {
  if (stream_) reset_();
}

// One request on its way through the service. The response may come after the client has gone: `alive_` tells.
class HttpService::Call final : public http::StreamHandler, public event::Destroyable {
 public:
  Call(HttpService& service, http::ServerStream& stream, const http::RequestHead& head)
      : service_(service), stream_(&stream), head_only_(head.method == http::Method::kHead) {
    const size_t question = head.path.find('?');
    request_.method = head.method_text;
    request_.path = head.path.substr(0, question);
    if (question != std::string_view::npos) request_.query = head.path.substr(question + 1);
    request_.authority = head.authority;
    request_.scheme = head.scheme;
    request_.peer = stream.connection().peer.ip();
    for (const http::HeaderField& field : head.headers) request_.headers.emplace_back(field.name(), field.value());
    if (head.expect_continue) {
      http::ResponseHead informational;
      informational.status = 100;
      stream.send_informational(informational);
    }
  }

  void begin() {
    auto alive = alive_;
    service_.handler_(request_, [this, alive](ServiceResponse response) {
      if (*alive) send(std::move(response));
    });
  }

  void on_data(Slice data, bool end) override {
    if (answered_) return;
    if (request_.body.size() + data.size() > service_.max_body_) {
      return send(service_.too_large_ ? service_.too_large_() : ServiceResponse{413, {}, {}, {}, nullptr});
    }
    request_.body.append(data.view());
    if (end) begin();
  }
  void on_trailers(const http::HeaderMap&) override {
    if (!answered_) begin();
  }
  void on_drained() override {
    if (!answered_ || !stream_ || stream_->buffered() > 0) return;
    if (body_ && !body_->ended_) return;
    std::exchange(stream_, nullptr)->detach();
    end();
  }
  void on_reset(http::StreamError, std::string_view) override {
    stream_ = nullptr;
    end();
  }

 private:
  void send(ServiceResponse response) {
    if (answered_ || !stream_) return;
    answered_ = true;
    http::ResponseHead head;
    head.headers = http::HeaderMap(&arena_);
    head.status = response.status;
    if (!response.stream) head.content_length = static_cast<int64_t>(response.body.size());
    if (!response.content_type.empty()) {
      head.headers.add(http::HeaderId::kContentType, arena_.copy(response.content_type));
    }
    for (const auto& [name, value] : response.headers) head.headers.add(arena_.copy(name), arena_.copy(value));
    if (response.stream && !head_only_) {
      stream_->send_head(head, false);
      stream_->compact();
      return open(std::move(response));
    }
    const bool no_body = response.body.empty() || head_only_;
    stream_->send_head(head, no_body);
    if (!no_body) stream_->send_data(Slice::copy(response.body), true);
  }

  void open(ServiceResponse response) {
    body_ = std::move(response.stream);
    body_->stream_ = stream_;
    body_->reset_ = [this] {
      std::exchange(stream_, nullptr)->reset(http::StreamError::kOverload);
      end();
    };
    body_->write(response.body);
  }

  void end() {
    *alive_ = false;
    if (body_) {
      body_->stream_ = nullptr;
      // It may be what is running.
      service_.loop_.post([reset = std::move(body_->reset_)] {});
    }
    service_.loop_.destroy_later(this);
  }

  HttpService& service_;
  http::ServerStream* stream_;
  ServiceRequest request_;
  Arena arena_;
  std::shared_ptr<BodyStream> body_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  const bool head_only_;
  bool answered_ = false;
};

// A connection until its TLS handshake is done.
class HttpService::Handshake final : private event::IoHandler,
                                     private net::TlsServerSelector,
                                     public event::Destroyable {
 public:
  Handshake(HttpService& service, net::Stream stream, http::ConnectionInfo info)
      : service_(service), stream_(std::move(stream)), info_(std::move(info)) {}

  void start() {
    if (!service_.loop_.add(stream_.fd(), this).ok()) return end();
    service_.loop_.arm(timer_, kHandshakeTimeoutMs);
    auto session = net::TlsSession::accept(stream_.fd(), *this);
    if (!session) return end();
    stream_.set_tls(std::move(session));
  }

 private:
  static constexpr uint64_t kHandshakeTimeoutMs = 10'000;

  std::shared_ptr<const net::TlsContext> select(std::string_view) override { return service_.tls_; }

  void on_io(uint32_t events) override {
    if (done_) return;
    stream_.note(events);
    const net::IoResult result = stream_.tls()->handshake();
    if (result.status == net::IoStatus::kAgain) return;
    if (result.status == net::IoStatus::kOk && !service_.stopped_) {
      info_.tls = true;
      service_.accepted(std::move(stream_), std::move(info_));
    }
    end();
  }

  void end() {
    if (done_) return;
    done_ = true;
    timer_.cancel();
    --service_.count_;
    stream_.close();
    service_.loop_.destroy_later(this);
  }

  HttpService& service_;
  net::Stream stream_;
  http::ConnectionInfo info_;
  event::MemberTimer<Handshake, &Handshake::end> timer_{this};
  bool done_ = false;
};

HttpService::HttpService(event::Loop& loop, Handler handler, size_t max_body)
    : loop_(loop), handler_(std::move(handler)), max_body_(max_body) {}

HttpService::~HttpService() {
  if (fd_ >= 0) ::close(fd_);
}

Status HttpService::listen(const net::Address& address) {
  sockaddr_storage storage;
  const socklen_t length = address.to_sockaddr(&storage);
  fd_ = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  const int off = 0;
  ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  // A successor of this process binds the same port while we drain.
  ::setsockopt(fd_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  if (address.is_ipv6()) ::setsockopt(fd_, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (fd_ < 0 || ::bind(fd_, reinterpret_cast<sockaddr*>(&storage), length) != 0 || ::listen(fd_, 512) != 0) {
    return Error{"cannot listen on " + address.to_string() + ": " + std::strerror(errno)};
  }
  return loop_.add(fd_, this, EPOLLIN);
}

uint16_t HttpService::port() const {
  sockaddr_storage storage;
  socklen_t length = sizeof(storage);
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return 0;
  return net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length).port();
}

void HttpService::stop() {
  stopped_ = true;
  if (fd_ < 0) return;
  loop_.remove(fd_);
  ::close(fd_);
  fd_ = -1;
  for (http::ServerConnection* connection = connections_; connection;) {
    http::ServerConnection* next = connection->next;
    connection->drain();
    connection = next;
  }
}

void HttpService::on_io(uint32_t) {
  for (int i = 0; i < 64 && fd_ >= 0; ++i) {
    sockaddr_storage storage;
    socklen_t length = sizeof(storage);
    const int fd = ::accept4(fd_, reinterpret_cast<sockaddr*>(&storage), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    if (count_ >= kMaxConnections) {
      ::close(fd);
      continue;
    }
    http::ConnectionInfo info;
    info.peer = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length);
    net::set_no_delay(fd);
    if (tls_) {
      ++count_;
      (new Handshake(*this, net::Stream(fd), std::move(info)))->start();
    } else {
      accepted(net::Stream(fd), std::move(info));
    }
  }
}

void HttpService::accepted(net::Stream stream, http::ConnectionInfo info) {
  // After a handshake the descriptor is registered already.
  const bool registered = stream.tls() != nullptr;
  if (registered && stream.tls()->alpn() == "h2") return serve_http2(std::move(stream), std::move(info), Slice(), true);
  auto* connection =
      new http::Http1ServerConnection(loop_, std::move(stream), std::move(info), settings_, *this, *this, this);
  adopt(*connection);
  if (!connection->start(Slice(), registered)) {
    on_closed(*connection);
    loop_.destroy_later(connection);
  }
}

void HttpService::on_http2_preface(http::Http1ServerConnection&, net::Stream stream, http::ConnectionInfo info,
                                   Slice received) {
  serve_http2(std::move(stream), std::move(info), std::move(received), false);
}

void HttpService::serve_http2(net::Stream stream, http::ConnectionInfo info, Slice received, bool registered) {
  auto* connection =
      new http::Http2ServerConnection(loop_, std::move(stream), std::move(info), http2_settings_, *this, *this);
  adopt(*connection);
  if (!connection->start(std::move(received), registered)) {
    on_closed(*connection);
    loop_.destroy_later(connection);
  }
}

void HttpService::adopt(http::ServerConnection& connection) {
  connection.next = connections_;
  if (connections_) connections_->previous = &connection;
  connections_ = &connection;
  ++count_;
}

void HttpService::on_closed(http::ServerConnection& connection) {
  (connection.previous ? connection.previous->next : connections_) = connection.next;
  if (connection.next) connection.next->previous = connection.previous;
  connection.previous = connection.next = nullptr;
  --count_;
}

http::StreamHandler* HttpService::on_request(http::ServerStream& stream, http::RequestHead& head, bool end) {
  auto* call = new Call(*this, stream, head);
  if (end) call->begin();
  return call;
}

}  // namespace sluice::api
