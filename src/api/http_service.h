#pragma once
// HttpService: a small HTTP server on a loop, for what the process itself answers (admin port, demo backend, Kubernetes
// API). Requests are read whole (bodies up to a limit), handled by a function, and answered, now or later: whole, or by
// a stream that goes on.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "event/loop.h"
#include "http/http1_server.h"
#include "http/http2_settings.h"
#include "net/address.h"
#include "net/tls_context.h"

namespace sluice::api {

struct ServiceRequest {
  std::string method;
  std::string path;   // without query
  std::string query;  // without the question mark
  std::string authority;
  std::string scheme;
  std::string peer;                                          // IP of the client
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;

  // The decoded value of a query parameter; empty if absent. All values of a repeated one.
  std::string parameter(std::string_view name) const;
  // The value of a header field, by its name in lower case; empty if absent.
  std::string_view header(std::string_view name) const;
  std::vector<std::string> parameters(std::string_view name) const;
};

// A response body that is written over time. On the loop's thread. It may outlive the client: then it is closed.
class BodyStream {
 public:
  bool open() const { return stream_ != nullptr; }
  // Nothing happens once it is closed.
  void write(std::string_view text);
  // Bytes that the client has not taken yet.
  size_t buffered() const;
  // The body is complete.
  void end();
  // Cuts the client off.
  void cut();

 private:
  friend class HttpService;
  http::ServerStream* stream_ = nullptr;
  std::function<void()> reset_;  // set while stream_ is
  bool ended_ = false;
};

struct ServiceResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  // If given: opened when the head is sent; `body` is its beginning.
  std::shared_ptr<BodyStream> stream;
};

// Percent-decodes text of a URL ('+' is a space).
std::string url_decode(std::string_view text);

class HttpService final : private event::IoHandler,
                          private http::ServerCallbacks,
                          private http::ServerConnection::Owner,
                          private http::Http1ServerConnection::Upgrader {
 public:
  static constexpr size_t kDefaultMaxBody = 1 << 20;
  static constexpr uint32_t kMaxConnections = 1000;

  using Respond = std::function<void(ServiceResponse)>;
  // Calls `respond` once, now or later, on the loop's thread.
  using Handler = std::function<void(const ServiceRequest& request, Respond respond)>;

  // A request with a larger body gets 413.
  HttpService(event::Loop& loop, Handler handler, size_t max_body = kDefaultMaxBody);
  ~HttpService();

  // Before listen(): what a body that is too large is answered with, in place of an empty 413.
  void set_too_large(std::function<ServiceResponse()> answer) { too_large_ = std::move(answer); }
  // Before listen(): clients have to speak TLS.
  void set_tls(std::shared_ptr<const net::TlsContext> context) { tls_ = std::move(context); }
  Status listen(const net::Address& address);
  // The port that was bound, for an address with port 0.
  uint16_t port() const;
  void stop();

 private:
  class Call;
  class Handshake;

  void on_io(uint32_t events) override;
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head, bool end) override;
  void on_refused(const http::ConnectionInfo&, int, std::string_view) override {}
  void on_closed(http::ServerConnection& connection) override;
  bool draining() const override { return stopped_; }
  void on_http2_preface(http::Http1ServerConnection& connection, net::Stream stream, http::ConnectionInfo info,
                        Slice received) override;
  void accepted(net::Stream stream, http::ConnectionInfo info);
  void serve_http2(net::Stream stream, http::ConnectionInfo info, Slice received, bool registered);
  void adopt(http::ServerConnection& connection);

  event::Loop& loop_;
  Handler handler_;
  const size_t max_body_;
  std::function<ServiceResponse()> too_large_;
  std::shared_ptr<const net::TlsContext> tls_;  // null: plain text
  http::Http1Settings settings_;
  http::Http2Settings http2_settings_;
  int fd_ = -1;
  uint32_t count_ = 0;  // of connections, those that shake hands included
  http::ServerConnection* connections_ = nullptr;
  bool stopped_ = false;
};

}  // namespace sluice::api
