#include "plugins/directives/filter.h"

#include <re2/re2.h>

#include <algorithm>

#include "plugins/directives/config.h"
#include "plugins/ip_restriction/address_set.h"
#include "plugins/message_edit.h"
#include "plugins/replacement.h"

// The steps run in nginx's phases: returns and rewrites in their order, then allow and deny (the first that fits
// decides), then the request's fields; those of the response when it comes.

namespace sluice::plugins::directives {
namespace {

using http::HeaderId;
using Action = Step::Action;
using Comparison = Step::Comparison;
using Flag = Step::Flag;

constexpr size_t kMaxText = 16384;

bool is_safe(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

class CompiledStep {
 public:
  static Result<CompiledStep> compile(const Step& step) {
    CompiledStep out;
    out.step = step;
    if (step.action >= Action::kSetRequestHeader) check_header_name(out.step.name);
    auto subject = VariableTemplate::parse(step.subject);
    if (!subject) return Error{"subject: " + subject.error().message};
    out.subject_ = std::move(*subject);
    if (step.comparison == Comparison::kMatch || step.comparison == Comparison::kNoMatch) {
      auto pattern = compile_pattern(step.operand, step.ignore_case);
      if (!pattern) return Error{"operand: " + pattern.error().message};
      out.pattern_ = std::move(*pattern);
    }
    int groups = -1;
    if (step.action == Action::kRewrite) {
      auto pattern = compile_pattern(step.name, false);
      if (!pattern) return Error{"name: " + pattern.error().message};
      out.path = std::move(*pattern);
      groups = out.path->NumberOfCapturingGroups();
    }
    if (step.action == Action::kAllow || step.action == Action::kDeny) {
      if (step.value != "all") out.addresses.add(step.value);
      out.addresses.seal();
    } else {
      auto value = Replacement::parse(step.value, groups);
      if (!value) return Error{"value: " + value.error().message};
      out.value = std::move(*value);
    }
    return out;
  }

  bool applies(filter::Context& context) const {
    if (step.comparison == Comparison::kAlways) return true;
    const std::string_view text = subject_.render(context);
    switch (step.comparison) {
      case Comparison::kAlways:
        return true;
      case Comparison::kNotEmpty:
        return !text.empty() && text != "0";
      case Comparison::kEmpty:
        return text.empty() || text == "0";
      case Comparison::kEqual:
        return text == step.operand;
      case Comparison::kNotEqual:
        return text != step.operand;
      case Comparison::kStart:
        return text.starts_with(step.operand);
      case Comparison::kMatch:
        return find_match(*pattern_, text, nullptr);
      case Comparison::kNoMatch:
        return !find_match(*pattern_, text, nullptr);
    }
    return false;
  }

  std::string render(filter::Context& context, const std::string_view* groups = nullptr) const {
    std::string out;
    value.append(context, groups, out);
    return out.size() <= kMaxText ? out : std::string();
  }

  Step step;
  Replacement value;
  std::shared_ptr<const re2::RE2> path;  // kRewrite
  ip_restriction::AddressSet addresses;  // kAllow, kDeny; empty: all

 private:
  VariableTemplate subject_;
  std::shared_ptr<const re2::RE2> pattern_;
};

using Program = std::vector<CompiledStep>;

void add_location(http::HeaderMap& headers, const void* location) {
  headers.add(HeaderId::kLocation, *static_cast<const std::string_view*>(location));
}

bool is_redirect(int64_t status) { return (status >= 301 && status <= 303) || status == 307 || status == 308; }

class Directives final : public filter::Filter {
 public:
  explicit Directives(const Program& program) : program_(program) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    if (change_target(context) || deny(context)) return filter::Status::kPause;
    for (const CompiledStep& step : program_) {
      if (step.step.action == Action::kSetRequestHeader && step.applies(context)) set_request_field(context, step);
    }
    return filter::Status::kContinue;
  }

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    for (const CompiledStep& step : program_) {
      if (step.step.action > Action::kSetRequestHeader && step.applies(context)) edit_response(context, step);
    }
    return filter::Status::kContinue;
  }

 private:
  // Returns and rewrites. True: the request has been answered.
  bool change_target(filter::Context& context) {
    for (const CompiledStep& step : program_) {
      if (step.step.action == Action::kReturn && step.applies(context)) {
        answer(context, static_cast<int>(step.step.status), step.render(context));
        return true;
      }
      if (step.step.action != Action::kRewrite || !step.applies(context)) continue;
      const std::string_view target = context.request().path;
      const size_t question = std::min(target.find('?'), target.size());
      std::string_view groups[Replacement::kMaxGroups];
      if (!find_match(*step.path, target.substr(0, question), groups)) continue;
      std::string out = step.render(context, groups);
      if (out.ends_with('?')) {
        out.pop_back();  // the request's query is dropped
      } else if (question + 1 < target.size()) {
        out += out.find('?') == out.npos ? '?' : '&';
        out += target.substr(question + 1);
      }
      const bool absolute = out.starts_with("http://") || out.starts_with("https://");
      if (step.step.flag == Flag::kPermanent || step.step.flag == Flag::kRedirect || absolute) {
        answer(context, step.step.flag == Flag::kPermanent ? 301 : 302, out);
        return true;
      }
      if (out.starts_with('/'))
        set_target(context.request(), encode_target(context.arena().copy(out), context.arena()));
      if (step.step.flag == Flag::kBreak) return false;
    }
    return false;
  }

  void answer(filter::Context& context, int status, const std::string& text) {
    if (!is_redirect(status)) {
      return context.send_local_reply({.status = status, .body = text, .details = "directive_return"});
    }
    const std::string_view location = encode_target(context.arena().copy(text), context.arena());
    context.send_local_reply({.status = status, .details = "directive_return"}, add_location, &location);
  }

  bool deny(filter::Context& context) {
    for (const CompiledStep& step : program_) {
      const Action action = step.step.action;
      if ((action != Action::kAllow && action != Action::kDeny) || !step.applies(context)) continue;
      if (!step.addresses.empty() && !step.addresses.contains(context.client_address())) continue;
      if (action == Action::kAllow) return false;
      context.send_local_reply({.status = 403, .details = "directive_deny"});
      return true;
    }
    return false;
  }

  static void set_request_field(filter::Context& context, const CompiledStep& step) {
    const std::string value = step.render(context);
    if (!is_safe(value)) return;
    http::HeaderMap& headers = context.request().headers;
    const std::string& name = step.step.name;
    if (name == "host") {
      if (!value.empty() && value.find_first_of(" /\\?#@,\"<>") == value.npos) {
        set_authority(context.request(), context.arena().copy(value));
      }
      return;
    }
    remove(headers, name);
    if (!value.empty()) headers.append(http::find_header_id(name), name, context.arena().copy(value));
  }

  static void edit_response(filter::Context& context, const CompiledStep& step) {
    http::HeaderMap& headers = context.response().headers;
    const std::string& name = step.step.name;
    if (step.step.action == Action::kAddResponseHeader && !step.step.always && !is_plain(context.response().status)) {
      return;
    }
    const std::string value = step.step.action == Action::kRemoveResponseHeader ? std::string() : step.render(context);
    if (!is_safe(value)) return;
    if (step.step.action != Action::kAddResponseHeader) remove(headers, name);
    if (!value.empty()) headers.append(http::find_header_id(name), name, context.arena().copy(value));
  }

  static void remove(http::HeaderMap& headers, const std::string& name) {
    const HeaderId id = http::find_header_id(name);
    if (id == HeaderId::kOther) {
      headers.remove(name);
    } else {
      headers.remove(id);
    }
  }

  // Those that add_header without `always` is for.
  static bool is_plain(int status) {
    static constexpr int kPlain[] = {200, 201, 204, 206, 301, 302, 303, 304, 307, 308};
    return std::find(std::begin(kPlain), std::end(kPlain), status) != std::end(kPlain);
  }

  const Program& program_;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Program program) : program_(std::move(program)) {}

  std::string_view name() const override { return "directives"; }
  filter::Filter* create(filter::Context& context) const override {
    return program_.empty() ? nullptr : context.arena().create<Directives>(program_);
  }

 private:
  const Program program_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  Program program;
  for (size_t i = 0; i < config->steps.size(); ++i) {
    auto compiled = CompiledStep::compile(config->steps[i]);
    if (!compiled) return Error{"steps[" + std::to_string(i) + "]." + compiled.error().message};
    program.push_back(std::move(*compiled));
  }
  return FactoryPointer(std::make_shared<Factory>(std::move(program)));
}

}  // namespace

Plugin plugin() {
  return {"directives", parse, "What the common directives of nginx do: return, rewrite, allow, deny, header fields.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::directives
