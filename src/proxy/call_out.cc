#include "proxy/call_out.h"

#include <charconv>

#include "proxy/upstream_request.h"
#include "proxy/worker.h"

namespace sluice::proxy {
namespace {

const config::RetryPolicy kRetry;

class CallOut final : public filter::CallReceiver::Call, private UpstreamRequest::Owner, public event::Destroyable {
 public:
  // `receiver` is null if nobody wants the answer.
  CallOut(Worker& worker, const config::Snapshot& snapshot, const filter::HttpCall& call,
          filter::CallReceiver* receiver)
      : worker_(worker),
        receiver_(receiver),
        unattended_(!receiver),
        max_response_bytes_(call.max_response_bytes),
        upstream_(worker.loop(), worker.random(), *this) {
    if (receiver) receiver->attach(this);
    if (unattended_) worker.unattended_calls().insert(this);
    const uint32_t* slot = snapshot.cluster_slots.find(call.cluster);
    cluster_ = slot ? worker.clusters().get(snapshot, *slot) : nullptr;
    worker.loop().arm(timer_, cluster_ ? call.timeout_ms : 0);
    if (!cluster_) {
      result_.error = "no cluster " + std::string(call.cluster);
      return;
    }
    head_.headers = http::HeaderMap(&arena_);
    head_.method_text = arena_.copy(call.method);
    head_.method = http::parse_method(head_.method_text);
    head_.scheme = cluster_->config().tls ? "https" : "http";
    head_.authority =
        arena_.copy(call.authority.empty() ? std::string_view(cluster_->config().service) : call.authority);
    head_.path = arena_.copy(call.path);
    for (const auto& [name, value] : call.headers) head_.headers.add(arena_.copy(name), arena_.copy(value));
    if (!call.body.empty()) {
      head_.content_length = static_cast<int64_t>(call.body.size());
      body_ = Slice::copy(call.body);
    }
    ++cluster_->counters.pending;  // keeps the cluster's state alive until begin()
    start_.run(worker.loop());
  }

  void give_up() override {
    receiver_ = nullptr;
    end();
  }

 private:
  // The first try starts after the current callback: a failure must not be told from inside Context::call().
  class Start final : public event::Task {
   public:
    explicit Start(CallOut* owner) : owner_(owner) {}
    void run(event::Loop& loop) { loop.run_soon(*this); }
    void stop() { owner_ = nullptr; }

   private:
    void run_task() override {
      if (owner_) owner_->begin();
    }
    CallOut* owner_;
  };

  void begin() {
    --cluster_->counters.pending;
    started_ = true;
    UpstreamRequest::Target target;
    target.cluster = cluster_;
    target.retry = &kRetry;
    const bool has_body = !body_.empty();
    upstream_.start(target, head_, !has_body);
    if (has_body && !ended_) upstream_.send_data(std::move(body_), true);
  }

  void on_timer() {
    if (result_.error.empty()) result_.error = "timeout";
    deliver(false);
  }

  Arena& upstream_arena() override { return arena_; }
  void on_upstream_informational(http::ResponseHead&) override {}
  void on_upstream_response(http::ResponseHead& head, bool end) override {
    result_.status = head.status;
    read_grpc_status(head.headers);
    result_.headers = &head.headers;
    if (end) deliver(true);
  }
  void on_upstream_data(Slice data, bool end) override {
    if (unattended_) {
      if (end) deliver(true);
      return;
    }
    if (result_.body.size() + data.size() > max_response_bytes_) {
      result_.error = "response larger than " + std::to_string(max_response_bytes_) + " bytes";
      return deliver(false);
    }
    result_.body.append(data.view());
    if (end) deliver(true);
  }
  void on_upstream_trailers(const http::HeaderMap& trailers) override {
    read_grpc_status(trailers);
    deliver(true);
  }
  void on_upstream_drained() override {}
  void on_upstream_failed(const UpstreamFailure& failure) override {
    result_.error = failure.body.empty() ? std::string(failure.details) : std::string(failure.body);
    deliver(false);
  }

  void read_grpc_status(const http::HeaderMap& fields) {
    const std::string_view text = fields.get(http::HeaderId::kGrpcStatus);
    if (!text.empty()) std::from_chars(text.data(), text.data() + text.size(), result_.grpc_status);
  }

  void deliver(bool ok) {
    if (ended_) return;
    result_.ok = ok;
    if (ok) upstream_.finish();
    filter::CallReceiver* receiver = std::exchange(receiver_, nullptr);
    if (receiver) {
      receiver->attach(nullptr);
      receiver->on_call_result(result_);
    }
    end();
  }

  void end() {
    if (ended_) return;
    ended_ = true;
    if (unattended_) worker_.unattended_calls().erase(this);
    if (cluster_ && !std::exchange(started_, true)) --cluster_->counters.pending;
    start_.stop();
    timer_.cancel();
    upstream_.cancel();
    worker_.loop().destroy_later(this);
  }

  Worker& worker_;
  filter::CallReceiver* receiver_;
  const bool unattended_;
  const size_t max_response_bytes_;
  upstream::ClusterState* cluster_ = nullptr;
  Arena arena_;
  http::RequestHead head_;
  Slice body_;
  filter::HttpCallResult result_;
  UpstreamRequest upstream_;
  Start start_{this};
  event::MemberTimer<CallOut, &CallOut::on_timer> timer_{this};
  bool started_ = false;
  bool ended_ = false;
};

}  // namespace

void start_call_out(Worker& worker, const config::Snapshot& snapshot, const filter::HttpCall& call,
                    filter::CallReceiver& receiver) {
  new CallOut(worker, snapshot, call, &receiver);  // destroys itself
}

void send_call_out(Worker& worker, const config::Snapshot& snapshot, const filter::HttpCall& call) {
  constexpr uint32_t kMost = 256;
  if (worker.unattended_calls().size() < kMost) new CallOut(worker, snapshot, call, nullptr);
}

}  // namespace sluice::proxy
