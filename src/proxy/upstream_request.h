#pragma once
// UpstreamRequest: the upstream half of an exchange: one or more tries of one request against the endpoints of a
// cluster, with retries, per-try timeout and replay of the body. Nothing of a failed try reaches the owner, only the
// response that counts or the final failure.

#include <cstdint>
#include <string>
#include <string_view>

#include "config/route.h"
#include "event/loop.h"
#include "filter/response_flags.h"
#include "http/stream.h"
#include "upstream/cluster.h"

namespace sluice::proxy {

using filter::ResponseFlag;

struct UpstreamFailure {
  int status = 503;
  ResponseFlag flag = ResponseFlag::kNone;
  bool retries_exhausted = false;
  std::string_view body;       // for the client; static or in the arena
  std::string_view details;    // response_code_details
  std::string_view transport;  // upstream_transport_failure_reason
};

// ClientHandler is the last base so that its events find `owner_` on the same cache line.
class UpstreamRequest final : public upstream::StreamWaiter, public http::ClientHandler {
 public:
  class Owner {
   public:
    virtual Arena& upstream_arena() = 0;
    virtual void on_upstream_informational(http::ResponseHead& head) = 0;
    virtual void on_upstream_response(http::ResponseHead& head, bool end) = 0;
    virtual void on_upstream_data(Slice data, bool end) = 0;
    virtual void on_upstream_trailers(const http::HeaderMap& trailers) = 0;
    // Room for more request body.
    virtual void on_upstream_drained() = 0;
    // No response will come (before on_upstream_response), or the response broke off (after it).
    virtual void on_upstream_failed(const UpstreamFailure& failure) = 0;

   protected:
    ~Owner() = default;
  };

  UpstreamRequest(event::Loop& loop, Random& random, Owner& owner);
  ~UpstreamRequest();

  struct Target {
    upstream::ClusterState* cluster = nullptr;
    const config::RetryPolicy* retry = nullptr;  // never null
    upstream::EndpointState* pinned = nullptr;   // takes the first try if it is usable
    bool has_hash = false;
    uint64_t hash = 0;
    std::string_view proxy_header;
  };
  // Starts the first try. `head` stays the owner's and must live on; its attempt-count field is maintained here.
  // After cancel() or finish() another request can be started.
  void start(const Target& target, http::RequestHead& head, bool end);
  void send_data(Slice data, bool end);
  void send_trailers(const http::HeaderMap& trailers);
  size_t buffered() const;
  void pause();
  void resume();
  // Gives up; the owner hears nothing more.
  void cancel();
  // The response is complete and delivered.
  void finish();

  bool started() const { return target_.cluster != nullptr; }
  // The request is on its way over a connection.
  bool has_stream() const { return stream_ != nullptr; }
  // The endpoint of the try under way; null: there is none.
  const upstream::EndpointState* endpoint() const { return endpoint_; }
  // The upstream takes too long: ends the try as one that failed with 504.
  void time_out(std::string_view details);
  uint32_t attempts() const { return attempts_; }
  uint32_t retries() const { return retries_; }
  // Of the last try; empty before there was one. In the arena.
  std::string_view endpoint_address() const { return endpoint_text_; }
  std::string_view local_address() const { return local_text_; }
  uint64_t try_started_ns() const { return try_started_ns_; }
  // The exchange's arena goes away (a tunnel): keep nothing in it, the texts for the log included.
  void compact();

 private:
  // http::ClientHandler
  Arena& arena() override { return owner_.upstream_arena(); }
  void on_informational(http::ResponseHead& head) override;
  void on_response(http::ResponseHead& head, bool end) override;
  void on_data(Slice data, bool end) override;
  void on_trailers(const http::HeaderMap& trailers) override;
  void on_drained() override;
  void on_reset(http::StreamError error, std::string_view detail) override;
  // upstream::StreamWaiter
  http::ClientHandler& stream_handler() override { return *this; }
  void on_stream_ready(http::ClientStream& stream) override;
  void on_stream_failed(http::StreamError error, std::string_view detail) override;

  void begin_try();
  void begin_try_timeout();
  void use_stream(http::ClientStream& stream);
  void end_try(const upstream::TryResult& result);
  void on_try_timeout();
  void on_backoff();
  bool may_repeat() const;
  // Schedules another try if policy, budget and body allow it.
  bool retry(uint32_t reasons, bool certainly_unprocessed, int status);
  void fail(const UpstreamFailure& failure);
  void fail_connect(http::StreamError error, std::string_view detail);
  bool status_is_retriable(const http::ResponseHead& head, bool end) const;

  Owner& owner_;
  event::Loop& loop_;
  Random& random_;
  Target target_;
  http::RequestHead* head_ = nullptr;
  http::ClientStream* stream_ = nullptr;
  upstream::EndpointState* endpoint_ = nullptr;  // of the try under way
  std::string_view endpoint_text_;
  std::string_view local_text_;
  SliceQueue kept_;  // body bytes from the start: not sent yet, or kept for a replay
  const http::HeaderMap* trailers_ = nullptr;
  uint64_t try_started_ns_ = 0;
  uint64_t first_try_ns_ = 0;
  event::MemberTimer<UpstreamRequest, &UpstreamRequest::on_try_timeout> try_timer_{this};
  event::MemberTimer<UpstreamRequest, &UpstreamRequest::on_backoff> backoff_timer_{this};
  upstream::EndpointState* tried_[6] = {};
  uint8_t tried_count_ = 0;
  uint8_t closing_races_ = 0;
  uint32_t attempts_ = 0;
  uint32_t retries_ = 0;
  int last_status_ = 0;
  bool waiting_ = false;  // in the pool's queue
  bool request_end_ = false;
  bool dropped_ = false;  // some of the body is gone: no replay
  bool response_started_ = false;
  bool fresh_connection_ = false;
  bool retry_counted_ = false;  // holds a place in the cluster's retry budget
  bool paused_ = false;
};

}  // namespace sluice::proxy
