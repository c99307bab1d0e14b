#include "source/kube/api_client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "net/stream.h"
#include "net/tls.h"
#include "resource/json.h"

namespace sluice::source::kube {

// One request: name → socket → TLS → stream → answer.
class ApiClient::Exchange final : public event::Destroyable, private event::IoHandler, private http::ClientHandler {
 public:
  Exchange(ApiClient& client, ApiRequest request, Done done)
      : client_(client), request_(std::move(request)), done_(std::move(done)) {}

  void start(Call* call) {
    call_ = call;
    client_.loop_.arm(timer_, request_.timeout_ms);
    client_.loop_.arm(begin_, 0);
  }

  // The caller has lost interest.
  void cancel() {
    if (over_) return;
    over_ = true;
    release();
    client_.loop_.destroy_later(this);
  }

 private:
  void begin() {
    if ((connection_ = client_.take_idle())) return open_stream();
    connect();
  }

  void connect() {
    const ClusterAccess& access = client_.access();
    lookup_ = client_.resolver_.resolve(access.host, access.port, [this](Result<net::DnsAnswer> answer) {
      if (!answer.ok()) return fail(answer.error().message);
      addresses_ = std::move(answer->addresses);
      next_address();
    });
  }

  void next_address() {
    while (!addresses_.empty()) {
      const net::Address address = addresses_.front();
      addresses_.erase(addresses_.begin());
      failure_ = open_socket(address);
      if (failure_.empty()) return;
      failure_ = "connect " + address.to_string() + ": " + failure_;
    }
    fail(failure_);
  }

  // Empty: under way.
  std::string open_socket(const net::Address& address) {
    sockaddr_storage storage;
    const socklen_t length = address.to_sockaddr(&storage);
    const int fd = ::socket(storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return std::strerror(errno);
    stream_ = net::Stream(fd);
    net::set_no_delay(fd);
    keep_alive(fd);
    peer_ = address.to_string();
    if (::connect(fd, reinterpret_cast<sockaddr*>(&storage), length) != 0 && errno != EINPROGRESS) {
      const std::string why = std::strerror(errno);
      stream_.close();
      return why;
    }
    connected_ = false;
    if (Status added = client_.loop_.add(fd, this); !added.ok()) {
      stream_.close();
      return added.error().message;
    }
    client_.loop_.arm(connect_timer_, kConnectTimeoutMs);
    return {};
  }

  // A server that vanished without a word is noticed within half a minute, also by a watch that waits.
  static void keep_alive(int fd) {
    const int on = 1, idle = 10, interval = 5, count = 3, unacknowledged_ms = 25'000;
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof(unacknowledged_ms));
  }

  void on_io(uint32_t events) override {
    if (over_ || !stream_.is_open()) return;
    stream_.note(events);
    if (connected_) return handshake();
    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
    int error = 0;
    socklen_t length = sizeof(error);
    ::getsockopt(stream_.fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) return attempt_failed(std::strerror(error));
    connected_ = true;
    auto context = client_.credentials_.tls_context(client_.loop_.now_ms());
    if (!context.ok()) return fail(context.error().message);
    if (*context) {
      auto session = net::TlsSession::connect(stream_.fd(), *context);
      if (!session) return fail("cannot set up TLS");
      stream_.set_tls(std::move(session));
    }
    handshake();
  }

  void handshake() {
    if (net::TlsSession* tls = stream_.tls()) {
      const net::IoResult result = tls->handshake();
      if (result.status == net::IoStatus::kAgain) return;
      if (result.status != net::IoStatus::kOk) {
        const std::string why = tls->error_text();
        client_.credentials_.refresh();
        return attempt_failed(why.empty() ? "the server closed the connection in the TLS handshake" : why);
      }
    }
    connect_timer_.cancel();
    auto* connection = new http::Http1ClientConnection(client_.loop_, std::move(stream_), client_.settings_, client_);
    if (!connection->start()) {
      client_.loop_.destroy_later(connection);
      return fail("cannot register the connection");
    }
    connection_ = connection;
    open_stream();
  }

  void on_connect_timeout() { attempt_failed("no answer"); }

  void attempt_failed(std::string why) {
    connect_timer_.cancel();
    stream_.close();
    failure_ = "connect " + peer_ + ": " + std::move(why);
    next_address();
  }

  void open_stream() {
    opened_ = connection_->open(*this);
    if (!opened_) {
      connection_ = nullptr;
      return connect();
    }
    const ClusterAccess& access = client_.access();
    http::RequestHead head;
    head.headers = http::HeaderMap(&arena_);
    head.method = http::parse_method(request_.method);
    head.method_text = request_.method;
    head.scheme = access.tls ? "https" : "http";
    authority_ = access.authority();
    head.authority = authority_;
    target_ = access.path_prefix + request_.target;
    head.path = target_;
    head.headers.add("user-agent", client_.user_agent_);
    head.headers.add("accept", "application/json");
    authorization_ = client_.credentials_.authorization(client_.loop_.now_ms());
    if (!authorization_.empty()) head.headers.add("authorization", authorization_);
    if (!request_.body.empty()) {
      head.headers.add("content-type", request_.content_type);
      head.content_length = static_cast<int64_t>(request_.body.size());
    }
    opened_->send_head(head, request_.body.empty());
    if (!request_.body.empty()) opened_->send_data(Slice::copy(request_.body), true);
  }

  // http::ClientHandler
  Arena& arena() override { return arena_; }
  void on_informational(http::ResponseHead&) override {}
  void on_response(http::ResponseHead& head, bool end) override {
    response_.status = head.status;
    answered_ = true;
    uint64_t seconds = 0;
    const std::string_view after = head.headers.get("retry-after");
    if (std::from_chars(after.data(), after.data() + after.size(), seconds).ec == std::errc()) {
      response_.retry_after_ms = std::min<uint64_t>(seconds, 60) * 1000;
    }
    if (head.status == 401) client_.credentials_.refresh();
    streaming_ = request_.on_data && head.status == 200;
    if (streaming_) client_.loop_.arm(timer_, request_.idle_timeout_ms);
    if (end) finish();
  }
  void on_data(Slice data, bool end) override {
    if (streaming_) {
      client_.loop_.arm(timer_, request_.idle_timeout_ms);
      if (!data.empty()) request_.on_data(data.view());
      if (over_) return;
    } else {
      if (response_.body.size() + data.size() > kMaxBody) return fail("the answer is larger than 64 MiB");
      response_.body.append(data.view());
    }
    if (end) finish();
  }
  void on_trailers(const http::HeaderMap&) override { finish(); }
  void on_drained() override {}
  void on_reset(http::StreamError error, std::string_view detail) override {
    const bool retry = !answered_ && opened_->on_reused_connection() && !retried_ &&
                       (request_.method == "GET" || opened_->certainly_unprocessed());
    opened_ = nullptr;
    connection_ = nullptr;
    if (retry) {
      retried_ = true;
      arena_.reset();
      return connect();
    }
    fail(std::string(http::stream_error_name(error)) + (detail.empty() ? "" : ": ") + std::string(detail));
  }

  void on_timer() {
    fail(streaming_         ? "the watch was silent for too long"
         : connection_      ? "no answer in time"
         : failure_.empty() ? "connect timeout"
                            : failure_);
  }

  void release() {
    timer_.cancel();
    begin_.cancel();
    connect_timer_.cancel();
    lookup_.reset();
    if (opened_) std::exchange(opened_, nullptr)->reset(http::StreamError::kCancelled);
    connection_ = nullptr;
    stream_.close();
    if (call_) call_->exchange_ = nullptr;
    call_ = nullptr;
  }

  void finish() {
    http::Http1ClientConnection* connection = connection_;
    std::exchange(opened_, nullptr)->detach();
    if (connection->can_open()) client_.keep(connection);
    end(std::move(response_));
  }
  void fail(std::string why) { end(Error{client_.access().authority() + ": " + std::move(why)}); }

  void end(Result<ApiResponse> result) {
    over_ = true;
    release();
    client_.loop_.destroy_later(this);
    std::exchange(done_, nullptr)(std::move(result));
  }

  ApiClient& client_;
  const ApiRequest request_;
  Done done_;
  Call* call_ = nullptr;

  std::unique_ptr<net::DnsResolver::Handle> lookup_;
  std::vector<net::Address> addresses_;  // not tried yet
  net::Stream stream_;                   // until it is a connection's
  std::string peer_;
  std::string failure_;
  http::Http1ClientConnection* connection_ = nullptr;
  http::ClientStream* opened_ = nullptr;
  Arena arena_;
  std::string authority_, target_, authorization_;
  ApiResponse response_;
  bool connected_ = false;
  bool answered_ = false;
  bool streaming_ = false;
  bool retried_ = false;
  bool over_ = false;
  event::MemberTimer<Exchange, &Exchange::on_timer> timer_{this};
  event::MemberTimer<Exchange, &Exchange::begin> begin_{this};
  event::MemberTimer<Exchange, &Exchange::on_connect_timeout> connect_timer_{this};
};

ApiClient::Call::~Call() {
  if (exchange_) {
    Exchange* exchange = std::exchange(exchange_, nullptr);
    exchange->cancel();
  }
}

ApiClient::ApiClient(event::Loop& loop, net::DnsResolver& resolver, ClusterAccess access, std::string user_agent)
    : loop_(loop), resolver_(resolver), credentials_(std::move(access)), user_agent_(std::move(user_agent)) {}

ApiClient::~ApiClient() { close_idle(); }

std::unique_ptr<ApiClient::Call> ApiClient::send(ApiRequest request, Done done) {
  auto* exchange = new Exchange(*this, std::move(request), std::move(done));
  std::unique_ptr<Call> call(new Call(exchange));
  exchange->start(call.get());
  return call;
}

http::Http1ClientConnection* ApiClient::take_idle() {
  while (!idle_.empty()) {
    http::Http1ClientConnection* connection = idle_.back();
    idle_.pop_back();
    if (connection->can_open() && !connection->is_stale()) return connection;
    connection->close_idle();
  }
  return nullptr;
}

void ApiClient::keep(http::Http1ClientConnection* connection) {
  if (idle_.size() >= kMaxIdle) return connection->close_idle();
  idle_.push_back(connection);
  loop_.arm(idle_timer_, kIdleMs);
}

void ApiClient::close_idle() {
  for (http::Http1ClientConnection* connection : std::exchange(idle_, {})) connection->close_idle();
}

void ApiClient::on_closed(http::ClientConnection& connection) {
  std::erase(idle_, static_cast<http::Http1ClientConnection*>(&connection));
}

std::string failure_text(const Result<ApiResponse>& result) {
  constexpr size_t kMaxText = 300;
  if (!result.ok()) return result.error().message;
  std::string out = "status " + std::to_string(result->status);
  resource::JsonParser parser;
  const resource::Node* root = result->body.size() > (64u << 10) ? nullptr : parser.parse(result->body);
  const resource::Node* message = root ? root->find("message") : nullptr;
  if (!message || message->text().empty()) return out;
  out += ": ";
  for (const char c : message->text().substr(0, kMaxText)) out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  return out;
}

std::string url_encode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
        c == '_' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

}  // namespace sluice::source::kube
