#include "plugins/local_rate_limit/filter.h"

#include "event/loop.h"
#include "plugins/local_rate_limit/token_bucket.h"

namespace sluice::plugins::local_rate_limit {
namespace {

class LocalRateLimit final : public filter::Filter {
 public:
  explicit LocalRateLimit(TokenBucket& bucket) : bucket_(bucket) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    if (bucket_.take(context.loop().now_ns())) return filter::Status::kContinue;
    context.add_flag(filter::ResponseFlag::kRateLimited);
    context.send_local_reply(
        {.status = 429, .body = "local_rate_limited", .details = "local_rate_limited"},
        [](http::HeaderMap& headers, const void*) { headers.add(http::HeaderId::kXLocalRateLimit, "true"); });
    return filter::Status::kPause;
  }

 private:
  TokenBucket& bucket_;
};

// Holds the bucket: it lives as long as the configuration stays the same, on all workers.
class Factory final : public filter::Factory {
 public:
  explicit Factory(const Config& config)
      : bucket_(static_cast<uint64_t>(config.bucket_size()), static_cast<uint64_t>(config.fill_tokens()),
                static_cast<uint64_t>(config.interval_ms()) * 1'000'000) {}

  std::string_view name() const override { return "local-rate-limit"; }
  filter::Filter* create(filter::Context& context) const override {
    return context.arena().create<LocalRateLimit>(bucket_);
  }

 private:
  mutable TokenBucket bucket_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<Factory>(*config));
}

}  // namespace

Plugin plugin() {
  return {"local-rate-limit", parse, "Refuses requests beyond a rate, counted in this process.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::local_rate_limit
