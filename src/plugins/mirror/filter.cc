#include "plugins/mirror/filter.h"

#include <vector>

#include "filter/call.h"

namespace sluice::plugins::mirror {
namespace {

using http::HeaderId;

// "a.example:80" to "a.example-shadow:80".
std::string shadow_of(std::string_view authority) {
  size_t colon = authority.rfind(':');
  if (colon != authority.npos && authority.find(']', colon) != authority.npos) colon = authority.npos;
  std::string out(authority.substr(0, colon));
  out += "-shadow";
  if (colon != authority.npos) out += authority.substr(colon);
  return out;
}

class Mirror final : public filter::Filter {
 public:
  explicit Mirror(const Config& config) : config_(config) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    if (end || !config_.body) send(context);
    return filter::Status::kContinue;
  }

  filter::Status on_request_body(filter::Context& context, SliceQueue& data, bool end) override {
    if (given_up_) return filter::Status::kContinue;
    if (body_.size() + data.bytes() > static_cast<size_t>(config_.max_body_bytes)) {
      give_up();
      return filter::Status::kContinue;
    }
    for (size_t i = 0; i < data.count(); ++i) body_.append(data[i].view());
    if (end) send(context);
    return filter::Status::kContinue;
  }

  filter::Status on_request_trailers(filter::Context& context, http::HeaderMap& trailers) override {
    if (!given_up_) send(context);
    return filter::Status::kContinue;
  }

 private:
  void give_up() {
    given_up_ = true;
    body_ = std::string();
  }

  void send(filter::Context& context) {
    const http::RequestHead& request = context.request();
    std::vector<std::pair<std::string_view, std::string_view>> headers;
    for (const http::HeaderField& field : request.headers) {
      if (field.id == HeaderId::kContentLength || field.id == HeaderId::kTransferEncoding ||
          field.id == HeaderId::kExpect || (field.id == HeaderId::kContentType && !config_.body)) {
        continue;
      }
      headers.emplace_back(field.name(), field.value());
    }
    const std::string authority = config_.host.empty() ? shadow_of(request.authority) : config_.host;
    filter::HttpCall call;
    call.cluster = config_.cluster;
    call.method = request.method_text;
    call.path = request.path;
    call.authority = authority;
    call.headers = headers;
    call.body = body_;
    call.timeout_ms = static_cast<uint32_t>(config_.timeout_ms);
    context.send(call);
    give_up();
  }

  const Config& config_;
  std::string body_;
  bool given_up_ = false;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Config config) : config_(std::move(config)) {}

  std::string_view name() const override { return "mirror"; }
  bool wants_request_body() const override { return config_.body; }

  filter::Filter* create(filter::Context& context) const override {
    // A tunnel can't be copied.
    if (!context.request().upgrade.empty()) return nullptr;
    if (config_.percentage < 100 && context.random().below(1'000'000) >= config_.percentage * 10'000) return nullptr;
    return context.arena().create<Mirror>(config_);
  }

 private:
  const Config config_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<Factory>(std::move(*config)));
}

}  // namespace

Plugin plugin() {
  return {"mirror", parse, "Sends a copy of each request to another cluster and drops the answer.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::mirror
