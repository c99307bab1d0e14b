#include "plugins/fault/filter.h"

#include <atomic>

#include "event/loop.h"
#include "plugins/message_edit.h"

namespace sluice::plugins::fault {
namespace {

using http::HeaderId;

// Percentages in parts of a million.
constexpr uint64_t kWhole = 1'000'000;

uint64_t parts(double percentage) { return static_cast<uint64_t>(percentage * (kWhole / 100.0) + 0.5); }

// What a client that doesn't speak gRPC is told (google/rpc/code.proto, "HTTP Mapping").
int http_status_of(int64_t grpc_status) {
  static constexpr int kStatus[] = {200, 499, 500, 400, 504, 404, 409, 403, 429,
                                    400, 409, 400, 501, 500, 503, 500, 401};
  return kStatus[grpc_status];
}

struct Plan {
  explicit Plan(const Config& config)
      : delay_ms(static_cast<uint64_t>(config.delay.fixed_ms)),
        delay_parts(config.delay.fixed_ms ? parts(config.delay.percentage) : 0),
        abort_status(static_cast<int>(config.abort.status)),
        grpc_status(config.abort.grpc_status),
        grpc_status_text(std::to_string(config.abort.grpc_status)),
        abort_parts(config.abort.given() ? parts(config.abort.percentage) : 0),
        header(config.header),
        header_id(http::find_header_id(config.header.name)),
        max_active(config.max_active) {}

  uint64_t delay_ms;
  uint64_t delay_parts;
  int abort_status;
  int64_t grpc_status;
  std::string grpc_status_text;
  uint64_t abort_parts;
  Header header;
  HeaderId header_id;
  int64_t max_active;

  // Of all workers.
  mutable std::atomic<int64_t> active{0};
};

class Fault final : public filter::Filter {
 public:
  Fault(const Plan& plan, bool delay, bool abort) : plan_(plan), delay_(delay), abort_(abort) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    if (delay_ && enter()) {
      context_ = &context;
      context.add_flag(filter::ResponseFlag::kDelayInjected);
      context.loop().arm(timer_, plan_.delay_ms);
      return filter::Status::kPause;
    }
    if (!abort_) return filter::Status::kContinue;
    abort(context);
    return filter::Status::kPause;
  }

  void on_complete(filter::Context& context) override {
    timer_.cancel();
    leave();
  }

 private:
  bool enter() {
    if (plan_.active.fetch_add(1, std::memory_order_relaxed) < plan_.max_active) return waiting_ = true;
    plan_.active.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }

  void leave() {
    if (waiting_) plan_.active.fetch_sub(1, std::memory_order_relaxed);
    waiting_ = false;
  }

  void on_timer() {
    leave();
    if (abort_) {
      abort(*context_);
    } else {
      context_->resume_request(*this);
    }
  }

  void abort(filter::Context& context) {
    context.add_flag(filter::ResponseFlag::kFaultInjected);
    const bool grpc = plan_.grpc_status && http::is_grpc(context.request());
    filter::LocalReply reply{.status = plan_.grpc_status ? http_status_of(plan_.grpc_status) : plan_.abort_status,
                             .body = "fault filter abort",
                             .details = "fault_filter_abort"};
    context.send_local_reply(
        reply,
        [](http::HeaderMap& headers, const void* text) {
          if (text) headers.set(HeaderId::kGrpcStatus, *static_cast<const std::string*>(text));
        },
        grpc ? &plan_.grpc_status_text : nullptr);
  }

  const Plan& plan_;
  filter::Context* context_ = nullptr;
  const bool delay_;
  const bool abort_;
  bool waiting_ = false;
  event::MemberTimer<Fault, &Fault::on_timer> timer_{this};
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(const Config& config) : plan_(config) {}

  std::string_view name() const override { return "fault"; }
  filter::Filter* create(filter::Context& context) const override {
    if (!plan_.header.name.empty() && !asked_for(context.request().headers)) return nullptr;
    const bool delay = hit(plan_.delay_parts, context.random());
    const bool abort = hit(plan_.abort_parts, context.random());
    if (!delay && !abort) return nullptr;
    return context.arena().create<Fault>(plan_, delay, abort);
  }

 private:
  bool asked_for(const http::HeaderMap& headers) const {
    const http::HeaderField* field =
        plan_.header_id == HeaderId::kOther ? headers.find(plan_.header.name) : headers.find(plan_.header_id);
    return field && (plan_.header.value.empty() || field->value() == plan_.header.value);
  }

  static bool hit(uint64_t share, Random& random) {
    if (share == 0 || share >= kWhole) return share != 0;
    return random.below(kWhole) < share;
  }

  const Plan plan_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<Factory>(*config));
}

}  // namespace

Plugin plugin() {
  return {"fault", parse, "Delays and aborts requests on purpose.", []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::fault
