#include "plugins/cors/filter.h"

#include <algorithm>

#include "plugins/message_edit.h"

// A request without Origin, or with one that is not allowed, gets no filter: it goes to the
// upstream as it is and its response comes back as it is. The answer to an allowed origin always
// names that origin, never "*", so it carries `Vary: Origin`.

namespace sluice::plugins::cors {
namespace {

using http::HeaderId;

std::string joined(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : ",") + item;
  return out;
}

struct Policy {
  explicit Policy(const Config& config)
      : allow_methods(joined(config.allow_methods)),
        allow_headers(joined(config.allow_headers)),
        expose_headers(joined(config.expose_headers)),
        max_age(std::to_string(config.max_age)),
        credentials(config.allow_credentials) {
    for (const std::string& origin : config.allow_origins) {
      const size_t star = origin.find('*');
      if (origin == "*") {
        any = true;
      } else if (star != std::string::npos) {
        suffixes.push_back(origin.substr(star + 1));
      } else {
        exact.push_back(origin);
      }
    }
  }

  bool allows(std::string_view origin) const {
    if (any || std::find(exact.begin(), exact.end(), origin) != exact.end()) return true;
    return std::any_of(suffixes.begin(), suffixes.end(),
                       [origin](const std::string& suffix) { return origin.ends_with(suffix); });
  }

  bool any = false;
  std::vector<std::string> exact;
  std::vector<std::string> suffixes;  // ".domain:port"
  std::string allow_methods, allow_headers, expose_headers, max_age;
  bool credentials;
};

class Cors final : public filter::Filter {
 public:
  Cors(const Policy& policy, std::string_view origin) : policy_(policy), origin_(origin) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    const http::RequestHead& request = context.request();
    if (request.method != http::Method::kOptions ||
        request.headers.get(HeaderId::kAccessControlRequestMethod).empty()) {
      return filter::Status::kContinue;
    }
    preflight_ = true;
    context.send_local_reply(
        {.status = 200, .details = "cors_preflight"},
        [](http::HeaderMap& headers, const void* self) { static_cast<const Cors*>(self)->answer(headers); }, this);
    return filter::Status::kPause;
  }

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    if (preflight_) return filter::Status::kContinue;  // our own answer has everything
    http::HeaderMap& headers = context.response().headers;
    name_origin(headers);
    if (!policy_.expose_headers.empty()) {
      headers.set(HeaderId::kAccessControlExposeHeaders, policy_.expose_headers);
    }
    return filter::Status::kContinue;
  }

 private:
  void name_origin(http::HeaderMap& headers) const {
    headers.set(HeaderId::kAccessControlAllowOrigin, origin_);
    if (policy_.credentials) headers.set(HeaderId::kAccessControlAllowCredentials, "true");
    add_vary(headers, "Origin");
  }

  void answer(http::HeaderMap& headers) const {
    name_origin(headers);
    if (!policy_.allow_methods.empty()) headers.set(HeaderId::kAccessControlAllowMethods, policy_.allow_methods);
    if (!policy_.allow_headers.empty()) headers.set(HeaderId::kAccessControlAllowHeaders, policy_.allow_headers);
    headers.set(HeaderId::kAccessControlMaxAge, policy_.max_age);
  }

  const Policy& policy_;
  const std::string_view origin_;
  bool preflight_ = false;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(const Config& config) : policy_(config) {}

  std::string_view name() const override { return "cors"; }
  filter::Filter* create(filter::Context& context) const override {
    const std::string_view origin = context.request().headers.get(HeaderId::kOrigin);
    if (origin.empty() || !policy_.allows(origin)) return nullptr;
    return context.arena().create<Cors>(policy_, origin);
  }

 private:
  const Policy policy_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  return FactoryPointer(std::make_shared<Factory>(*config));
}

}  // namespace

Plugin plugin() {
  return {"cors", parse, "Answers preflight requests and names the allowed origin in responses.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::cors
