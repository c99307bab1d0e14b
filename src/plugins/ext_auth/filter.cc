#include "plugins/ext_auth/filter.h"

#include <algorithm>
#include <iterator>

#include "event/loop.h"
#include "filter/call.h"
#include "plugins/ext_auth/decision_cache.h"
#include "plugins/ip_restriction/address_set.h"
#include "plugins/state_factory.h"
#include "plugins/variables.h"

namespace sluice::plugins::ext_auth {
namespace {

using http::HeaderId;
using Fields = std::vector<std::pair<std::string_view, std::string_view>>;

VariableTemplate compiled(const std::string& text) { return *VariableTemplate::parse(text); }

// The sign-in URL with the parameter that tells where the client wanted to go.
std::string signin_url(const Config& config) {
  const std::string& url = config.signin;
  if (url.empty()) return {};
  const size_t question = url.find('?');
  const std::string wanted = config.signin_redirect_param + "=";
  if (question != url.npos) {
    const std::string_view query = std::string_view(url).substr(question + 1);
    if (query.starts_with(wanted) || query.find("&" + wanted) != query.npos) return url;
  }
  const char* joint = question == url.npos ? "?" : question + 1 == url.size() ? "" : "&";
  return url + joint + wanted + "$pass_access_scheme://$http_host$escaped_request_uri";
}

struct State {
  explicit State(const Config& c)
      : config(c),
        path(compiled(c.path)),
        request_redirect(compiled(c.request_redirect)),
        signin(compiled(signin_url(c))),
        cache_key(compiled(c.cache_key)),
        original_url(compiled("$scheme://$http_host$request_uri")) {
    for (const HeaderTemplate& header : c.headers) headers.emplace_back(header.name, compiled(header.value));
    for (const std::string& rule : c.cache_duration) rules.push_back(*CacheRule::parse(rule));
    for (const std::string& address : c.skip_addresses) skip.add(address);
    skip.seal();
  }

  uint64_t lifetime_ms(int status) const {
    for (const CacheRule& rule : rules) {
      if (rule.covers(status)) return rule.milliseconds;
    }
    return 0;
  }

  // Whether a field of the answer is kept: for the upstream, or for the client.
  bool wants(std::string_view name) const {
    return name == "set-cookie" || name == "www-authenticate" ||
           std::find(config.response_headers.begin(), config.response_headers.end(), name) !=
               config.response_headers.end();
  }

  const Config config;
  const VariableTemplate path, request_redirect, signin, cache_key, original_url;
  std::vector<std::pair<std::string, VariableTemplate>> headers;
  std::vector<CacheRule> rules;
  ip_restriction::AddressSet skip;
  mutable DecisionCache cache;
};

// Of the request, not of what is asked about it.
bool belongs_to_the_body(const http::HeaderField& field) {
  switch (field.id) {
    case HeaderId::kContentLength:
    case HeaderId::kTransferEncoding:
    case HeaderId::kExpect:
    case HeaderId::kUpgrade:
    case HeaderId::kConnection:
    case HeaderId::kTe:
      return true;
    default:
      return false;
  }
}

class ExtAuth final : public filter::Filter, private filter::CallReceiver {
 public:
  explicit ExtAuth(const State& state) : state_(state) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    context_ = &context;
    if (!state_.skip.empty() && state_.skip.contains(context.client_address())) return filter::Status::kContinue;
    if (!state_.cache_key.empty()) {
      key_ = KeyedDigest::of(state_.cache_key.render(context));
      if (auto known = state_.cache.find(key_, context.loop().now_ms())) return decide(*known);
    }
    ask();
    return filter::Status::kPause;
  }

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    if (cookies_.empty()) return filter::Status::kContinue;
    static constexpr int kGood[] = {200, 201, 204, 206, 301, 302, 303, 304, 307, 308};
    const int status = context.response().status;
    if (state_.config.always_set_cookie || std::find(std::begin(kGood), std::end(kGood), status) != std::end(kGood)) {
      for (std::string_view cookie : cookies_) context.response().headers.add(HeaderId::kSetCookie, cookie);
    }
    return filter::Status::kContinue;
  }

  void on_complete(filter::Context& context) override { cancel(); }

 private:
  void ask() {
    const Config& config = state_.config;
    const http::RequestHead& request = context_->request();
    Fields fields;
    const auto set = [&](std::string_view name, std::string_view value) {
      std::erase_if(fields, [&](const auto& field) { return field.first == name; });
      fields.emplace_back(name, value);
    };
    for (const http::HeaderField& field : request.headers) {
      if (!belongs_to_the_body(field)) fields.emplace_back(field.name(), field.value());
    }
    set("x-original-url", encode_target(state_.original_url.render(*context_), context_->arena()));
    set("x-original-method", request.method_text);
    set("x-scheme", request.scheme);
    set("x-sent-from", "sluice");
    if (!state_.request_redirect.empty()) {
      set("x-auth-request-redirect", encode_target(state_.request_redirect.render(*context_), context_->arena()));
    }
    for (const auto& [name, value] : state_.headers) {
      set(name, value.render(*context_));
      if (fields.back().second.empty()) fields.pop_back();  // as in nginx
    }
    filter::HttpCall call;
    call.cluster = config.cluster;
    call.method = config.method;
    call.path = encode_target(state_.path.render(*context_), context_->arena());
    call.authority = config.host;
    call.headers = fields;
    call.timeout_ms = static_cast<uint32_t>(config.timeout_ms);
    context_->call(call, *this);
  }

  void on_call_result(filter::HttpCallResult& result) override {
    if (!result.ok) return fail("ext_auth_unreachable");
    auto decision = std::make_shared<Decision>();
    decision->status = result.status;
    bool sets_cookie = false;
    for (const http::HeaderField& field : *result.headers) {
      if (!state_.wants(field.name())) continue;
      decision->fields.emplace_back(field.name(), field.value());
      sets_cookie |= field.id == HeaderId::kSetCookie;
    }
    const bool verdict = allows(*decision) || result.status == 401 || result.status == 403;
    // A cookie is for one client; its answer is for nobody else.
    if (verdict && !sets_cookie && !state_.cache_key.empty()) {
      const uint64_t lifetime = state_.lifetime_ms(result.status);
      if (lifetime) state_.cache.put(key_, decision, context_->loop().now_ms() + lifetime);
    }
    if (decide(*decision) == filter::Status::kContinue) context_->resume_request(*this);
  }

  static bool allows(const Decision& decision) { return decision.status >= 200 && decision.status < 300; }

  filter::Status decide(const Decision& decision) {
    Arena& arena = context_->arena();
    for (const auto& [name, value] : decision.fields) {
      if (name == "set-cookie") cookies_.push_back(arena.copy(value));
    }
    if (allows(decision)) {
      http::HeaderMap& headers = context_->request().headers;
      for (const std::string& name : state_.config.response_headers) headers.remove(name);
      for (const auto& [name, value] : decision.fields) {
        const auto& wanted = state_.config.response_headers;
        const auto at = std::find(wanted.begin(), wanted.end(), name);
        if (at != wanted.end()) headers.add(*at, arena.copy(value));
      }
      return filter::Status::kContinue;
    }
    if (decision.status == 401 && !state_.signin.empty()) {
      const std::string_view location = encode_target(state_.signin.render(*context_), arena);
      context_->send_local_reply(
          {.status = 302, .details = "ext_auth_signin"},
          [](http::HeaderMap& headers, const void* to) {
            headers.add(HeaderId::kLocation, *static_cast<const std::string_view*>(to));
          },
          &location);
    } else if (decision.status == 401 || decision.status == 403) {
      context_->send_local_reply(
          {.status = decision.status,
           .body = decision.status == 401 ? "Unauthorized" : "Forbidden",
           .details = "ext_auth_denied"},
          [](http::HeaderMap& headers, const void* from) {
            for (const auto& [name, value] : static_cast<const Decision*>(from)->fields) {
              if (name == "www-authenticate") headers.add(HeaderId::kWwwAuthenticate, headers.arena()->copy(value));
            }
          },
          &decision);
    } else {
      fail("ext_auth_error");
    }
    return filter::Status::kPause;
  }

  void fail(std::string_view details) {
    context_->send_local_reply({.status = static_cast<int>(state_.config.status_on_error),
                                .body = "external authorization failed",
                                .details = details});
  }

  const State& state_;
  filter::Context* context_ = nullptr;
  KeyedDigest key_;
  std::vector<std::string_view> cookies_;  // for the client; the arena's
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  if (!config->signin.empty() && !VariableTemplate::parse(signin_url(*config))) return Error{"signin: is not valid"};
  return FactoryPointer(std::make_shared<StateFactory<ExtAuth, State>>("ext-auth", *config));
}

}  // namespace

Plugin plugin() {
  return {"ext-auth", parse, "Asks another service whether a request may pass.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::ext_auth
