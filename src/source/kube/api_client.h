#pragma once
// ApiClient: HTTP requests to one API server on the control loop. Nothing blocks; every wait and every body is bounded.
//
// A request takes an idle connection or opens one (HTTP/1.1, TLS as ClusterAccess says); connections are kept for the
// next. A request that fails on a kept connection before a byte of the answer is sent again on a new one, if the
// server can't have acted on it (or it is a GET).

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "event/loop.h"
#include "http/http1_client.h"
#include "net/dns.h"
#include "source/kube/credentials.h"

namespace sluice::source::kube {

struct ApiRequest {
  std::string method = "GET";
  std::string target;  // path and query: "/api/v1/secrets?limit=500"
  std::string body;
  std::string content_type = "application/json";
  // Until the answer is complete; of a stream: until its head.
  uint64_t timeout_ms = 30'000;
  // Given: the body of a 200 is passed on in pieces as it comes, and not collected. The function may destroy the call.
  std::function<void(std::string_view piece)> on_data;
  // A stream that is silent for so long ends with an error.
  uint64_t idle_timeout_ms = 150'000;
};

struct ApiResponse {
  int status = 0;
  std::string body;
  uint64_t retry_after_ms = 0;  // 0: not said
};

class ApiClient final : private http::ClientConnection::Observer {
 public:
  static constexpr size_t kMaxBody = 64 << 20;
  static constexpr size_t kMaxIdle = 4;
  static constexpr uint64_t kIdleMs = 30'000;
  static constexpr uint64_t kConnectTimeoutMs = 5'000;

  // The error is about the connection: "connect 10.0.0.1:443: Connection refused". An answer of any status is none.
  using Done = std::function<void(Result<ApiResponse>)>;

  class Exchange;
  // A request under way; destroying it cancels, and Done is not called.
  class Call {
   public:
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    friend class ApiClient;
    friend class Exchange;
    explicit Call(Exchange* exchange) : exchange_(exchange) {}
    Exchange* exchange_;  // null: over
  };

  ApiClient(event::Loop& loop, net::DnsResolver& resolver, ClusterAccess access, std::string user_agent);
  // Calls must be gone before.
  ~ApiClient();
  ApiClient(const ApiClient&) = delete;
  ApiClient& operator=(const ApiClient&) = delete;

  // `done` is called once, from the loop, never from within send(); it may destroy the call. A 401 makes the
  // credentials be read again for the next request.
  [[nodiscard]] std::unique_ptr<Call> send(ApiRequest request, Done done);

  const ClusterAccess& access() const { return credentials_.access(); }

 private:
  void on_available(http::ClientConnection&) override {}
  void on_draining(http::ClientConnection&) override {}
  void on_closed(http::ClientConnection& connection) override;

  http::Http1ClientConnection* take_idle();
  void keep(http::Http1ClientConnection* connection);
  void close_idle();

  event::Loop& loop_;
  net::DnsResolver& resolver_;
  Credentials credentials_;
  const std::string user_agent_;
  const http::Http1ClientSettings settings_;
  std::vector<http::Http1ClientConnection*> idle_;
  event::MemberTimer<ApiClient, &ApiClient::close_idle> idle_timer_{this};
};

// Why a request came to nothing, for messages: the connection's error, or the status and what the API server says of
// it.
std::string failure_text(const Result<ApiResponse>& result);

// Percent-encodes what may not stand in a query value or path segment.
std::string url_encode(std::string_view text);

}  // namespace sluice::source::kube
