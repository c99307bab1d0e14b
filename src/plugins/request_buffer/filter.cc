#include "plugins/request_buffer/filter.h"

namespace sluice::plugins::request_buffer {
namespace {

class RequestBuffer final : public filter::Filter {
 public:
  explicit RequestBuffer(const Config& config) : config_(config) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    const http::RequestHead& request = context.request();
    if (end || request.content_length >= 0 || !request.upgrade.empty()) return filter::Status::kContinue;
    collecting_ = true;
    context.set_buffer_limit(static_cast<size_t>(config_.max_bytes));
    return filter::Status::kPause;
  }

  filter::Status on_request_body(filter::Context& context, SliceQueue& data, bool end) override {
    if (!collecting_) return filter::Status::kContinue;
    bytes_ += static_cast<int64_t>(data.bytes());
    // At the end the limit is still to be looked at: what goes on is not held any more.
    if (!end || bytes_ > config_.max_bytes) return filter::Status::kPause;
    release(context);
    return filter::Status::kContinue;
  }

  // Of a body of known length there are none.
  filter::Status on_request_trailers(filter::Context& context, http::HeaderMap& trailers) override {
    if (collecting_) release(context);
    return filter::Status::kContinue;
  }

 private:
  void release(filter::Context& context) {
    collecting_ = false;
    context.request().content_length = bytes_;
    context.resume_request(*this);
  }

  const Config& config_;
  int64_t bytes_ = 0;
  bool collecting_ = false;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(const Config& config) : config_(config) {}

  std::string_view name() const override { return "request-buffer"; }
  filter::Filter* create(filter::Context& context) const override {
    return context.arena().create<RequestBuffer>(config_);
  }
  bool wants_request_body() const override { return true; }

 private:
  const Config config_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<Factory>(*config));
}

}  // namespace

Plugin plugin() {
  return {"request-buffer", parse,
          "Reads request bodies of unknown length whole, so that the upstream is told their length.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::request_buffer
