#pragma once
// Exchange: one request and its response, from the parsed head to the access log. See docs/internals/request.md.
//
// It belongs to a worker, uses the arena of its downstream stream, pins the snapshot it started on, and destroys itself
// at the end of the turn in which it is over.

#include "event/loop.h"
#include "filter/filter.h"
#include "filter/response_flags.h"
#include "http/stream.h"
#include "proxy/access_log.h"
#include "proxy/filter_run.h"
#include "proxy/response_pace.h"
#include "proxy/snapshot_ref.h"
#include "proxy/upstream_request.h"

namespace sluice::proxy {

class Worker;
struct ResponseStats;
struct Trace;

class Exchange final : public http::StreamHandler,
                       public filter::Context,
                       public event::Destroyable,
                       private FilterRun::Sink,
                       private UpstreamRequest::Owner {
 public:
  Exchange(Worker& worker, http::ServerStream& downstream, http::RequestHead& request);
  ~Exchange() override;

  // Routes and forwards. False: the stream was reset meanwhile and the exchange is over.
  bool start(bool end);

  // http::StreamHandler (downstream)
  void on_data(Slice data, bool end) override;
  void on_trailers(const http::HeaderMap& trailers) override;
  void on_drained() override;
  void on_reset(http::StreamError error, std::string_view detail) override;

  // filter::Context
  http::RequestHead& request() override { return request_; }
  http::ResponseHead& response() override { return *response_; }
  Arena& arena() override { return *request_.headers.arena(); }
  event::Loop& loop() override;
  Random& random() override;
  const config::Route* route() const override { return route_; }
  const config::Snapshot& snapshot() const override { return *snapshot_; }
  std::string_view cluster_name() const override { return cluster_name_; }
  const net::Address& client_address() const override { return client_; }
  bool is_tls() const override { return downstream_->connection().tls; }
  const http::ConnectionInfo& connection() const override { return downstream_->connection(); }
  void resume_request(filter::Filter& self) override;
  void resume_response(filter::Filter& self) override;
  SliceQueue& held_request_body(filter::Filter& self) override;
  SliceQueue& held_response_body(filter::Filter& self) override;
  void set_buffer_limit(size_t bytes) override { buffer_limit_ = bytes; }
  void limit_response_rate(uint64_t bytes_per_second, uint64_t after) override;
  void send_local_reply(const filter::LocalReply& reply, void (*configure)(http::HeaderMap&, const void*),
                        const void* argument) override;
  void clear_route() override { reroute_ = true; }
  bool select_cluster(std::string_view name) override;
  void call(const filter::HttpCall& call, filter::CallReceiver& receiver) override;
  void send(const filter::HttpCall& call) override;
  void add_flag(filter::ResponseFlag flag) override { flags_.add(flag); }
  void add_log_field(std::string_view name, std::string_view value) override;

 private:
  enum class Phase : uint8_t { kRequest, kForwarding, kResponding, kTunnel, kDone };

  // FilterRun::Sink
  void on_headers_through(Direction direction, bool end) override;
  void on_data_through(Direction direction, SliceQueue& data, bool end) override;
  void on_trailers_through(Direction direction, const http::HeaderMap& trailers) override;
  void on_held(Direction direction, size_t bytes, bool collecting) override;
  bool stopped(Direction direction) override;
  void after_request_headers() override;
  void on_request_body_wanted() override { send_continue(); }

  // UpstreamRequest::Owner
  Arena& upstream_arena() override { return *request_.headers.arena(); }
  void on_upstream_informational(http::ResponseHead& head) override;
  void on_upstream_response(http::ResponseHead& head, bool end) override;
  void on_upstream_data(Slice data, bool end) override;
  void on_upstream_trailers(const http::HeaderMap& trailers) override;
  void on_upstream_drained() override;
  void on_upstream_failed(const UpstreamFailure& failure) override;

  bool resolve_route();
  void choose_destination();
  void build_filters();
  void forward(bool end);
  // To the upstream; while it has not agreed to an upgrade, to where such bytes wait for that.
  void pass_request_data(Slice data, bool end);
  // What the client sends is nobody's any more.
  bool drops_request() const;
  // Tells a client that waits for it (Expect: 100-continue) to send the body. Once; later calls do nothing.
  void send_continue();
  upstream::ClusterState* usable_fallback();
  bool falls_back_on(int status);
  void fall_back(int status);
  // What the fallback service of an Ingress with nginx's meaning is told.
  void add_fallback_fields(int status, const config::Cluster* failed);
  UpstreamRequest::Target target_of(upstream::ClusterState& cluster);
  bool hash_of(const config::HashPolicy& policy, uint64_t* hash);
  std::string_view affinity_cookie(const config::HashPolicy& policy);
  const config::Destination* sticky_destination();
  void renew_affinity();
  void add_response_fields(http::ResponseHead& head);
  void adapt_upgrade(http::ResponseHead& head);
  // An answer of the gateway itself. Maps to grpc-status for gRPC requests.
  void answer(int status, std::string_view body, std::string_view details, ResponseFlag flag);
  void answer_with(int status, std::string_view body, std::string_view content_type, std::string_view details,
                   void (*configure)(http::HeaderMap&, const void*), const void* argument);
  void send_response_head(bool end);
  void send_response_data(Slice data, bool end);
  void send_paced();
  void cut_off(ResponseFlag flag, std::string_view details);
  void begin_tunnel(bool upstream_ended);
  void release_heads();
  void end_tunnel_if_done();
  LogRecord make_record();
  bool is_logged(int status);
  std::string trace_operation() const;
  void record_trace(const LogRecord& record, uint64_t duration_us, int status);
  void update_request_flow();
  void update_response_flow();
  void on_timer();
  void arm_timer();
  void begin_deadline();
  uint64_t upstream_deadline();
  bool upstream_timed_out(uint64_t now);
  bool has_upstream_limits() const { return route_ && (route_->read_timeout.count() || route_->send_timeout.count()); }
  void touch();
  void end_response();
  void close(http::StreamError error, bool complete);
  void record();
  bool is_grpc() const { return http::is_grpc(request_); }
  bool over() const { return phase_ == Phase::kDone; }

  // What each piece of a body needs comes first: under many slow streams all of it is cold.
  Worker& worker_;
  http::ServerStream* downstream_;
  uint64_t last_activity_ms_ = 0;
  // Kept where the route limits the time between two reads from, or writes to, the upstream.
  uint64_t upstream_activity_ms_ = 0;
  uint64_t bytes_sent_ = 0;
  std::unique_ptr<ResponsePace> pace_;  // null: the response leaves as fast as it can
  Phase phase_ = Phase::kRequest;
  bool reroute_ = false;
  bool request_end_ = false;    // the client has sent everything
  bool head_sent_ = false;      // of the response, downstream
  bool response_end_ = false;   // everything was given to the downstream codec
  bool upstream_done_ = false;  // the upstream's response is complete
  bool local_reply_ = false;
  bool downstream_paused_ = false;
  bool upstream_paused_ = false;
  bool held_back_[2] = {false, false};  // a paused filter holds as much as it may
  bool grpc_deadline_ = false;
  bool upgrade_declined_ = false;
  bool fell_back_ = false;  // the response comes from the route's fallback service
  ResponseFlags flags_;
  SnapshotRef snapshot_;
  FilterRun filters_;
  UpstreamRequest upstream_;

  http::RequestHead& request_;
  http::ResponseHead* response_ = nullptr;
  const config::Route* route_ = nullptr;
  ResponseStats* route_stats_ = nullptr;  // the route's, in the worker's statistics
  const config::Destination* destination_ = nullptr;
  uint32_t cluster_slot_ = UINT32_MAX;
  int status_ = 0;
  int refused_status_ = 0;  // the codec's answer, where there is none of ours
  std::string_view cluster_name_;
  net::Address client_;
  event::MemberTimer<Exchange, &Exchange::on_timer> timer_{this};

  uint64_t start_ns_;
  uint64_t start_wall_us_;
  uint64_t upstream_ns_ = 0;  // when the response head came
  uint64_t timeout_ms_ = 0;   // of the upstream, once it has the whole request; 0: none
  uint64_t deadline_ms_ = 0;  // of the whole exchange; 0: none, or not yet
  uint64_t upstream_written_ = 0;
  uint64_t idle_timeout_ms_ = 0;
  size_t buffer_limit_;
  uint64_t bytes_received_ = 0;
  std::string_view details_;
  std::string_view upstream_failure_;
  std::string_view service_time_;
  std::string_view original_path_;
  struct LogField {
    std::string_view name, value;
    LogField* next;
  };
  LogField* log_fields_ = nullptr;
  event::MemberTimer<Exchange, &Exchange::send_paced> pace_timer_{this};
  std::unique_ptr<Trace> trace_;  // null: not traced
  std::vector<std::unique_ptr<filter::TunnelHold>> tunnel_holds_;
  std::unique_ptr<char[]> tunnel_texts_;  // of a tunnel's log line: see pack_texts(); its heads and arena are gone
  SliceQueue early_;                      // bytes behind an upgrade request, until it is agreed to
  const config::HashPolicy* set_cookie_ = nullptr;
  std::string_view cookie_value_;
  const config::HashPolicy* affinity_ = nullptr;  // of the cluster, by a cookie
  uint64_t pin_ = 0;                              // what a persistent cookie names; 0: nothing that exists
};

}  // namespace sluice::proxy
