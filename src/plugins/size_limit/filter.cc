#include "plugins/size_limit/filter.h"

namespace sluice::plugins::size_limit {
namespace {

size_t head_bytes(const http::HeaderMap& headers) {
  size_t bytes = 0;
  for (const http::HeaderField& field : headers) bytes += field.name_size + field.value_size + 4;
  return bytes;
}

class SizeLimit final : public filter::Filter {
 public:
  explicit SizeLimit(const Config& config) : config_(config) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    const int64_t most = config_.request_body_bytes;
    return most && context.request().content_length > most ? refuse(context) : filter::Status::kContinue;
  }

  filter::Status on_request_body(filter::Context& context, SliceQueue& data, bool end) override {
    received_ += data.bytes();
    return received_ > static_cast<uint64_t>(config_.request_body_bytes) ? refuse(context) : filter::Status::kContinue;
  }

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    const auto most = static_cast<uint64_t>(config_.response_head_bytes);
    if (!most || refused_ || head_bytes(context.response().headers) <= most) return filter::Status::kContinue;
    context.send_local_reply({.status = 502, .details = "response_head_too_large"});
    return filter::Status::kPause;
  }

 private:
  filter::Status refuse(filter::Context& context) {
    refused_ = true;
    context.send_local_reply(
        {.status = 413, .body = "Payload Too Large", .details = "request_body_larger_than_the_route_allows"});
    return filter::Status::kPause;
  }

  const Config& config_;
  uint64_t received_ = 0;
  bool refused_ = false;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(const Config& config) : config_(config) {}

  std::string_view name() const override { return "size-limit"; }
  filter::Filter* create(filter::Context& context) const override { return context.arena().create<SizeLimit>(config_); }
  bool wants_request_body() const override { return config_.request_body_bytes != 0; }

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
  return {"size-limit", parse, "Bounds request bodies and response heads.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::size_limit
