#include "proxy/upstream_request.h"

#include <algorithm>
#include <charconv>

namespace sluice::proxy {
namespace {

using config::RetryPolicy;
using http::StreamError;

std::string_view reset_reason(StreamError error) {
  switch (error) {
    case StreamError::kConnectFailed:
      return "connection failure";
    case StreamError::kTimeout:
      return "connection timeout";
    case StreamError::kRefused:
      return "remote refused stream reset";
    case StreamError::kReset:
    case StreamError::kNoError:
      return "remote reset";
    case StreamError::kProtocol:
      return "protocol error";
    case StreamError::kOverload:
      return "overflow";
    default:
      return "connection termination";
  }
}

std::string_view host_of(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  if (colon == std::string_view::npos || authority.find(']', colon) != std::string_view::npos) return authority;
  return authority.substr(0, colon);
}

}  // namespace

UpstreamRequest::UpstreamRequest(event::Loop& loop, Random& random, Owner& owner)
    : owner_(owner), loop_(loop), random_(random) {}

UpstreamRequest::~UpstreamRequest() { cancel(); }

void UpstreamRequest::start(const Target& target, http::RequestHead& head, bool end) {
  target_ = target;
  head_ = &head;
  request_end_ = end;
  tried_count_ = closing_races_ = 0;
  attempts_ = retries_ = 0;
  last_status_ = 0;
  trailers_ = nullptr;
  dropped_ = response_started_ = fresh_connection_ = paused_ = false;
  begin_try();
}

void UpstreamRequest::begin_try() {
  upstream::ClusterState& cluster = *target_.cluster;
  const config::CircuitBreaker& limits = cluster.config().circuit_breaker;
  if (cluster.counters.requests >= limits.max_requests || cluster.counters.pending >= limits.max_pending) {
    return fail({503, ResponseFlag::kUpstreamOverflow, false,
                 "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                 "upstream_overflow", "overflow"});
  }
  endpoint_ = std::exchange(target_.pinned, nullptr);
  if (!endpoint_ || !endpoint_->usable()) {
    endpoint_ = cluster.choose(target_.has_hash, target_.hash, {tried_, tried_count_});
  }
  if (!endpoint_) {
    return fail({503, ResponseFlag::kNoHealthyUpstream, false, "no healthy upstream", "no_healthy_upstream", {}});
  }
  cluster.begin_request(*endpoint_);
  ++attempts_;
  endpoint_text_ = owner_.upstream_arena().copy(endpoint_->address_text);
  try_started_ns_ = loop_.now_ns();
  if (attempts_ == 1) first_try_ns_ = try_started_ns_;
  if (request_end_) begin_try_timeout();

  upstream::StreamNeeds needs;
  needs.replayable = http::is_idempotent(head_->method) && !dropped_ && request_end_;
  needs.sni = host_of(head_->authority);
  needs.proxy_header = target_.proxy_header;
  needs.fresh_connection = fresh_connection_;
  upstream::Pool* pool = cluster.pool_for(*endpoint_, needs.sni);
  if (!pool) {
    end_try({});
    return fail({503, ResponseFlag::kUpstreamOverflow, false,
                 "upstream connect error or disconnect/reset before headers. reset reason: overflow",
                 "upstream_overflow", "too many hosts at a TLS endpoint"});
  }
  waiting_ = true;
  if (http::ClientStream* stream = pool->acquire(*this, needs)) on_stream_ready(*stream);
}

// The time is the upstream's: it begins when the upstream can have the whole request.
void UpstreamRequest::begin_try_timeout() {
  if (!endpoint_ || response_started_) return;
  const auto timeout = static_cast<uint64_t>(target_.retry->per_try_timeout.count());
  if (timeout) loop_.arm(try_timer_, timeout);
}

void UpstreamRequest::on_stream_ready(http::ClientStream& stream) {
  waiting_ = false;
  use_stream(stream);
}

void UpstreamRequest::use_stream(http::ClientStream& stream) {
  stream_ = &stream;
  char count[12];
  const auto end = std::to_chars(count, count + sizeof(count), attempts_).ptr;
  head_->headers.set(
      http::HeaderId::kXEnvoyAttemptCount,
      attempts_ == 1 ? std::string_view("1") : owner_.upstream_arena().copy({count, static_cast<size_t>(end - count)}));
  const bool head_only = request_end_ && kept_.empty() && !trailers_;
  stream.send_head(*head_, head_only);
  if (paused_) stream.pause();
  if (head_only) return;
  const bool body_complete = request_end_ && !trailers_;
  const bool keep = !dropped_ && kept_.bytes() <= target_.retry->max_replay_bytes && may_repeat();
  for (size_t i = 0, n = kept_.count(); i < n; ++i) {
    stream.send_data(kept_[i], body_complete && i + 1 == n);
  }
  if (kept_.empty() && body_complete) stream.send_data(Slice(), true);
  if (trailers_) stream.send_trailers(*trailers_);
  if (!keep && !kept_.empty()) {
    kept_.clear();
    dropped_ = true;
  }
}

bool UpstreamRequest::may_repeat() const {
  return retries_ < std::max<uint32_t>(target_.retry->max_retries, 1) || closing_races_ < 3;
}

void UpstreamRequest::send_data(Slice data, bool end) {
  if (end && !std::exchange(request_end_, true)) begin_try_timeout();
  if (!stream_) {
    kept_.gather(std::move(data));
    return;
  }
  if (!dropped_) {
    if (!response_started_ && kept_.bytes() + data.size() <= target_.retry->max_replay_bytes && may_repeat()) {
      kept_.gather(data);
    } else {
      kept_.clear();
      dropped_ = true;
    }
  }
  stream_->send_data(std::move(data), end);
}

void UpstreamRequest::send_trailers(const http::HeaderMap& trailers) {
  request_end_ = true;
  begin_try_timeout();
  Arena& arena = owner_.upstream_arena();
  auto* kept = arena.create<http::HeaderMap>(&arena);
  for (const http::HeaderField& field : trailers) {
    kept->append(field.id, arena.copy(field.name()), arena.copy(field.value()));
  }
  trailers_ = kept;
  if (stream_) stream_->send_trailers(*kept);
}

size_t UpstreamRequest::buffered() const { return stream_ ? stream_->buffered() : kept_.bytes(); }

void UpstreamRequest::pause() {
  paused_ = true;
  if (stream_) stream_->pause();
}

void UpstreamRequest::resume() {
  paused_ = false;
  if (stream_) stream_->resume();
}

void UpstreamRequest::end_try(const upstream::TryResult& result) {
  try_timer_.cancel();
  if (waiting_) {
    stop_waiting();
    waiting_ = false;
  }
  if (endpoint_) {
    if (tried_count_ < std::size(tried_)) tried_[tried_count_++] = endpoint_;
    target_.cluster->end_request(*endpoint_, result);
    endpoint_ = nullptr;
  }
}

void UpstreamRequest::cancel() {
  backoff_timer_.cancel();
  if (stream_) {
    stream_->reset(StreamError::kCancelled);
    stream_ = nullptr;
  }
  end_try({});
  if (retry_counted_) {
    --target_.cluster->counters.retries;
    retry_counted_ = false;
  }
  kept_.clear();
}

void UpstreamRequest::finish() {
  if (stream_) {
    stream_->detach();
    stream_ = nullptr;
  }
  end_try({last_status_, false});
  cancel();
}

void UpstreamRequest::compact() {
  endpoint_text_ = local_text_ = {};
  trailers_ = nullptr;
  head_ = nullptr;
  target_.proxy_header = {};
}

void UpstreamRequest::fail(const UpstreamFailure& failure) {
  UpstreamFailure final_failure = failure;
  final_failure.retries_exhausted = retries_ > 0 && retries_ >= target_.retry->max_retries;
  cancel();
  owner_.on_upstream_failed(final_failure);
}

void UpstreamRequest::on_stream_failed(StreamError error, std::string_view detail) {
  waiting_ = false;
  fail_connect(error, detail);
}

void UpstreamRequest::fail_connect(StreamError error, std::string_view detail) {
  Arena& arena = owner_.upstream_arena();
  const std::string_view transport = arena.copy(detail);
  end_try({0, true});
  if (retry(RetryPolicy::kOnConnectFailure | RetryPolicy::kOn5xx | RetryPolicy::kOnReset, true, 0)) return;
  const std::string_view reason =
      arena.concat("upstream connect error or disconnect/reset before headers. reset reason: ", reset_reason(error));
  fail({503, ResponseFlag::kUpstreamConnectFailure, false, reason,
        error == StreamError::kTimeout ? std::string_view("upstream_reset_before_response_started{connection_timeout}")
                                       : std::string_view("upstream_reset_before_response_started{connection_failure}"),
        transport});
}

bool UpstreamRequest::retry(uint32_t reasons, bool certainly_unprocessed, int status) {
  const RetryPolicy& policy = *target_.retry;
  if (dropped_ || response_started_) return false;
  uint32_t on = policy.on;
  if (status && std::find(policy.statuses.begin(), policy.statuses.end(), status) != policy.statuses.end() &&
      (on & RetryPolicy::kOnStatus)) {
    reasons |= RetryPolicy::kOnStatus;
  }
  if (!(on & reasons)) return false;
  if (!certainly_unprocessed && !http::is_idempotent(head_->method) && !(on & RetryPolicy::kNonIdempotent))
    return false;
  if (retries_ >= policy.max_retries) return false;
  const auto total_ns = static_cast<uint64_t>(std::chrono::nanoseconds(policy.total_timeout).count());
  if (total_ns && loop_.now_ns() - first_try_ns_ >= total_ns) return false;
  upstream::ClusterState& cluster = *target_.cluster;
  if (!retry_counted_) {
    if (cluster.counters.retries >= cluster.config().circuit_breaker.max_retries) return false;
    ++cluster.counters.retries;
    retry_counted_ = true;
  }
  // Full jitter over an exponentially growing interval.
  const auto base = static_cast<uint64_t>(std::max<int64_t>(policy.backoff_base.count(), 1));
  const auto ceiling = static_cast<uint64_t>(std::max<int64_t>(policy.backoff_max.count(), 1));
  const uint64_t span = std::min(base << std::min<uint32_t>(retries_, 16), ceiling);
  ++retries_;
  loop_.arm(backoff_timer_, random_.below(static_cast<uint32_t>(span)) + (span > 1 ? 1 : 0));
  return true;
}

void UpstreamRequest::on_backoff() { begin_try(); }

void UpstreamRequest::on_try_timeout() { time_out("upstream_per_try_timeout"); }

void UpstreamRequest::time_out(std::string_view details) {
  if (stream_) {
    stream_->reset(StreamError::kTimeout);
    stream_ = nullptr;
  }
  end_try({0, true});
  if (retry(RetryPolicy::kOnReset | RetryPolicy::kOn5xx | RetryPolicy::kOnGatewayError, false, 504)) return;
  fail({504, ResponseFlag::kUpstreamTimeout, false, "upstream request timeout", details, {}});
}

void UpstreamRequest::on_reset(StreamError error, std::string_view detail) {
  http::ClientStream* stream = std::exchange(stream_, nullptr);
  const bool unprocessed = error == StreamError::kRefused || (stream && stream->certainly_unprocessed());
  const bool reused = stream && stream->on_reused_connection();
  Arena& arena = owner_.upstream_arena();
  const std::string_view transport = arena.copy(detail);

  // A kept connection that the server closed just as we used it says nothing about the server: try a new connection, if
  // nothing can be done twice by that.
  if (!response_started_ && error == StreamError::kConnectionClosed && reused && !dropped_ && closing_races_ < 3 &&
      (unprocessed || http::is_idempotent(head_->method))) {
    ++closing_races_;
    fresh_connection_ = true;
    end_try({});
    tried_count_ = 0;
    return begin_try();
  }
  end_try({0, true});
  const uint32_t reasons = error == StreamError::kRefused
                               ? RetryPolicy::kOnRefusedStream | RetryPolicy::kOn5xx | RetryPolicy::kOnReset
                               : RetryPolicy::kOnReset | RetryPolicy::kOn5xx;
  if (retry(reasons, unprocessed, 0)) return;
  const bool protocol = error == StreamError::kProtocol;
  UpstreamFailure failure;
  failure.status = protocol ? 502 : 503;
  failure.flag = protocol                                                         ? ResponseFlag::kUpstreamProtocol
                 : error == StreamError::kReset || error == StreamError::kRefused ? ResponseFlag::kUpstreamReset
                                                                                  : ResponseFlag::kUpstreamClosed;
  failure.body =
      arena.concat("upstream connect error or disconnect/reset before headers. reset reason: ", reset_reason(error));
  failure.details = protocol ? "upstream_reset_before_response_started{protocol_error}"
                             : "upstream_reset_before_response_started{connection_termination}";
  failure.transport = transport;
  fail(failure);
}

bool UpstreamRequest::status_is_retriable(const http::ResponseHead& head, bool end) const {
  return head.status >= 500 || (end && head.headers.has(http::HeaderId::kGrpcStatus)) ||
         std::find(target_.retry->statuses.begin(), target_.retry->statuses.end(), head.status) !=
             target_.retry->statuses.end();
}

void UpstreamRequest::on_informational(http::ResponseHead& head) { owner_.on_upstream_informational(head); }

void UpstreamRequest::on_response(http::ResponseHead& head, bool end) {
  if (local_text_.empty()) {
    char text[net::Address::kMaxIpText];
    const size_t n = stream_->local_address().format(text);
    local_text_ = owner_.upstream_arena().copy({text, n});
  }
  if (head.status < 500 && target_.cluster->config().load_balancing == config::LoadBalancing::kPeakEwma) {
    endpoint_->latency.observe(loop_.now_ns(), loop_.now_ns() - try_started_ns_);
  }
  if (status_is_retriable(head, end)) {
    uint32_t reasons = 0;
    if (head.status >= 500) reasons |= RetryPolicy::kOn5xx;
    if (head.status >= 502 && head.status <= 504) reasons |= RetryPolicy::kOnGatewayError;
    if (end) {
      const std::string_view grpc = head.headers.get(http::HeaderId::kGrpcStatus);
      if (grpc == "14") reasons |= RetryPolicy::kOnUnavailable;
      if (grpc == "1") reasons |= RetryPolicy::kOnCancelled;
    }
    http::ClientStream* stream = stream_;
    if (retry(reasons, false, head.status)) {
      // The response of this try is not wanted any more.
      stream_ = nullptr;
      if (end) {
        stream->detach();
      } else {
        stream->reset(StreamError::kCancelled);
      }
      end_try({head.status, false});
      return;
    }
  }
  response_started_ = true;
  try_timer_.cancel();
  kept_.clear();
  dropped_ = dropped_ || !request_end_;
  last_status_ = head.status;
  owner_.on_upstream_response(head, end);
}

void UpstreamRequest::on_data(Slice data, bool end) { owner_.on_upstream_data(std::move(data), end); }

void UpstreamRequest::on_trailers(const http::HeaderMap& trailers) { owner_.on_upstream_trailers(trailers); }

void UpstreamRequest::on_drained() { owner_.on_upstream_drained(); }

}  // namespace sluice::proxy
