#include "plugins/directives/config.h"

#include "plugins/ip_restriction/address_set.h"
#include "plugins/message_edit.h"

namespace sluice::plugins::directives {
namespace {

using Action = Step::Action;
using Comparison = Step::Comparison;
using Flag = Step::Flag;

bool edits_a_field(Action action) { return action >= Action::kSetRequestHeader; }

std::optional<Problem> check(const Step& step) {
  if (edits_a_field(step.action)) {
    std::string name = step.name;
    if (std::string message = check_header_name(name); !message.empty()) return Problem{"name", message};
    if (is_framing_field(name)) return Problem{"name", in_quotes(step.name) + " frames the message"};
  }
  if (step.action == Action::kAllow || step.action == Action::kDeny) {
    std::string message = step.value == "all" ? "" : ip_restriction::AddressSet::check(step.value);
    if (!message.empty()) return Problem{"value", message};
  }
  if (step.action == Action::kReturn && (step.status < 200 || step.status > 599)) {
    return Problem{"status", std::to_string(step.status) + " is not in 200..599"};
  }
  return std::nullopt;
}

const Schema<Step>& step_schema() {
  static const Schema<Step> kSchema =
      Schema<Step>()
          .text("subject", &Step::subject, "Text with variables that the condition is about.", check_header_value)
          .choice("comparison", &Step::comparison,
                  {{"always", Comparison::kAlways},
                   {"not_empty", Comparison::kNotEmpty},
                   {"empty", Comparison::kEmpty},
                   {"equal", Comparison::kEqual},
                   {"not_equal", Comparison::kNotEqual},
                   {"start", Comparison::kStart},
                   {"match", Comparison::kMatch},
                   {"no_match", Comparison::kNoMatch}},
                  "When the step is done.")
          .text("operand", &Step::operand, "What `subject` is compared with; with `match` a regular expression.")
          .boolean("ignore_case", &Step::ignore_case, "Of `match` and `no_match`.")
          .choice("action", &Step::action,
                  {{"return", Action::kReturn},
                   {"rewrite", Action::kRewrite},
                   {"allow", Action::kAllow},
                   {"deny", Action::kDeny},
                   {"set_request_header", Action::kSetRequestHeader},
                   {"set_response_header", Action::kSetResponseHeader},
                   {"add_response_header", Action::kAddResponseHeader},
                   {"remove_response_header", Action::kRemoveResponseHeader}},
                  "What is done.")
          .text("name", &Step::name, "Header field; of `rewrite` the regular expression that the path must match.")
          .text("value", &Step::value,
                "Value with variables; of `return` the body or location, of `rewrite` the new target, of `allow` and "
                "`deny` an address, a network or `all`. An empty one removes the field.")
          .integer("status", &Step::status, 0, 599, "Of `return`.")
          .choice("flag", &Step::flag,
                  {{"none", Flag::kNone},
                   {"break", Flag::kBreak},
                   {"redirect", Flag::kRedirect},
                   {"permanent", Flag::kPermanent}},
                  "Of `rewrite`: no further one follows, or the client is sent there with 302 or 301.")
          .boolean("always", &Step::always, "Of `add_response_header`: also on errors.")
          .check(check);
  return kSchema;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>().objects("steps", &Config::steps, step_schema(), "What is done, in this order.");
  return kSchema;
}

}  // namespace sluice::plugins::directives
