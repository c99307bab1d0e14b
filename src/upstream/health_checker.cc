#include "upstream/health_checker.h"

#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "http/http1_client.h"
#include "http/http2_client.h"
#include "net/tls.h"
#include "upstream/connector.h"

namespace sluice::upstream {
namespace {

const http::Http1ClientSettings kHttp1Settings;
const http::Http2Settings kHttp2Settings = http::Http2Settings::for_client();

// Probe connections end after one request and may outlive the check: nobody needs to be told of them.
class Nobody final : public http::ClientConnection::Observer {
  void on_available(http::ClientConnection&) override {}
  void on_draining(http::ClientConnection&) override {}
  void on_closed(http::ClientConnection&) override {}
};
Nobody nobody;

// A length-prefixed grpc.health.v1.HealthCheckRequest{service = 1}.
std::string health_request(const std::string& service) {
  std::string message;
  if (!service.empty()) {
    message += '\x0a';
    for (size_t n = service.size();; n >>= 7) {
      message += static_cast<char>(n > 127 ? (n & 127) | 128 : n);
      if (n <= 127) break;
    }
    message += service;
  }
  std::string framed(5, '\0');
  const auto size = static_cast<uint32_t>(message.size());
  for (int i = 0; i < 4; ++i) framed[static_cast<size_t>(1 + i)] = static_cast<char>(size >> (24 - 8 * i));
  return framed + message;
}

// True if a HealthCheckResponse says SERVING (field 1, varint 1).
bool is_serving(std::string_view body) {
  return body.size() >= 7 && body[0] == 0 && body[5] == '\x08' && body[6] == '\x01';
}

}  // namespace

// The state of one endpoint and, while a probe runs, the probe.
class HealthChecker::Check final : private Connector::Owner, private http::ClientHandler {
 public:
  Check(HealthChecker& checker, const config::Cluster& cluster, const net::Address& address)
      : checker_(checker), cluster_(cluster.name), address_(address) {
    configure(cluster);
    healthy_ = true;
    const auto interval = static_cast<uint32_t>(config_.interval.count());
    checker_.loop_.arm(timer_, checker_.random_.below(std::max(interval, 1u)));
  }
  ~Check() { abandon(); }
  bool healthy() const { return healthy_; }

  void configure(const config::Cluster& cluster) {
    config_ = cluster.health_check;
    tls_ = cluster.tls;
    http2_ = cluster.protocol == config::UpstreamProtocol::kHttp2 || config_.kind == config::HealthCheck::Kind::kGrpc;
  }

 private:
  void on_timer() {
    if (running_) return finish("timeout");
    running_ = true;
    checker_.loop_.arm(timer_, static_cast<uint64_t>(config_.timeout.count()));
    Connector::Options options;
    options.address = address_;
    options.timeout_ms = static_cast<uint64_t>(config_.timeout.count()) + 1000;
    options.tls = tls_;
    if (tls_) options.sni = tls_->sni.empty() ? config_.host : tls_->sni;
    connector_ = new Connector(checker_.loop_, std::move(options), *this);
    connector_->start();
  }

  void on_connected(Connector&, net::Stream stream) override {
    connector_ = nullptr;
    if (config_.kind == config::HealthCheck::Kind::kTcp) {
      checker_.loop_.remove(stream.fd());
      return finish({});
    }
    http::ClientStream* opened = nullptr;
    if (http2_ && !(stream.tls() && stream.tls()->alpn() == "http/1.1")) {
      auto* connection = new http::Http2ClientConnection(checker_.loop_, std::move(stream), kHttp2Settings, nobody);
      if (!connection->start()) {
        checker_.loop_.destroy_later(connection);
        return finish("cannot register the connection");
      }
      connection_ = connection;
      opened = connection->open(*this);
    } else {
      auto* connection = new http::Http1ClientConnection(checker_.loop_, std::move(stream), kHttp1Settings, nobody);
      if (!connection->start()) {
        checker_.loop_.destroy_later(connection);
        return finish("cannot register the connection");
      }
      connection_ = connection;
      opened = connection->open(*this);
    }
    if (!opened) return finish("cannot open a stream");
    stream_ = opened;
    send_request();
  }

  void send_request() {
    const bool grpc = config_.kind == config::HealthCheck::Kind::kGrpc;
    http::RequestHead head;
    head.headers = http::HeaderMap(&arena_);
    head.method = grpc ? http::Method::kPost : http::Method::kGet;
    head.method_text = grpc ? "POST" : "GET";
    head.scheme = tls_ ? "https" : "http";
    authority_ = config_.host.empty() ? address_.to_string() : config_.host;
    head.authority = authority_;
    head.path = grpc ? std::string_view("/grpc.health.v1.Health/Check") : std::string_view(config_.path);
    head.headers.add(http::HeaderId::kUserAgent, "sluice-health-check");
    if (grpc) {
      head.headers.add(http::HeaderId::kContentType, "application/grpc");
      head.headers.add(http::HeaderId::kTe, "trailers");
    }
    stream_->send_head(head, !grpc);
    if (grpc) stream_->send_data(Slice::copy(health_request(config_.grpc_service)), true);
  }

  void on_connect_failed(Connector&, http::StreamError, std::string detail) override {
    connector_ = nullptr;
    finish(detail.empty() ? "connect failed" : detail);
  }

  // http::ClientHandler
  Arena& arena() override { return arena_; }
  void on_informational(http::ResponseHead&) override {}
  void on_response(http::ResponseHead& head, bool end) override {
    status_ = head.status;
    grpc_status_ = std::string(head.headers.get(http::HeaderId::kGrpcStatus));
    if (end) judge();
  }
  void on_data(Slice data, bool end) override {
    if (body_.size() < 1024) body_.append(data.view().substr(0, 1024 - body_.size()));
    if (end) judge();
  }
  void on_trailers(const http::HeaderMap& trailers) override {
    grpc_status_ = std::string(trailers.get(http::HeaderId::kGrpcStatus));
    judge();
  }
  void on_drained() override {}
  void on_reset(http::StreamError error, std::string_view detail) override {
    stream_ = nullptr;
    finish(detail.empty() ? std::string(http::stream_error_name(error)) : std::string(detail));
  }

  void judge() {
    if (config_.kind == config::HealthCheck::Kind::kGrpc) {
      if (status_ != 200) return finish("HTTP status " + std::to_string(status_));
      if (grpc_status_ != "0") return finish("grpc-status " + (grpc_status_.empty() ? "missing" : grpc_status_));
      return finish(is_serving(body_) ? "" : "not SERVING");
    }
    if (status_ < config_.expected_status_min || status_ > config_.expected_status_max) {
      return finish("status " + std::to_string(status_));
    }
    finish({});
  }

  // Drops whatever of the probe is still there.
  void abandon() {
    if (connector_) std::exchange(connector_, nullptr)->cancel();
    if (stream_) std::exchange(stream_, nullptr)->reset(http::StreamError::kCancelled);
    if (connection_) std::exchange(connection_, nullptr)->drain();
    arena_.reset();
    body_.clear();
    grpc_status_.clear();
    status_ = 0;
    running_ = false;
  }

  void finish(std::string failure) {
    abandon();
    const auto interval = static_cast<uint64_t>(config_.interval.count());
    checker_.loop_.arm(timer_, std::max<uint64_t>(interval, 10));
    const bool good = failure.empty();
    in_a_row_ = good == last_good_ ? in_a_row_ + 1 : 1;
    last_good_ = good;
    const uint32_t threshold = good ? config_.healthy_threshold : config_.unhealthy_threshold;
    if (good == healthy_ || in_a_row_ < threshold) return;
    healthy_ = good;
    checker_.verdict_(cluster_, address_, healthy_, failure);
  }

  HealthChecker& checker_;
  const std::string cluster_;
  const net::Address address_;
  config::HealthCheck config_;
  std::shared_ptr<const config::UpstreamTls> tls_;
  bool http2_ = false;
  bool healthy_ = true;
  bool last_good_ = true;
  uint32_t in_a_row_ = 0;

  bool running_ = false;
  Connector* connector_ = nullptr;
  http::ClientConnection* connection_ = nullptr;  // while the probe's stream is open
  http::ClientStream* stream_ = nullptr;
  Arena arena_;
  std::string authority_;
  std::string body_;
  std::string grpc_status_;
  int status_ = 0;
  event::MemberTimer<Check, &Check::on_timer> timer_{this};
};

HealthChecker::HealthChecker(event::Loop& loop, Verdict verdict)
    : loop_(loop), verdict_(std::move(verdict)), random_(loop.now_ns()) {}

HealthChecker::~HealthChecker() = default;

void HealthChecker::update(const config::Snapshot& snapshot) {
  std::set<Key> wanted;
  snapshot.clusters.for_each([&](const config::Cluster& cluster) {
    if (cluster.health_check.kind == config::HealthCheck::Kind::kNone) return;
    for (const config::Endpoint& endpoint : cluster.endpoints->endpoints) {
      Key key{cluster.name, endpoint.address};
      auto& check = checks_[key];
      if (check) {
        check->configure(cluster);
      } else {
        check = std::make_unique<Check>(*this, cluster, endpoint.address);
      }
      wanted.insert(std::move(key));
    }
  });
  std::vector<Key> forgiven;
  std::erase_if(checks_, [&](const auto& entry) {
    const bool gone = !wanted.contains(entry.first);
    if (gone && !entry.second->healthy()) forgiven.push_back(entry.first);
    return gone;
  });
  for (const auto& [cluster, address] : forgiven) verdict_(cluster, address, true, "not checked any more");
}

}  // namespace sluice::upstream
