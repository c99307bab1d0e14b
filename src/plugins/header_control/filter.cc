#include "plugins/header_control/filter.h"

#include <optional>

#include "plugins/header_control/value_template.h"
#include "plugins/message_edit.h"

// The edits of each direction are compiled into a Program when the configuration is read: names
// resolved to ids, values to templates. A literal value is handed to the head as it lies here; the
// snapshot keeps it alive for the exchange.

namespace sluice::plugins::header_control {
namespace {

using http::HeaderId;

enum class Direction : uint8_t { kRequest, kResponse };

struct Name {
  HeaderId id;
  std::string text;

  explicit Name(std::string name) : id(http::find_header_id(name)), text(std::move(name)) {}
};

struct CompiledEdit {
  Name name;
  ValueTemplate value;
};

bool is_authority(std::string_view name) { return name == "host" || name == ":authority"; }

// A value that came from the request may hold anything a field value may; a host may not.
bool is_host_text(std::string_view value) {
  return !value.empty() && value.find_first_of(" \t/\\?#@,\"<>") == std::string_view::npos;
}

class Program {
 public:
  // Error: names the edit ("add[0].value: …").
  static Result<Program> compile(const Edits& edits, Direction direction) {
    Program program;
    for (const std::string& name : edits.remove) {
      if (name != "host" && name[0] != ':') program.remove_.emplace_back(name);
    }
    for (const auto& [list, out, field] :
         {std::tuple{&edits.add, &program.add_, "add"}, std::tuple{&edits.update, &program.update_, "update"}}) {
      for (size_t i = 0; i < list->size(); ++i) {
        const Edit& edit = (*list)[i];
        auto value = ValueTemplate::parse(edit.value);
        if (!value) return Error{std::string(field) + "[" + std::to_string(i) + "].value: " + value.error().message};
        if (direction == Direction::kRequest && is_authority(edit.name)) {
          program.authority_ = std::move(*value);  // update is read last and wins
        } else if (edit.name != "host" && edit.name[0] != ':') {
          out->push_back({Name(edit.name), std::move(*value)});
        }
      }
    }
    return program;
  }

  bool empty() const { return remove_.empty() && update_.empty() && add_.empty() && !authority_; }

  void run(filter::Context& context, http::HeaderMap& headers) const {
    for (const Name& name : remove_) {
      if (name.id == HeaderId::kOther) {
        headers.remove(name.text);
      } else {
        headers.remove(name.id);
      }
    }
    for (const CompiledEdit& edit : update_) {
      const std::string_view value = edit.value.render(context);
      if (value.empty()) continue;
      if (edit.name.id == HeaderId::kOther) {
        headers.set(edit.name.text, value);
      } else {
        headers.set(edit.name.id, value);
      }
    }
    for (const CompiledEdit& edit : add_) {
      const std::string_view value = edit.value.render(context);
      if (!value.empty()) headers.append(edit.name.id, edit.name.text, value);
    }
    if (authority_) {
      const std::string_view value = authority_->render(context);
      if (is_host_text(value)) set_authority(context.request(), value);
    }
  }

 private:
  std::vector<Name> remove_;
  std::vector<CompiledEdit> update_;
  std::vector<CompiledEdit> add_;
  std::optional<ValueTemplate> authority_;
};

struct Programs {
  Program request;
  Program response;
};

class HeaderControl final : public filter::Filter {
 public:
  explicit HeaderControl(const Programs& programs) : programs_(programs) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    programs_.request.run(context, context.request().headers);
    return filter::Status::kContinue;
  }

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    programs_.response.run(context, context.response().headers);
    return filter::Status::kContinue;
  }

 private:
  const Programs& programs_;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Programs programs) : programs_(std::move(programs)) {}

  std::string_view name() const override { return "header-control"; }
  filter::Filter* create(filter::Context& context) const override {
    if (programs_.request.empty() && programs_.response.empty()) return nullptr;
    return context.arena().create<HeaderControl>(programs_);
  }

 private:
  const Programs programs_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  auto request = Program::compile(config->request, Direction::kRequest);
  if (!request) return Error{"request." + request.error().message};
  auto response = Program::compile(config->response, Direction::kResponse);
  if (!response) return Error{"response." + response.error().message};
  return FactoryPointer(std::make_shared<Factory>(Programs{std::move(*request), std::move(*response)}));
}

}  // namespace

Plugin plugin() {
  return {"header-control", parse, "Removes, sets and appends header fields of requests and responses.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::header_control
