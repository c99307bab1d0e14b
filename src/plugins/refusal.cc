#include "plugins/refusal.h"

namespace sluice::plugins {
namespace {

class Refusal final : public filter::Filter {
 public:
  filter::Status on_request_headers(filter::Context& context, bool end) override {
    context.send_local_reply({.status = 503, .body = "", .details = "route_refused_by_configuration"});
    return filter::Status::kPause;
  }
};

class Factory final : public filter::Factory {
 public:
  std::string_view name() const override { return "refusal"; }
  filter::Filter* create(filter::Context& context) const override { return context.arena().create<Refusal>(); }
};

}  // namespace

FactoryPointer refusal() {
  static const FactoryPointer kFactory = std::make_shared<Factory>();
  return kFactory;
}

}  // namespace sluice::plugins
