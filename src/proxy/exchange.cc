#include "proxy/exchange.h"

#include <algorithm>
#include <charconv>

#include "base/hash.h"
#include "config/router.h"
#include "http/request_values.h"
#include "plugins/variables.h"
#include "proxy/call_out.h"
#include "proxy/forwarding.h"
#include "proxy/worker.h"

// The request half: routing, filters, forwarding, back-pressure. The response half is in exchange_response.cc.

namespace sluice::proxy {
namespace {

using http::HeaderId;

// Bytes waiting in a codec above which the sender is paused. Lower limits would only add wake-ups: a read brings up to
// 256 KiB at once.
constexpr size_t kHighWatermark = 65536;

const config::RetryPolicy kDefaultRetry;

bool find_header(const void* headers, std::string_view name, std::string_view* value) {
  const auto& map = *static_cast<const http::HeaderMap*>(headers);
  if (!map.has(name)) return false;
  *value = map.get_joined(name);
  return true;
}

// grpc-timeout (gRPC over HTTP/2, "Timeout"): up to 8 digits and a unit. 0: absent or malformed.
uint64_t grpc_timeout_ms(std::string_view text) {
  if (text.size() < 2 || text.size() > 9) return 0;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size() - 1, value);
  if (error != std::errc() || end != text.data() + text.size() - 1) return 0;
  switch (text.back()) {
    case 'H':
      return value * 3'600'000;
    case 'M':
      return value * 60'000;
    case 'S':
      return value * 1000;
    case 'm':
      return std::max<uint64_t>(value, 1);
    case 'u':
      return std::max<uint64_t>(value / 1000, 1);
    case 'n':
      return std::max<uint64_t>(value / 1'000'000, 1);
    default:
      return 0;
  }
}

// Which of several destinations a cookie leads to must not go with which endpoint it leads to.
constexpr uint64_t kStickySeed = 7;

// A value of affinity cookies: 16 hexadecimal digits.
std::string_view write_pin(uint64_t pin, char (&text)[16]) {
  static constexpr char kHex[] = "0123456789abcdef";
  for (int i = 0; i < 16; ++i) text[i] = kHex[(pin >> (60 - 4 * i)) & 15];
  return {text, sizeof(text)};
}

// 0: not such a value.
uint64_t parse_pin(std::string_view text) {
  uint64_t pin = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pin, 16);
  return text.size() == 16 && error == std::errc() && end == text.data() + text.size() ? pin : 0;
}

}  // namespace

Exchange::Exchange(Worker& worker, http::ServerStream& downstream, http::RequestHead& request)
    : worker_(worker),
      downstream_(&downstream),
      snapshot_(worker.snapshot()),
      filters_(*this),
      upstream_(worker.loop(), worker.random(), *this),
      request_(request),
      start_ns_(worker.loop().now_ns()),
      start_wall_us_(worker.loop().wall_us()),
      buffer_limit_(snapshot_->globals->downstream_buffer_limit) {
  ++worker_.stats().active_exchanges;
}

Exchange::~Exchange() { --worker_.stats().active_exchanges; }

event::Loop& Exchange::loop() { return worker_.loop(); }
Random& Exchange::random() { return worker_.random(); }

bool Exchange::start(bool end) {
  request_end_ = end;
  touch();
  config::prefetch_host(*snapshot_, request_.authority);
  const config::Globals& globals = *snapshot_->globals;
  original_path_ = request_.path;
  if (request_.path != "*") request_.path = normalize_path(request_.path, arena(), globals.path_normalization);

  const http::ConnectionInfo& connection = downstream_->connection();
  const uint32_t trusted_hops = globals.trusted_hops.value_or(worker_.options().trusted_hops);
  client_ = proxy::client_address(request_, connection, trusted_hops);
  ForwardingFacts facts;
  facts.connection = &connection;
  facts.client = &client_;
  facts.trusted_hops = trusted_hops;
  facts.start_time_ms = start_wall_us_ / 1000;
  facts.add_x_real_ip = globals.add_x_real_ip;
  facts.client_cert_details = globals.client_cert_details;
  facts.x_envoy_headers = !globals.disable_x_envoy_headers;
  add_request_fields(request_, facts, worker_.random());

  if (worker_.overloaded()) {
    answer(503, "overloaded", "overload", ResponseFlag::kOverload);
    return true;
  }
  if (request_.method == http::Method::kConnect && request_.upgrade.empty()) {
    answer(405, "", "connect_not_supported", ResponseFlag::kNone);
    return true;
  }
  const bool routed = resolve_route();
  if (globals.tracing) trace_ = worker_.tracer().begin(globals.tracing, route_, request_);
  if (!routed) return true;
  build_filters();
  idle_timeout_ms_ = static_cast<uint64_t>(
      (route_->idle_timeout.count() ? route_->idle_timeout : globals.downstream_idle_timeout).count());
  if (idle_timeout_ms_ && has_upstream_limits()) {
    // The narrower limit is that of the upstream; a wide one must not be cut short.
    const auto limit = static_cast<uint64_t>(std::max(route_->read_timeout, route_->send_timeout).count());
    idle_timeout_ms_ = std::max(idle_timeout_ms_, limit + limit / 4);
  }
  arm_timer();
  // An upgrade request has no body; what follows it is the tunnel's.
  filters_.headers(*this, Direction::kRequest, end || !request_.upgrade.empty());
  return !over();
}

// Finds the route of the request as it is now, and a destination. False: the exchange has been answered.
bool Exchange::resolve_route() {
  config::RequestKey key;
  key.authority = request_.authority;
  config::set_target(key, request_.path);
  key.target = request_.path;
  key.method = request_.method_text;
  key.scheme = request_.scheme;
  key.find_header = find_header;
  key.headers = &request_.headers;
  const config::Match match = config::match(*snapshot_, key);
  if (!match) {
    answer(404, "", "route_not_found", ResponseFlag::kNoRoute);
    return false;
  }
  route_ = match.route;
  route_stats_ = &worker_.stats().routes.at(route_->stats_slot);
  // Written at the end of the exchange; with many routes they are not in the cache, and until then they can be.
  __builtin_prefetch(route_stats_, 1);
  __builtin_prefetch(&route_stats_->latency, 1);
  const http::ConnectionInfo& connection = downstream_->connection();
  if (connection.tls && match.host->requires_mtls_sni) {
    // The client has shown a certificate for the host it named in the handshake; it must not be used for another.
    const config::TlsHost* asked = config::match_tls(*snapshot_, connection.sni);
    const config::TlsHost* own = config::match_tls(*snapshot_, match.host->domain);
    if (!asked || !asked->mutual || (own && own->context != asked->context)) {
      answer(421, "", "misdirected_request", ResponseFlag::kNone);
      return false;
    }
  }
  choose_destination();
  return true;
}

void Exchange::choose_destination() {
  destination_ = nullptr;
  cluster_slot_ = UINT32_MAX;
  cluster_name_ = {};
  if (route_->destinations.empty()) return;
  destination_ = route_->affinity ? sticky_destination() : nullptr;
  if (!destination_) destination_ = &route_->destinations.front();
  if (!route_->affinity && route_->destinations.size() > 1 && route_->total_weight > 0) {
    uint32_t point = worker_.random().below(route_->total_weight);
    for (const config::Destination& candidate : route_->destinations) {
      if (point < candidate.weight) {
        destination_ = &candidate;
        break;
      }
      point -= candidate.weight;
    }
  }
  cluster_slot_ = destination_->cluster;
  const config::Cluster* cluster = snapshot_->clusters.get(cluster_slot_);
  cluster_name_ = cluster ? cluster->name : destination_->cluster_name;
}

// Where the client's affinity cookie has led it before, and where a new one is to lead it from now on. Null: nowhere.
const config::Destination* Exchange::sticky_destination() {
  const config::HashPolicy& policy = *route_->affinity;
  const std::string_view value = affinity_cookie(policy);
  if (policy.cookie->persistent) {
    const uint64_t pin = parse_pin(value);
    for (const config::Destination& candidate : route_->destinations) {
      const upstream::ClusterState* cluster = worker_.clusters().get(*snapshot_, candidate.cluster);
      if (pin && cluster && cluster->find_pinned(pin)) return &candidate;
    }
  }
  if (!route_->total_weight) return nullptr;
  uint64_t point = hash64(value, kStickySeed) % route_->total_weight;
  for (const config::Destination& candidate : route_->destinations) {
    if (point < candidate.weight) return &candidate;
    point -= candidate.weight;
  }
  return nullptr;
}

// The value of the cookie; a client without one gets a fresh one.
std::string_view Exchange::affinity_cookie(const config::HashPolicy& policy) {
  const std::string_view value = http::find_cookie(request_.headers.get_joined(HeaderId::kCookie), policy.name);
  if (!value.empty()) return value;
  if (cookie_value_.empty()) {
    char text[16];
    cookie_value_ = arena().copy(write_pin(worker_.random().next(), text));
  }
  return cookie_value_;
}

// The response decides what the client's cookie says from now on.
void Exchange::renew_affinity() {
  const config::AffinityCookie& cookie = *affinity_->cookie;
  const upstream::EndpointState* endpoint = upstream_.endpoint();
  if (!endpoint) return;
  const bool has_cookie = !http::find_cookie(request_.headers.get_joined(HeaderId::kCookie), affinity_->name).empty();
  char text[16];
  if (cookie.persistent) {
    if (pin_ == endpoint->pin || (pin_ && !cookie.change_on_failure)) return;
    cookie_value_ = arena().copy(write_pin(endpoint->pin, text));
  } else {
    if (!has_cookie || !cookie.change_on_failure || upstream_.retries() == 0) return;
    // A value that leads to the endpoint that has answered; the last of some if none does.
    upstream::ClusterState* cluster = worker_.clusters().get(*snapshot_, cluster_slot_);
    for (int i = 0; i < 32; ++i) {
      const std::string_view fresh = write_pin(worker_.random().next(), text);
      if (!cluster || cluster->choose(true, hash64(fresh), {}) == endpoint) break;
    }
    cookie_value_ = arena().copy({text, sizeof(text)});
  }
  set_cookie_ = affinity_;
}

void Exchange::build_filters() {
  const config::FilterChain* chains[3] = {&snapshot_->globals->filters, &route_->filters, nullptr};
  size_t count = 2;
  if (destination_) chains[count++] = &destination_->filters;
  filters_.build(*this, arena(), chains, count);
}

bool Exchange::select_cluster(std::string_view name) {
  const uint32_t* slot = snapshot_->cluster_slots.find(name);
  if (!slot) return false;
  const config::Cluster* cluster = snapshot_->clusters.get(*slot);
  if (!cluster) return false;
  cluster_slot_ = *slot;
  cluster_name_ = cluster->name;
  return true;
}

void Exchange::call(const filter::HttpCall& call, filter::CallReceiver& receiver) {
  start_call_out(worker_, *snapshot_, call, receiver);
}

void Exchange::send(const filter::HttpCall& call) { send_call_out(worker_, *snapshot_, call); }

void Exchange::add_log_field(std::string_view name, std::string_view value) {
  log_fields_ = arena().create<LogField>(LogField{name, value, log_fields_});
}

void Exchange::after_request_headers() {
  if (!reroute_) return;
  reroute_ = false;
  resolve_route();
}

bool Exchange::stopped(Direction direction) {
  if (over()) return true;
  return direction == Direction::kRequest ? local_reply_ : response_end_;
}

void Exchange::on_headers_through(Direction direction, bool end) {
  if (direction == Direction::kRequest) {
    forward(end);
  } else {
    send_response_head(end);
  }
}

void Exchange::forward(bool end) {
  phase_ = Phase::kForwarding;
  upstream::ClusterState* cluster =
      cluster_slot_ == UINT32_MAX ? nullptr : worker_.clusters().get(*snapshot_, cluster_slot_);
  if (route_->fallback && (!cluster || !cluster->has_usable_endpoint())) {
    if (upstream::ClusterState* fallback = usable_fallback()) {
      add_fallback_fields(503, snapshot_->clusters.get(cluster_slot_));
      cluster = fallback;
      cluster_slot_ = route_->fallback->cluster;
      cluster_name_ = route_->fallback->cluster_name;
    }
  }
  if (!cluster) return answer(503, "", "cluster_not_found", ResponseFlag::kNoCluster);

  request_.as_http10 = route_->http10;
  const config::Globals& globals = *snapshot_->globals;
  timeout_ms_ = static_cast<uint64_t>((route_->timeout.count() ? route_->timeout : globals.route_timeout).count());
  if (is_grpc()) {
    const uint64_t asked = grpc_timeout_ms(request_.headers.get(HeaderId::kGrpcTimeout));
    if (asked && (!timeout_ms_ || asked < timeout_ms_)) {
      timeout_ms_ = asked;
      grpc_deadline_ = true;
    }
  }
  if (timeout_ms_ && !globals.disable_x_envoy_headers) {
    request_.headers.set(HeaderId::kXEnvoyExpectedRqTimeoutMs, format_number(timeout_ms_, arena()));
  }
  if (end || request_end_ || grpc_deadline_) begin_deadline();

  if (trace_) {
    const std::string operation = trace_operation();
    worker_.tracer().inject(*trace_, operation, cluster->config().service, request_);
    request_.headers.set("x-envoy-decorator-operation", arena().copy(operation));
  }
  const UpstreamRequest::Target target = target_of(*cluster);
  send_continue();
  if (!request_.upgrade.empty()) {
    downstream_->pause();
    downstream_paused_ = true;
  }
  upstream_activity_ms_ = loop().now_ms();
  upstream_.start(target, request_, end);
  if (!over() && has_upstream_limits()) arm_timer();
}

// The timeout is the upstream's: the client may take longer to send its request. (A client's own deadline, that of
// gRPC, begins at once.)
void Exchange::begin_deadline() {
  if (!timeout_ms_ || deadline_ms_) return;
  deadline_ms_ = loop().now_ms() + timeout_ms_;
  arm_timer();
}

void Exchange::send_continue() {
  if (!request_.expect_continue || request_end_ || local_reply_) return;
  request_.expect_continue = false;
  http::ResponseHead informational;
  informational.status = 100;
  downstream_->send_informational(informational);
}

UpstreamRequest::Target Exchange::target_of(upstream::ClusterState& cluster) {
  UpstreamRequest::Target target;
  target.cluster = &cluster;
  // The exchange keeps the policy to its end: that of its own snapshot, where the state may be of a newer one.
  const config::HashPolicy& policy = snapshot_->clusters.get(cluster_slot_)->hash;
  const config::RetryPolicy* retry = route_->retry ? route_->retry.get() : snapshot_->globals->retry.get();
  target.retry = retry ? retry : &kDefaultRetry;
  target.has_hash = hash_of(policy, &target.hash);
  affinity_ = policy.cookie ? &policy : nullptr;
  if (affinity_ && affinity_->cookie->persistent) {
    const uint64_t pin = parse_pin(http::find_cookie(request_.headers.get_joined(HeaderId::kCookie), policy.name));
    target.pinned = pin ? cluster.find_pinned(pin) : nullptr;
    pin_ = target.pinned ? pin : 0;
    set_cookie_ = nullptr;  // renew_affinity() sets it
  }
  if (cluster.config().send_proxy_protocol) {
    target.proxy_header = arena().copy(proxy_header(cluster.config(), downstream_->connection()));
  }
  return target;
}

// The fallback service's cluster if it can serve; null otherwise, or if the route has none.
upstream::ClusterState* Exchange::usable_fallback() {
  if (!route_->fallback) return nullptr;
  upstream::ClusterState* cluster = worker_.clusters().get(*snapshot_, route_->fallback->cluster);
  return cluster && cluster->has_usable_endpoint() ? cluster : nullptr;
}

bool Exchange::falls_back_on(int status) {
  if (!route_->fallback || fell_back_ || phase_ != Phase::kForwarding) return false;
  const std::vector<uint16_t>& statuses = route_->fallback->statuses;
  return std::find(statuses.begin(), statuses.end(), status) != statuses.end() && usable_fallback();
}

// Asks the fallback service for the page that the client gets instead of an error. The request's body has gone, or is
// going, to the first service; this one gets none.
void Exchange::fall_back(int status) {
  fell_back_ = true;
  const config::Fallback& fallback = *route_->fallback;
  add_fallback_fields(status, snapshot_->clusters.get(cluster_slot_));
  cluster_slot_ = fallback.cluster;
  cluster_name_ = fallback.cluster_name;
  request_.path = "/";
  request_.upgrade = {};
  request_.content_length = -1;
  for (HeaderId id : {HeaderId::kContentLength, HeaderId::kTransferEncoding, HeaderId::kExpect}) {
    request_.headers.remove(id);
  }
  request_.headers.set("x-envoy-route-name", arena().concat(route_->name, "-fallback"));
  request_.headers.set("x-envoy-fallback-service", fallback.service);
  early_.clear();
  begin_deadline();
  upstream_.start(target_of(*worker_.clusters().get(*snapshot_, cluster_slot_)), request_, true);
  if (!over()) update_request_flow();
}

void Exchange::add_fallback_fields(int status, const config::Cluster* failed) {
  const config::Fallback& fallback = *route_->fallback;
  if (fallback.ingress.empty()) return;
  http::HeaderMap& headers = request_.headers;
  headers.set("x-code", format_number(static_cast<uint64_t>(status), arena()));
  headers.set("x-format", headers.get(HeaderId::kAccept));
  headers.set("x-original-uri", original_path_);
  headers.set("x-namespace", fallback.ingress_ns);
  headers.set("x-ingress-name", fallback.ingress);
  if (!failed) return;
  const std::string_view service = failed->service;
  headers.set("x-service-name", service.substr(0, service.find('.')));
  headers.set("x-service-port", format_number(failed->port, arena()));
}

bool Exchange::hash_of(const config::HashPolicy& policy, uint64_t* hash) {
  using Source = config::HashPolicy::Source;
  std::string_view value;
  switch (policy.source) {
    case Source::kNone:
      return false;
    case Source::kHeader:
      value = request_.headers.get_joined(policy.name);
      break;
    case Source::kQuery:
      value = http::find_query(request_.path, policy.name);
      break;
    case Source::kPath:
      value = request_.path;
      break;
    case Source::kAuthority:
      value = request_.authority;
      break;
    case Source::kSourceAddress:
      *hash = mix64(client_.ip_hash());
      return true;
    case Source::kTemplate:
      value = policy.text->render(*this);
      break;
    case Source::kCookie:
      // A new client gets a value that will lead it back here.
      value = affinity_cookie(policy);
      if (value.data() == cookie_value_.data()) set_cookie_ = &policy;
      break;
  }
  if (value.empty()) return false;
  *hash = hash64(value);
  return true;
}

void Exchange::on_data(Slice data, bool end) {
  bytes_received_ += data.size();
  request_end_ = request_end_ || end;
  touch();
  if (end) upstream_activity_ms_ = last_activity_ms_;
  if (drops_request()) return;
  if (end && phase_ != Phase::kTunnel) begin_deadline();
  if (phase_ == Phase::kTunnel) {
    upstream_.send_data(std::move(data), end);
    end_tunnel_if_done();
  } else if (request_.upgrade.empty() && filters_.touches_body(Direction::kRequest)) {
    SliceQueue queue;
    queue.push_back(std::move(data));
    filters_.data(*this, Direction::kRequest, queue, end);
  } else {
    pass_request_data(std::move(data), end);
  }
  if (over()) return;
  update_request_flow();
  if (has_upstream_limits()) arm_timer();
}

bool Exchange::drops_request() const {
  if (phase_ == Phase::kTunnel) return false;
  return local_reply_ || upstream_done_ || fell_back_ || upgrade_declined_;
}

// A server that has not agreed to an upgrade would take what follows for the next request.
void Exchange::pass_request_data(Slice data, bool end) {
  if (request_.upgrade.empty()) return upstream_.send_data(std::move(data), end);
  early_.gather(std::move(data));
}

void Exchange::on_data_through(Direction direction, SliceQueue& data, bool end) {
  if (direction == Direction::kRequest) {
    if (drops_request()) return;
    while (data.count() > 1) pass_request_data(data.pop_front(), false);
    if (!data.empty() || end) pass_request_data(data.empty() ? Slice() : data.pop_front(), end);
    return;
  }
  while (data.count() > 1) send_response_data(data.pop_front(), false);
  if (!data.empty()) {
    send_response_data(data.pop_front(), end);
  } else if (end) {
    send_response_data(Slice(), true);
  }
}

void Exchange::on_trailers(const http::HeaderMap& trailers) {
  request_end_ = true;
  touch();
  if (phase_ == Phase::kTunnel) {
    upstream_.send_data(Slice(), true);
    return end_tunnel_if_done();
  }
  if (drops_request() || !request_.upgrade.empty()) return;
  begin_deadline();
  if (filters_.empty()) return upstream_.send_trailers(trailers);
  filters_.trailers(*this, Direction::kRequest, const_cast<http::HeaderMap&>(trailers));
}

void Exchange::on_trailers_through(Direction direction, const http::HeaderMap& trailers) {
  if (direction == Direction::kRequest) {
    if (!drops_request()) upstream_.send_trailers(trailers);
    return;
  }
  if (pace_ && !pace_->held.empty()) {
    auto* kept = arena().create<http::HeaderMap>(&arena());
    for (const http::HeaderField& field : trailers) {
      kept->append(field.id, arena().copy(field.name()), arena().copy(field.value()));
    }
    pace_->trailers = kept;
    return;
  }
  downstream_->send_trailers(trailers);
  end_response();
}

// Lets the client send as long as what it sends can go on.
void Exchange::update_request_flow() {
  if (!downstream_ || request_end_) return;
  const bool upgrade_pending = !request_.upgrade.empty() && !local_reply_;
  const bool pause = upgrade_pending || held_back_[0] || (!drops_request() && upstream_.buffered() > kHighWatermark);
  if (pause == downstream_paused_) return;
  downstream_paused_ = pause;
  if (pause) {
    downstream_->pause();
  } else {
    downstream_->resume();
  }
}

void Exchange::on_upstream_drained() {
  upstream_activity_ms_ = loop().now_ms();
  if (phase_ == Phase::kTunnel) end_tunnel_if_done();
  if (!over()) update_request_flow();
}

void Exchange::on_held(Direction direction, size_t bytes, bool collecting) {
  if (bytes <= buffer_limit_) return;
  if (!collecting) {
    held_back_[static_cast<int>(direction)] = true;
    if (direction == Direction::kRequest) {
      downstream_->pause();
      downstream_paused_ = true;
    } else {
      update_response_flow();
    }
    return;
  }
  if (direction == Direction::kRequest) {
    answer(413, "Payload Too Large", "request_payload_too_large", ResponseFlag::kNone);
  } else if (!head_sent_) {
    answer(502, "", "response_payload_too_large", ResponseFlag::kNone);
  } else {
    cut_off(ResponseFlag::kNone, "response_payload_too_large");
  }
}

void Exchange::resume_request(filter::Filter& self) {
  if (over() || local_reply_) return;
  held_back_[0] = false;
  filters_.resume(*this, Direction::kRequest, self);
  if (!over()) update_request_flow();
}

SliceQueue& Exchange::held_request_body(filter::Filter& self) { return filters_.held(Direction::kRequest, self); }
SliceQueue& Exchange::held_response_body(filter::Filter& self) { return filters_.held(Direction::kResponse, self); }

void Exchange::touch() { last_activity_ms_ = loop().now_ms(); }

// One timer serves both limits; it is lazy about activity: when it fires early it is armed again.
void Exchange::arm_timer() {
  uint64_t next = idle_timeout_ms_ ? last_activity_ms_ + idle_timeout_ms_ : 0;
  if (deadline_ms_ && (!next || deadline_ms_ < next)) next = deadline_ms_;
  if (has_upstream_limits()) {
    const uint64_t upstream = upstream_deadline();
    if (upstream && (!next || upstream < next)) next = upstream;
  }
  if (!next) return;
  if (timer_.armed() && timer_.deadline() <= next) return;
  loop().arm(timer_, next > loop().now_ms() ? next - loop().now_ms() : 1);
}

// When the upstream will have kept us waiting for too long; 0: we are not waiting for it.
uint64_t Exchange::upstream_deadline() {
  if (phase_ != Phase::kForwarding && phase_ != Phase::kResponding) return 0;
  if (upstream_done_ || local_reply_ || !upstream_.started()) return 0;
  const auto read = static_cast<uint64_t>(route_->read_timeout.count());
  const auto send = static_cast<uint64_t>(route_->send_timeout.count());
  // Connecting has a limit of its own; look again when it may be over.
  if (!upstream_.has_stream()) return loop().now_ms() + std::max<uint64_t>(read ? read : send, 1);
  if (phase_ == Phase::kForwarding && upstream_.buffered() > 0) return send ? upstream_activity_ms_ + send : 0;
  const bool waiting = phase_ == Phase::kResponding ? !upstream_paused_ : request_end_;
  return read && waiting ? upstream_activity_ms_ + read : 0;
}

// Ends the try if the upstream has kept us waiting for too long.
bool Exchange::upstream_timed_out(uint64_t now) {
  if (phase_ == Phase::kForwarding && upstream_.has_stream() && upstream_.buffered() > 0) {
    const uint64_t written = bytes_received_ - std::min<uint64_t>(bytes_received_, upstream_.buffered());
    if (std::exchange(upstream_written_, written) != written) upstream_activity_ms_ = now;
  }
  const uint64_t deadline = upstream_deadline();
  if (!deadline || now < deadline) return false;
  upstream_activity_ms_ = now;
  const bool sending = phase_ == Phase::kForwarding && upstream_.buffered() > 0;
  const std::string_view details = sending ? "upstream_send_timeout" : "upstream_read_timeout";
  if (phase_ == Phase::kResponding) {
    if (head_sent_) {
      cut_off(ResponseFlag::kUpstreamTimeout, details);
    } else {
      answer(504, "upstream request timeout", details, ResponseFlag::kUpstreamTimeout);
    }
  } else {
    upstream_.time_out(details);
  }
  return true;
}

void Exchange::on_timer() {
  if (over()) return;
  const uint64_t now = loop().now_ms();
  if (has_upstream_limits() && upstream_timed_out(now)) {
    if (!over()) arm_timer();
    return;
  }
  if (deadline_ms_ && now >= deadline_ms_ && !response_end_ && phase_ != Phase::kTunnel) {
    if (head_sent_) return cut_off(ResponseFlag::kUpstreamTimeout, "response_timeout");
    return answer(504, "upstream request timeout", "response_timeout", ResponseFlag::kUpstreamTimeout);
  }
  if (idle_timeout_ms_ && now >= last_activity_ms_ + idle_timeout_ms_) {
    if (head_sent_) return cut_off(ResponseFlag::kStreamIdle, "stream_idle_timeout");
    return answer(request_end_ ? 504 : 408, "stream timeout", "stream_idle_timeout", ResponseFlag::kStreamIdle);
  }
  if (phase_ == Phase::kTunnel || response_end_) deadline_ms_ = 0;
  arm_timer();
}

// The client is gone, or its stream broke.
void Exchange::on_reset(http::StreamError error, std::string_view detail) {
  if (over()) return;
  refused_status_ = downstream_->refused_status();
  if (refused_status_) ++worker_.listener_stats(is_tls()).refused_requests;
  switch (error) {
    case http::StreamError::kProtocol:
      flags_.add(ResponseFlag::kDownstreamProtocol);
      details_ = arena().copy(detail);
      break;
    case http::StreamError::kTimeout:
      flags_.add(ResponseFlag::kStreamIdle);
      details_ = head_sent_ ? "response_write_timeout" : "request_body_timeout";
      break;
    default:
      if (phase_ == Phase::kTunnel) break;
      flags_.add(ResponseFlag::kDownstreamDisconnect);
      details_ = "downstream_remote_disconnect";
  }
  close(http::StreamError::kNone, false);
}

}  // namespace sluice::proxy
