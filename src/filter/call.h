#pragma once
// Call-outs: a filter asks another service over HTTP and goes on when the answer is there, without blocking the worker.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "http/headers.h"

namespace sluice::filter {

struct HttpCall {
  std::string_view cluster;  // name of a cluster of the snapshot
  std::string_view method = "GET";
  std::string_view path = "/";
  std::string_view authority;                                              // empty: the cluster's service name
  std::span<const std::pair<std::string_view, std::string_view>> headers;  // names in lower case
  std::string_view body;
  uint32_t timeout_ms = 1000;
  size_t max_response_bytes = 1 << 20;  // a longer answer is an error
};

struct HttpCallResult {
  bool ok = false;  // a complete response came, whatever its status
  int status = 0;
  int grpc_status = -1;                      // of the head or the trailers; -1: none
  const http::HeaderMap* headers = nullptr;  // valid during the call-back
  std::string body;
  std::string error;  // why not, if !ok
};

// Receives the result of one call at a time. Destroying it, or cancel(), gives the call up.
class CallReceiver {
 public:
  CallReceiver() = default;
  CallReceiver(const CallReceiver&) = delete;
  CallReceiver& operator=(const CallReceiver&) = delete;

  virtual void on_call_result(HttpCallResult& result) = 0;
  bool pending() const { return call_ != nullptr; }
  void cancel();

  // The running call, as the receiver sees it; made by the gateway.
  class Call {
   public:
    virtual void give_up() = 0;

   protected:
    ~Call() = default;
  };
  void attach(Call* call) { call_ = call; }

 protected:
  ~CallReceiver() { cancel(); }

 private:
  Call* call_ = nullptr;
};

inline void CallReceiver::cancel() {
  if (call_) std::exchange(call_, nullptr)->give_up();
}

}  // namespace sluice::filter
