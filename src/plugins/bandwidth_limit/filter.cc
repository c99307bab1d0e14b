#include "plugins/bandwidth_limit/filter.h"

#include "plugins/state_factory.h"

namespace sluice::plugins::bandwidth_limit {
namespace {

class BandwidthLimit final : public filter::Filter {
 public:
  explicit BandwidthLimit(const Config& config) : config_(config) {}

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    if (!end) {
      context.limit_response_rate(static_cast<uint64_t>(config_.bytes_per_second),
                                  static_cast<uint64_t>(config_.after_bytes));
    }
    return filter::Status::kContinue;
  }

 private:
  const Config& config_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  return parse_state<BandwidthLimit, Config>("bandwidth-limit", schema(), node);
}

}  // namespace

Plugin plugin() {
  return {"bandwidth-limit", parse, "Slows responses down.", []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::bandwidth_limit
