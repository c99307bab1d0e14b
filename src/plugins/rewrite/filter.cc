#include "plugins/rewrite/filter.h"

#include <optional>

#include "plugins/message_edit.h"
#include "plugins/rewrite/path_rewriter.h"

namespace sluice::plugins::rewrite {
namespace {

struct Program {
  std::string host;
  std::optional<PathRewriter> path;
};

class Rewrite final : public filter::Filter {
 public:
  explicit Rewrite(const Program& program) : program_(program) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    http::RequestHead& request = context.request();
    if (program_.path && request.path.starts_with('/')) {
      std::string_view target;
      switch (program_.path->rewrite(request.path, context.arena(), &target)) {
        case PathRewriter::Outcome::kUnchanged:
          break;
        case PathRewriter::Outcome::kChanged:
          set_target(request, target);
          break;
        case PathRewriter::Outcome::kTooLong:
          context.send_local_reply({.status = 414, .details = "rewritten_path_too_long"});
          return filter::Status::kPause;
      }
    }
    if (!program_.host.empty()) set_authority(request, program_.host);
    return filter::Status::kContinue;
  }

 private:
  const Program& program_;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Program program) : program_(std::move(program)) {}

  std::string_view name() const override { return "rewrite"; }
  filter::Filter* create(filter::Context& context) const override {
    if (program_.host.empty() && !program_.path) return nullptr;
    return context.arena().create<Rewrite>(program_);
  }

 private:
  const Program program_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  Program program;
  program.host = config->host;
  if (!config->path.empty()) {
    auto path = PathRewriter::make(config->path);
    if (!path) return Error{"path." + path.error().message};
    program.path = std::move(*path);
  }
  return FactoryPointer(std::make_shared<Factory>(std::move(program)));
}

}  // namespace

Plugin plugin() {
  return {"rewrite", parse, "Changes the path and the host of requests on their way to the upstream.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::rewrite
