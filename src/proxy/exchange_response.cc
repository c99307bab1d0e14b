#include <re2/re2.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>

#include "http/websocket.h"
#include "net/tls.h"
#include "proxy/exchange.h"
#include "proxy/forwarding.h"
#include "proxy/worker.h"

// The response half of the exchange: the upstream's response or our own answer, filters, tunnels, the end.

namespace sluice::proxy {
namespace {

using http::HeaderId;

constexpr size_t kHighWatermark = 65536;

// grpc-status for an HTTP status (gRPC's http-grpc-status-mapping).
std::string_view grpc_status_of(int status) {
  switch (status) {
    case 400:
      return "13";
    case 401:
      return "16";
    case 403:
      return "7";
    case 404:
      return "12";
    case 429:
    case 502:
    case 503:
    case 504:
      return "14";
    default:
      return "2";
  }
}

// Percent-encodes what grpc-message may not hold.
std::string_view encode_grpc_message(std::string_view text, Arena& arena) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  char* out = arena.allocate_array<char>(text.size() * 3 + 1);
  size_t size = 0;
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && byte != '%') {
      out[size++] = c;
    } else {
      out[size++] = '%';
      out[size++] = kHex[byte >> 4];
      out[size++] = kHex[byte & 15];
    }
  }
  return {out, size};
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// Browsers that take SameSite=None for Strict, or refuse such a cookie (chromium.org, "SameSite=None: Known
// Incompatible Clients"): all of iOS 12, Safari of macOS 10.14, Chrome 51 to 66.
bool mistakes_same_site_none(std::string_view agent) {
  if (contains(agent, "iPhone OS 12_") || contains(agent, "iPad; CPU OS 12_")) return true;
  if (contains(agent, "Macintosh; Intel Mac OS X 10_14_")) {
    return contains(agent, "Version/") && contains(agent, "Safari") && !contains(agent, "Chrom");
  }
  const size_t chrome = agent.find("Chrom");
  const size_t slash = chrome == agent.npos ? chrome : agent.find('/', chrome);
  if (slash == agent.npos) return false;
  int version = 0;
  std::from_chars(agent.data() + slash + 1, agent.data() + agent.size(), version);
  return version >= 51 && version <= 66;
}

std::string_view set_cookie_text(const config::HashPolicy& policy, std::string_view value, std::string_view agent,
                                 Arena& arena) {
  const config::AffinityCookie& cookie = *policy.cookie;
  std::string text = policy.name + "=" + std::string(value);
  if (cookie.expires.count() > 0) {
    const time_t when = time(nullptr) + cookie.expires.count();
    tm parts;
    char date[40];
    gmtime_r(&when, &parts);
    text.append("; Expires=").append(date, strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &parts));
  }
  if (cookie.max_age.count() > 0) text += "; Max-Age=" + std::to_string(cookie.max_age.count());
  if (!cookie.domain.empty()) text += "; Domain=" + cookie.domain;
  if (!cookie.path.empty()) text += "; Path=" + cookie.path;
  if (cookie.secure) text += "; Secure";
  text += "; HttpOnly";
  const bool omit = cookie.omit_none && cookie.same_site == "None" && mistakes_same_site_none(agent);
  if (!cookie.same_site.empty() && !omit) text += "; SameSite=" + cookie.same_site;
  return arena.copy(text);
}

// The texts of a log record that would go with the arena; route, cluster and details outlive it.
constexpr std::string_view LogRecord::* kExchangeTexts[] = {&LogRecord::method,
                                                            &LogRecord::path,
                                                            &LogRecord::original_path,
                                                            &LogRecord::authority,
                                                            &LogRecord::original_host,
                                                            &LogRecord::request_id,
                                                            &LogRecord::user_agent,
                                                            &LogRecord::x_forwarded_for,
                                                            &LogRecord::trace_id,
                                                            &LogRecord::upstream_host,
                                                            &LogRecord::protocol,
                                                            &LogRecord::upstream_local_address,
                                                            &LogRecord::upstream_service_time};
using TextSizes = uint32_t[std::size(kExchangeTexts)];

// Copies them into one allocation, lengths first: thousands of tunnels may hold one each.
std::unique_ptr<char[]> pack_texts(const LogRecord& record) {
  TextSizes sizes;
  size_t total = sizeof(sizes);
  for (size_t i = 0; i < std::size(sizes); ++i) {
    sizes[i] = static_cast<uint32_t>((record.*kExchangeTexts[i]).size());
    total += sizes[i];
  }
  std::unique_ptr<char[]> packed(new char[total]);
  char* out = packed.get();
  std::memcpy(out, sizes, sizeof(sizes));
  out += sizeof(sizes);
  for (size_t i = 0; i < std::size(sizes); ++i) {
    if (sizes[i]) std::memcpy(out, (record.*kExchangeTexts[i]).data(), sizes[i]);
    out += sizes[i];
  }
  return packed;
}

// The record's texts point into `packed`.
void unpack_texts(const char* packed, LogRecord& record) {
  TextSizes sizes;
  std::memcpy(sizes, packed, sizeof(sizes));
  packed += sizeof(sizes);
  for (size_t i = 0; i < std::size(sizes); ++i) {
    record.*kExchangeTexts[i] = {packed, sizes[i]};
    packed += sizes[i];
  }
}

}  // namespace

void Exchange::on_upstream_informational(http::ResponseHead& head) {
  // We have answered Expect ourselves.
  if (head.status != 100 && !head_sent_) downstream_->send_informational(head);
}

void Exchange::on_upstream_response(http::ResponseHead& head, bool end) {
  touch();
  if (falls_back_on(head.status)) {
    if (end) {
      upstream_.finish();
    } else {
      upstream_.cancel();
    }
    return fall_back(head.status);
  }
  response_ = &head;
  phase_ = Phase::kResponding;
  upstream_activity_ms_ = last_activity_ms_;
  if (affinity_) renew_affinity();
  upstream_ns_ = loop().now_ns();
  status_ = head.status;
  details_ = "via_upstream";
  service_time_ = format_number((upstream_ns_ - upstream_.try_started_ns()) / 1'000'000, arena());
  upstream_done_ = end;
  if (head.upgrade) {
    adapt_upgrade(head);
  } else if (!request_.upgrade.empty()) {
    request_.upgrade = {};
    upgrade_declined_ = true;
    early_.clear();
    update_request_flow();
  }
  filters_.headers(*this, Direction::kResponse, end);
  if (over()) return;
  if (upstream_done_) upstream_.finish();
  update_response_flow();
}

// Translates the agreement to a tunnel between HTTP/1 (101) and HTTP/2 (200, RFC 8441).
void Exchange::adapt_upgrade(http::ResponseHead& head) {
  if (request_.version == http::Protocol::kHttp2) {
    head.status = status_ = 200;
    head.headers.remove(HeaderId::kUpgrade);
    head.headers.remove(HeaderId::kSecWebsocketAccept);
    return;
  }
  if (head.status == 101) return;
  head.status = status_ = 101;
  head.headers.set(HeaderId::kUpgrade, request_.upgrade);
  const std::string_view key = request_.headers.get(HeaderId::kSecWebsocketKey);
  if (!key.empty()) head.headers.set(HeaderId::kSecWebsocketAccept, arena().copy(http::websocket_accept(key)));
}

void Exchange::add_response_fields(http::ResponseHead& head) {
  const Options& options = worker_.options();
  if (!options.server_header.empty()) head.headers.set(HeaderId::kServer, options.server_header);
  if (!head.headers.has(HeaderId::kDate)) head.headers.add(HeaderId::kDate, arena().copy(worker_.date()));
  const uint64_t cost_us = (loop().now_ns() - start_ns_) / 1000;
  head.headers.set(HeaderId::kReqCostTime, format_number(cost_us / 1000, arena()));
  head.headers.set(HeaderId::kReqArriveTime, format_number(start_wall_us_ / 1000, arena()));
  head.headers.set(HeaderId::kRespStartTime, format_number((start_wall_us_ + cost_us) / 1000, arena()));
  if (!service_time_.empty() && !snapshot_->globals->disable_x_envoy_headers) {
    head.headers.set(HeaderId::kXEnvoyUpstreamServiceTime, service_time_);
  }
  if (set_cookie_) {
    const std::string_view agent = request_.headers.get(HeaderId::kUserAgent);
    head.headers.add(HeaderId::kSetCookie, set_cookie_text(*set_cookie_, cookie_value_, agent, arena()));
  }
}

// The response head has passed the filters.
void Exchange::send_response_head(bool end) {
  add_response_fields(*response_);
  status_ = response_->status;
  head_sent_ = true;
  if (worker_.draining()) downstream_->close_after_response();
  const bool tunnel = response_->upgrade;
  downstream_->send_head(*response_, end && !tunnel);
  if (tunnel) return begin_tunnel(end);
  if (end) end_response();
}

void Exchange::on_upstream_data(Slice data, bool end) {
  touch();
  upstream_activity_ms_ = last_activity_ms_;
  upstream_done_ = upstream_done_ || end;
  if (phase_ == Phase::kTunnel) {
    send_response_data(std::move(data), end);
  } else if (filters_.touches_body(Direction::kResponse)) {
    SliceQueue queue;
    queue.push_back(std::move(data));
    filters_.data(*this, Direction::kResponse, queue, end);
  } else {
    send_response_data(std::move(data), end);
  }
  if (over()) return;
  if (end && phase_ != Phase::kTunnel) upstream_.finish();
  update_response_flow();
}

void Exchange::limit_response_rate(uint64_t bytes_per_second, uint64_t after) {
  if (!pace_) pace_ = std::make_unique<ResponsePace>();
  pace_->bytes_per_second = bytes_per_second;
  pace_->after = after;
}

// Sends of what waits for its turn as much as may go now.
void Exchange::send_paced() {
  const uint64_t now = loop().now_ms();
  if (!pace_->begin_ms) pace_->begin_ms = now;
  uint64_t allowed = pace_->allowance(now);
  while (allowed > 0 && !pace_->held.empty()) {
    Slice data = pace_->held[0].sub(0, std::min<uint64_t>(allowed, pace_->held[0].size()));
    pace_->held.consume(data.size());
    pace_->sent += data.size();
    allowed -= data.size();
    bytes_sent_ += data.size();
    const bool last = pace_->end && pace_->held.empty();
    downstream_->send_data(std::move(data), last);
    if (last) end_response();
  }
  touch();
  if (!pace_->held.empty()) {
    loop().arm(pace_timer_, pace_->wait_ms(now));
  } else if (pace_->trailers) {
    downstream_->send_trailers(*std::exchange(pace_->trailers, nullptr));
    end_response();
  }
  update_response_flow();
}

void Exchange::send_response_data(Slice data, bool end) {
  if (pace_ && (!data.empty() || !pace_->held.empty())) {
    pace_->held.gather(std::move(data));
    pace_->end = pace_->end || end;
    if (!pace_timer_.armed()) send_paced();
    return;
  }
  bytes_sent_ += data.size();
  downstream_->send_data(std::move(data), end);
  if (end) end_response();
}

void Exchange::on_upstream_trailers(const http::HeaderMap& trailers) {
  touch();
  upstream_done_ = true;
  if (filters_.empty()) {
    downstream_->send_trailers(trailers);
    end_response();
  } else {
    filters_.trailers(*this, Direction::kResponse, const_cast<http::HeaderMap&>(trailers));
  }
  if (!over()) upstream_.finish();
}

void Exchange::update_response_flow() {
  if (upstream_done_ || !downstream_) return;
  const size_t waiting = downstream_->buffered() + (pace_ ? pace_->held.bytes() : 0);
  const bool pause = held_back_[1] || waiting > kHighWatermark;
  if (pause == upstream_paused_) return;
  upstream_paused_ = pause;
  if (pause) {
    upstream_.pause();
  } else {
    upstream_activity_ms_ = loop().now_ms();
    upstream_.resume();
    if (has_upstream_limits()) arm_timer();
  }
}

void Exchange::resume_response(filter::Filter& self) {
  if (over() || response_end_) return;
  held_back_[1] = false;
  filters_.resume(*this, Direction::kResponse, self);
  if (!over()) update_response_flow();
}

void Exchange::on_drained() {
  if (over()) return;
  touch();
  if (response_end_ && downstream_->buffered() == 0) {
    if (phase_ != Phase::kTunnel) return close(http::StreamError::kNone, true);
    return end_tunnel_if_done();
  }
  update_response_flow();
}

void Exchange::end_response() { response_end_ = true; }

void Exchange::on_upstream_failed(const UpstreamFailure& failure) {
  flags_.add(failure.flag);
  if (failure.retries_exhausted) flags_.add(ResponseFlag::kRetryLimit);
  upstream_failure_ = failure.transport;
  if (falls_back_on(failure.status)) return fall_back(failure.status);
  if (head_sent_) {
    if (phase_ == Phase::kTunnel) return close(http::StreamError::kConnectionClosed, false);
    return cut_off(failure.flag, failure.details);
  }
  answer(failure.status, failure.body, failure.details, failure.flag);
}

// The response has begun and can't be completed.
void Exchange::cut_off(ResponseFlag flag, std::string_view details) {
  flags_.add(flag);
  details_ = details;
  close(http::StreamError::kConnectionClosed, false);
}

void Exchange::answer(int status, std::string_view body, std::string_view details, ResponseFlag flag) {
  flags_.add(flag);
  answer_with(status, body, "text/plain", details, nullptr, nullptr);
}

void Exchange::send_local_reply(const filter::LocalReply& reply, void (*configure)(http::HeaderMap&, const void*),
                                const void* argument) {
  if (over() || head_sent_) return;
  answer_with(reply.status, reply.body, reply.content_type, reply.details, configure, argument);
}

void Exchange::answer_with(int status, std::string_view body, std::string_view content_type, std::string_view details,
                           void (*configure)(http::HeaderMap&, const void*), const void* argument) {
  if (head_sent_) return cut_off(ResponseFlag::kNone, details);
  const bool replaces_response = phase_ == Phase::kResponding;
  upstream_.cancel();
  local_reply_ = true;
  upstream_done_ = true;
  details_ = details;
  phase_ = Phase::kResponding;

  auto* head = arena().create<http::ResponseHead>();
  head->headers = http::HeaderMap(&arena());
  if (is_grpc() && status >= 300) {
    // A gRPC client understands only a trailers-only response (gRPC over HTTP/2).
    head->status = 200;
    head->headers.add(HeaderId::kContentType, "application/grpc");
    const bool deadline = grpc_deadline_ && status == 504;
    head->headers.add(HeaderId::kGrpcStatus, deadline ? std::string_view("4") : grpc_status_of(status));
    if (!body.empty()) head->headers.add(HeaderId::kGrpcMessage, encode_grpc_message(body, arena()));
    body = {};
  } else {
    head->status = status;
    head->content_length = static_cast<int64_t>(body.size());
    if (!body.empty()) head->headers.add(HeaderId::kContentType, arena().copy(content_type));
  }
  if (configure) configure(head->headers, argument);
  response_ = head;
  Slice data = body.empty() ? Slice() : Slice::copy(body);

  // A reply that takes the place of a response that filters have begun to see goes straight out.
  if (replaces_response) {
    send_response_head(data.empty());
    if (!data.empty()) send_response_data(std::move(data), true);
    return;
  }
  filters_.limit_response_to_seen();
  filters_.headers(*this, Direction::kResponse, data.empty());
  if (over() || response_end_ || data.empty()) return;
  if (filters_.touches_body(Direction::kResponse)) {
    SliceQueue queue;
    queue.push_back(std::move(data));
    filters_.data(*this, Direction::kResponse, queue, true);
  } else {
    send_response_data(std::move(data), true);
  }
  // What the client still sends is dropped, not held back.
  held_back_[0] = false;
  if (!over()) update_request_flow();
}

// Both sides have agreed: from here on bytes pass unseen. A tunnel lives long, so everything that is not needed any
// more is given back: filters and, if its log line can do without, heads and arena.
void Exchange::begin_tunnel(bool upstream_ended) {
  phase_ = Phase::kTunnel;
  pace_ = nullptr;
  // With HTTP/1 it was the request that has ended, not what the client sends.
  request_end_ = request_end_ && request_.version == http::Protocol::kHttp2;
  upstream_done_ = false;
  tunnel_holds_ = filters_.begin_tunnel();
  filters_.finish(*this);

  set_cookie_ = affinity_ = nullptr;
  request_.upgrade = {};
  const AccessLog::Producer* log = worker_.access_log();
  const bool logs_heads = log && (log->format().shows_heads() || (log_fields_ && log->format().shows_fields()));
  if (!logs_heads) release_heads();
  if (route_->read_timeout.count()) idle_timeout_ms_ = static_cast<uint64_t>(route_->read_timeout.count());

  while (!early_.empty()) upstream_.send_data(early_.pop_front(), false);
  if (request_end_) upstream_.send_data(Slice(), true);
  if (upstream_ended) send_response_data(Slice(), true);
  if (downstream_paused_) {
    downstream_paused_ = false;
    downstream_->resume();
  }
}

void Exchange::release_heads() {
  tunnel_texts_ = pack_texts(make_record());
  response_ = nullptr;
  upstream_failure_ = service_time_ = original_path_ = cookie_value_ = {};
  log_fields_ = nullptr;
  upstream_.compact();
  downstream_->compact();
}

void Exchange::end_tunnel_if_done() {
  // Either side's end is passed on as a half-close; the tunnel is over when both have ended.
  if (!(request_end_ && response_end_)) return;
  if (downstream_->buffered() > 0 || upstream_.buffered() > 0) return;
  close(http::StreamError::kNone, true);
}

// Ends the exchange: log, statistics, filters; lets go of both streams. `complete`: the downstream stream has its whole
// response; otherwise it is reset with `error` (kNone: it is gone already).
void Exchange::close(http::StreamError error, bool complete) {
  if (over()) return;
  record();
  filters_.finish(*this);
  if (complete) {
    upstream_.finish();
  } else {
    upstream_.cancel();
  }
  phase_ = Phase::kDone;
  timer_.cancel();
  pace_timer_.cancel();
  pace_ = nullptr;
  early_.clear();
  snapshot_.reset();
  http::ServerStream* downstream = std::exchange(downstream_, nullptr);
  if (complete) {
    downstream->detach();
  } else if (error != http::StreamError::kNone) {
    downstream->reset(error);
  }
  loop().destroy_later(this);
}

LogRecord Exchange::make_record() {
  LogRecord record;
  if (route_) record.route_name = route_->name;
  record.upstream_cluster = cluster_name_;
  record.details = details_;
  record.upstream_failure = upstream_failure_;
  if (tunnel_texts_) {
    unpack_texts(tunnel_texts_.get(), record);
    return record;
  }
  const http::HeaderMap& headers = request_.headers;
  record.method = request_.method_text;
  record.path = original_path_;
  record.original_path = headers.get(HeaderId::kXEnvoyOriginalPath);
  record.authority = request_.authority;
  record.original_host = headers.get(HeaderId::kXEnvoyOriginalHost);
  record.request_id = headers.get(HeaderId::kXRequestId);
  record.user_agent = headers.get(HeaderId::kUserAgent);
  record.x_forwarded_for = headers.get(HeaderId::kXForwardedFor);
  record.trace_id = trace_ ? std::string_view(trace_->log_id) : headers.get(HeaderId::kXB3TraceId);
  record.upstream_host = upstream_.endpoint_address();
  record.upstream_local_address = upstream_.local_address();
  record.upstream_service_time = service_time_;
  record.protocol = http::protocol_name(request_.version);
  return record;
}

// "<service>:<port><path>*", or what the route says.
std::string Exchange::trace_operation() const {
  if (route_ && route_->tracing && !route_->tracing->operation.empty()) return route_->tracing->operation;
  const config::Cluster* cluster = cluster_slot_ == UINT32_MAX ? nullptr : snapshot_->clusters.get(cluster_slot_);
  if (!cluster) return route_ ? route_->name : "ingress";
  const bool prefix = route_->path.kind == config::PathMatch::Kind::kPrefix;
  return cluster->service + ":" + std::to_string(cluster->port) + route_->path.text +
         (prefix ? (route_->path.text.empty() ? "/*" : "*") : "");
}

void Exchange::record_trace(const LogRecord& record, uint64_t duration_us, int status) {
  FinishedTrace finished;
  finished.server = {0, start_wall_us_, start_wall_us_ + duration_us};
  finished.error = status == 0 || status >= 500;
  const std::string operation = trace_operation();
  finished.operation = operation;
  finished.upstream_address = record.upstream_host;
  const std::string url = std::string(is_tls() ? "https://" : "http://") + std::string(record.authority) +
                          std::string(record.path.substr(0, 1024));
  const std::string code = std::to_string(status), request_size = std::to_string(bytes_received_),
                    response_size = std::to_string(bytes_sent_);
  std::string flags;
  for (const filter::FlagName& known : filter::kFlagNames) {
    if (flags_.has(known.flag)) flags.append(flags.empty() ? "" : ",").append(known.name);
  }
  char peer[net::Address::kMaxIpText];
  const FinishedTrace::Tag tags[] = {
      {"component", "proxy"},
      {"guid:x-request-id", record.request_id},
      {"http.url", url},
      {"http.method", record.method},
      {"http.protocol", record.protocol},
      {"http.status_code", code},
      {"user_agent", record.user_agent.substr(0, 256)},
      {"peer.address", {peer, client_.format_ip(peer)}},
      {"request_size", request_size},
      {"response_size", response_size},
      {"response_flags", flags.empty() ? std::string_view("-") : std::string_view(flags)},
      {"route_name", record.route_name},
      {"upstream_cluster", record.upstream_cluster},
  };
  finished.tags = tags;
  worker_.tracer().finish(*trace_, finished);
}

// Whether the route and the global options want this exchange in the access log.
bool Exchange::is_logged(int status) {
  if (route_ && !route_->access_log) return false;
  const config::Globals& globals = *snapshot_->globals;
  if (!globals.access_log || globals.access_log_filters.empty() || status < 200 || status > 299)
    return globals.access_log;
  const std::string_view host = tunnel_texts_ ? make_record().authority : request_.authority;
  for (const config::AccessLogFilter& filter : globals.access_log_filters) {
    if (!re2::RE2::FullMatch(re2::StringPiece(host.data(), host.size()), *filter.host)) continue;
    return worker_.random().below(100) < filter.sample_percent;
  }
  return true;
}

// Statistics and the access log. The last look at heads and filters' fields.
void Exchange::record() {
  const uint64_t duration_us = (loop().now_ns() - start_ns_) / 1000;
  WorkerStats& stats = worker_.stats();
  const int logged_status = head_sent_ ? status_ : refused_status_;
  if (route_stats_) {
    route_stats_->record(logged_status, duration_us);
    route_stats_->bytes_received += bytes_received_;
    route_stats_->bytes_sent += bytes_sent_;
  }
  if (!cluster_name_.empty() && upstream_.started()) {
    ClusterStats& cluster = stats.cluster(cluster_name_);
    const uint64_t until = upstream_ns_ ? upstream_ns_ : loop().now_ns();
    cluster.record(upstream_ns_ ? status_ : 0, (until - start_ns_) / 1000);
    cluster.bytes_received += bytes_received_;
    cluster.bytes_sent += bytes_sent_;
    cluster.retries += upstream_.retries();
    cluster.connect_failures += flags_.has(ResponseFlag::kUpstreamConnectFailure);
    cluster.resets += flags_.has(ResponseFlag::kUpstreamReset) || flags_.has(ResponseFlag::kUpstreamClosed);
    cluster.timeouts += flags_.has(ResponseFlag::kUpstreamTimeout);
    cluster.overflows += flags_.has(ResponseFlag::kUpstreamOverflow);
    cluster.no_healthy += flags_.has(ResponseFlag::kNoHealthyUpstream);
  }
  AccessLog::Producer* log = is_logged(logged_status) ? worker_.access_log() : nullptr;
  if (!log && !(trace_ && trace_->sampled)) return;

  LogRecord record = make_record();
  if (trace_ && trace_->sampled) record_trace(record, duration_us, logged_status);
  if (!log) return;
  const http::ConnectionInfo& connection = downstream_->connection();
  char local[net::Address::kMaxIpText], remote[net::Address::kMaxIpText];
  record.local_address = {local, connection.local.format(local)};
  record.remote_address = {remote, connection.peer.format(remote)};
  record.sni = connection.sni;
  record.status = logged_status;
  record.flags = flags_;
  record.bytes_received = bytes_received_;
  record.bytes_sent = bytes_sent_;
  record.duration_ms = duration_us / 1000;
  record.start_time_us = start_wall_us_;
  LogRecord::Field fields[32];
  for (const LogField* field = log_fields_; field && record.field_count < std::size(fields); field = field->next) {
    fields[record.field_count++] = {field->name, field->value};
  }
  record.fields = fields;
  if (!tunnel_texts_) {
    record.request_headers = &request_.headers;
    record.response_headers = response_ ? &response_->headers : nullptr;
  }
  log->append(record);
}

}  // namespace sluice::proxy
