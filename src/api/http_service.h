#pragma once
// HttpService: a small HTTP server on a loop, for what the process itself answers (admin port, demo backend). Requests
// are read whole (bodies up to kMaxBody), handled by a function, and answered whole, now or later.

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
  std::vector<std::string> parameters(std::string_view name) const;
};

struct ServiceResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
};

// Percent-decodes text of a URL ('+' is a space).
std::string url_decode(std::string_view text);

class HttpService final : private event::IoHandler,
                          private http::ServerCallbacks,
                          private http::ServerConnection::Owner,
                          private http::Http1ServerConnection::Upgrader {
 public:
  static constexpr size_t kMaxBody = 1 << 20;
  static constexpr uint32_t kMaxConnections = 1000;

  using Respond = std::function<void(ServiceResponse)>;
  // Calls `respond` once, now or later, on the loop's thread.
  using Handler = std::function<void(const ServiceRequest& request, Respond respond)>;

  HttpService(event::Loop& loop, Handler handler);
  ~HttpService();

  Status listen(const net::Address& address);
  // The port that was bound, for an address with port 0.
  uint16_t port() const;
  void stop();

 private:
  class Call;

  void on_io(uint32_t events) override;
  http::StreamHandler* on_request(http::ServerStream& stream, http::RequestHead& head, bool end) override;
  void on_refused(const http::ConnectionInfo&, int, std::string_view) override {}
  void on_closed(http::ServerConnection& connection) override;
  bool draining() const override { return stopped_; }
  void on_http2_preface(http::Http1ServerConnection& connection, net::Stream stream, http::ConnectionInfo info,
                        Slice received) override;
  void adopt(http::ServerConnection& connection);

  event::Loop& loop_;
  Handler handler_;
  http::Http1Settings settings_;
  http::Http2Settings http2_settings_;
  int fd_ = -1;
  uint32_t count_ = 0;
  http::ServerConnection* connections_ = nullptr;
  bool stopped_ = false;
};

}  // namespace sluice::api
