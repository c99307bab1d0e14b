#include "plugins/redirect/filter.h"

#include <cstring>

namespace sluice::plugins::redirect {
namespace {

using http::HeaderId;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() > end.size() && text.substr(text.size() - end.size()) == end;
}

void add_location(http::HeaderMap& headers, const void* location) {
  headers.add(HeaderId::kLocation, *static_cast<const std::string_view*>(location));
}

class Redirect final : public filter::Filter {
 public:
  explicit Redirect(const Config& config) : config_(config) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    const std::string_view to = location(config_, context.request(), context.is_tls(), context.arena());
    context.send_local_reply({.status = config_.status, .details = "redirect"}, add_location, &to);
    return filter::Status::kPause;
  }

 private:
  const Config& config_;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Config config) : config_(std::move(config)) {}

  std::string_view name() const override { return "redirect"; }
  filter::Filter* create(filter::Context& context) const override {
    if (!applies(config_, context.request(), context.is_tls())) return nullptr;
    return context.arena().create<Redirect>(config_);
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
  return {"redirect", parse, "Answers with another location.", []() -> const SchemaBase& { return schema(); }};
}

bool applies(const Config& config, const http::RequestHead& request, bool tls) {
  if (!config.https_only_on_plaintext) return true;
  return !tls && request.headers.get(HeaderId::kXForwardedProto) != "https";
}

std::string_view location(const Config& config, const http::RequestHead& request, bool tls, Arena& arena) {
  const std::string_view before = tls ? "https" : "http";
  std::string_view scheme = config.scheme.empty() ? before : std::string_view(config.scheme);
  if (config.https_only_on_plaintext) scheme = "https";
  std::string_view host = config.host;
  if (host.empty()) {
    host = request.authority;
    // The old scheme's own port would be wrong with the new one.
    const std::string_view port = before == "http" ? ":80" : ":443";
    if (scheme != before && ends_with(host, port)) host.remove_suffix(port.size());
  }
  std::string_view path = request.path;
  std::string_view query;
  if (!config.path.empty()) {
    const size_t question = path.find('?');
    if (question != std::string_view::npos) query = path.substr(question);
    path = config.path;
  } else if (path.empty() || path[0] != '/') {
    path = "/";  // OPTIONS *
  }
  // A client that sent no host (HTTP/1.0) gets a reference without one.
  const bool relative = host.empty() || config.relative;
  const std::string_view parts[] = {relative ? "" : scheme, relative ? "" : "://", relative ? "" : host, path, query};
  size_t size = 0;
  for (std::string_view part : parts) size += part.size();
  char* out = arena.allocate_array<char>(size + 1);
  size_t at = 0;
  for (std::string_view part : parts) {
    if (!part.empty()) std::memcpy(out + at, part.data(), part.size());
    at += part.size();
  }
  return {out, size};
}

}  // namespace sluice::plugins::redirect
