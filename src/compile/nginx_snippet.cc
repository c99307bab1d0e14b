#include "compile/nginx_snippet.h"

#include <algorithm>

#include "compile/annotation_values.h"
#include "compile/nginx_config.h"
#include "plugins/message_edit.h"
#include "plugins/registry.h"
#include "plugins/schema.h"
#include "plugins/variables.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

using plugins::ConfigNode;
using Words = std::vector<std::string>;

constexpr size_t kMaxProblems = 20;

ConfigNode text(std::string value) { return ConfigNode::scalar(std::move(value), true); }

// When a step is done, in the words of the plugin.
struct Condition {
  std::string subject, comparison = "always", operand;
  bool ignore_case = false;
};

bool is_guard(std::string_view name) {
  static constexpr std::string_view kGuards[] = {"allow",       "deny", "satisfy", "internal", "ssl_verify_client",
                                                 "limit_except"};
  return name.starts_with("auth_") || std::find(std::begin(kGuards), std::end(kGuards), name) != std::end(kGuards);
}

// Whether the directive, or one in its block, keeps somebody out.
bool guards(const NginxDirective& directive) {
  if (is_guard(directive.name())) return true;
  if (directive.name() == "return" && directive.words.size() > 1) {
    const std::string& status = directive.words[1];
    if (status.starts_with('4') || status.starts_with('5')) return true;
  }
  return std::any_of(directive.block.begin(), directive.block.end(), guards);
}

bool is_status(const std::string& word) {
  return word.size() == 3 && word.find_first_not_of("0123456789") == word.npos && word[0] >= '2' && word[0] <= '5';
}

class Translator {
 public:
  NginxSnippet run(std::string_view source) {
    auto parsed = parse_nginx_config(source);
    if (!parsed) {
      out_.problems.push_back(parsed.error().message);
      out_.lost_guard = parsed.error().message;
      return std::move(out_);
    }
    for (const NginxDirective& item : *parsed) top(item);
    return std::move(out_);
  }

 private:
  void problem(const NginxDirective& directive, const std::string& what) {
    const std::string message = "line " + std::to_string(directive.line) + ": " + directive.name() + " " + what;
    if (out_.problems.size() < kMaxProblems) out_.problems.push_back(message);
    if (guards(directive) && out_.lost_guard.empty()) out_.lost_guard = message;
  }

  void top(const NginxDirective& item) {
    if (item.name() == "if" || item.name() == "location") {
      Condition condition;
      if (!item.has_block || !(item.name() == "if" ? parse_if(item, &condition) : parse_location(item, &condition))) {
        return problem(item, "has a condition that can't be translated");
      }
      for (const NginxDirective& inner : item.block) {
        if (inner.has_block) {
          problem(inner, "in a block can't be translated");
        } else {
          one(inner, condition);
        }
      }
      return;
    }
    if (item.has_block) return problem(item, "can't be translated");
    one(item, {});
  }

  // if ($variable), if ($variable = text), if ($variable ~* regex) …
  bool parse_if(const NginxDirective& item, Condition* out) {
    Words words(item.words.begin() + 1, item.words.end());
    if (words.empty() || !words[0].starts_with('(')) return false;
    words[0].erase(0, 1);
    if (words[0].empty()) words.erase(words.begin());
    if (words.empty() || !words.back().ends_with(')')) return false;
    words.back().pop_back();
    if (words.back().empty() && !closes_empty_text(words)) words.pop_back();
    if (words.empty() || !words[0].starts_with('$')) return false;
    out->subject = words[0];
    if (words.size() == 1) return out->comparison = "not_empty", true;
    if (words.size() > 3) return false;
    const std::string& op = words[1];
    out->operand = words.size() == 3 ? words[2] : std::string();
    out->ignore_case = op.ends_with('*');
    if (op == "=") return out->comparison = "equal", true;
    if (op == "!=") return out->comparison = "not_equal", true;
    if (op == "~" || op == "~*") return out->comparison = "match", true;
    if (op == "!~" || op == "!~*") return out->comparison = "no_match", true;
    return false;
  }
  // ("" as the third word of a comparison is the operand)
  static bool closes_empty_text(const Words& words) { return words.size() == 3; }

  bool parse_location(const NginxDirective& item, Condition* out) {
    const Words& words = item.words;
    out->subject = "$uri";
    if (words.size() == 2 && words[1].starts_with('/')) {
      out->comparison = "start";
      out->operand = words[1];
      return true;
    }
    if (words.size() != 3) return false;
    out->operand = words[2];
    out->ignore_case = words[1] == "~*";
    if (words[1] == "=") return out->comparison = "equal", true;
    if (words[1] == "^~") return out->comparison = "start", true;
    if (words[1] == "~" || words[1] == "~*") return out->comparison = "match", true;
    return false;
  }

  void one(const NginxDirective& item, const Condition& condition) {
    const std::string& name = item.name();
    const Words arguments(item.words.begin() + 1, item.words.end());
    if (name == "return") return answer(item, arguments, condition);
    if (name == "rewrite") return rewrite(item, arguments, condition);
    if ((name == "allow" || name == "deny") && arguments.size() == 1) {
      return step(item, condition, name, {}, arguments[0]);
    }
    if (name == "proxy_set_header" && arguments.size() == 2) {
      return step(item, condition, "set_request_header", arguments[0], arguments[1]);
    }
    if (name == "add_header" && (arguments.size() == 2 || (arguments.size() == 3 && arguments[2] == "always"))) {
      ConfigNode node = make(condition, "add_response_header", arguments[0], arguments[1]);
      if (arguments.size() == 3) node.set("always", ConfigNode::scalar("true"));
      return add(item, std::move(node));
    }
    if (name == "proxy_hide_header" && arguments.size() == 1) {
      return step(item, condition, "remove_response_header", arguments[0], {});
    }
    if (name == "more_set_headers") return edits(item, arguments, condition, "set_response_header");
    if (name == "more_set_input_headers") return edits(item, arguments, condition, "set_request_header");
    if (name == "more_clear_headers") return removals(item, arguments, condition, "remove_response_header");
    if (name == "more_clear_input_headers") return removals(item, arguments, condition, "set_request_header");
    problem(item, is_known(name) ? "has arguments that can't be translated" : "can't be translated");
  }

  static bool is_known(std::string_view name) {
    static constexpr std::string_view kKnown[] = {"allow", "deny", "proxy_set_header", "add_header",
                                                  "proxy_hide_header"};
    return std::find(std::begin(kKnown), std::end(kKnown), name) != std::end(kKnown);
  }

  void answer(const NginxDirective& item, const Words& arguments, const Condition& condition) {
    std::string status = "302", value;
    if (!arguments.empty() && is_status(arguments[0])) {
      status = arguments[0];
      if (arguments.size() == 2) value = arguments[1];
    } else if (arguments.size() == 1 && (arguments[0].starts_with("http") || arguments[0].starts_with('$'))) {
      value = arguments[0];
    } else {
      return problem(item, "needs a status and perhaps a text, or a URL");
    }
    if (arguments.size() > 2) return problem(item, "has arguments that can't be translated");
    ConfigNode node = make(condition, "return", {}, value);
    node.set("status", ConfigNode::scalar(status));
    add(item, std::move(node));
  }

  void rewrite(const NginxDirective& item, const Words& arguments, const Condition& condition) {
    if (arguments.size() != 2 && arguments.size() != 3) return problem(item, "needs an expression and a replacement");
    ConfigNode node = make(condition, "rewrite", arguments[0], arguments[1]);
    if (arguments.size() == 3) {
      const std::string& flag = arguments[2];
      if (flag != "last" && flag != "break" && flag != "redirect" && flag != "permanent") {
        return problem(item, "has a flag that is not one of last, break, redirect, permanent");
      }
      node.set("flag", text(flag == "last" ? "break" : flag));
    }
    add(item, std::move(node));
  }

  // "Name: value" each; without a value the field is removed.
  void edits(const NginxDirective& item, const Words& arguments, const Condition& condition, const char* action) {
    for (const std::string& argument : arguments) {
      const size_t colon = argument.find(':');
      if (argument.starts_with('-') || colon == argument.npos) {
        return problem(item, "takes only texts such as \"Name: value\" here");
      }
    }
    for (const std::string& argument : arguments) {
      const size_t colon = argument.find(':');
      step(item, condition, action, std::string(trim(std::string_view(argument).substr(0, colon))),
           std::string(trim(std::string_view(argument).substr(colon + 1))));
    }
  }

  void removals(const NginxDirective& item, const Words& arguments, const Condition& condition, const char* action) {
    for (const std::string& argument : arguments) {
      for (const std::string& name : split_list(argument, ", ")) {
        step(item, condition, action, name.ends_with(':') ? name.substr(0, name.size() - 1) : name, {});
      }
    }
  }

  static ConfigNode make(const Condition& condition, const std::string& action, std::string name, std::string value) {
    ConfigNode node = ConfigNode::map();
    if (condition.comparison != "always") {
      node.set("subject", text(condition.subject));
      node.set("comparison", text(condition.comparison));
      node.set("operand", text(condition.operand));
      if (condition.ignore_case) node.set("ignore_case", ConfigNode::scalar("true"));
    }
    node.set("action", text(action));
    if (!name.empty()) node.set("name", text(std::move(name)));
    if (!value.empty()) node.set("value", text(std::move(value)));
    return node;
  }

  void step(const NginxDirective& item, const Condition& condition, const std::string& action, std::string name,
            std::string value) {
    add(item, make(condition, action, std::move(name), std::move(value)));
  }

  // Takes the step if the plugin does.
  void add(const NginxDirective& item, ConfigNode node) {
    ConfigNode config = ConfigNode::map();
    config.set("steps", ConfigNode::list()).add(node);
    const auto made = plugins::find("directives")->parse(config);
    if (!made) {
      std::string message = made.error().message;
      if (message.starts_with("steps[0].")) message.erase(0, 9);
      return problem(item, "can't be translated: " + message);
    }
    out_.steps.add(std::move(node));
  }

  NginxSnippet out_;
};

// The directives that say what the call has beside the request's own fields.
class AuthTranslator {
 public:
  NginxAuthSnippet run(std::string_view source) {
    auto parsed = parse_nginx_config(source);
    if (!parsed) {
      lose(parsed.error().message);
      return std::move(out_);
    }
    for (const NginxDirective& item : *parsed) one(item);
    return std::move(out_);
  }

 private:
  void lose(const std::string& message) {
    if (out_.problems.size() < kMaxProblems) out_.problems.push_back(message);
    if (out_.lost_guard.empty()) out_.lost_guard = message;
  }

  static bool sets_fields(const NginxDirective& item) {
    static constexpr std::string_view kNames[] = {"proxy_set_header", "more_set_input_headers",
                                                  "more_clear_input_headers"};
    return std::find(std::begin(kNames), std::end(kNames), item.name()) != std::end(kNames);
  }
  // Whether the directive, or one in its block, has a part in the decision.
  static bool decides(const NginxDirective& item) {
    return sets_fields(item) || guards(item) || std::any_of(item.block.begin(), item.block.end(), decides);
  }

  void one(const NginxDirective& item) {
    const std::string where = "line " + std::to_string(item.line) + ": " + item.name() + " ";
    if (item.has_block || !sets_fields(item)) {
      const std::string message = where + "can't be translated for the call";
      if (decides(item)) return lose(message);
      if (out_.problems.size() < kMaxProblems) out_.problems.push_back(message);
      return;
    }
    const Words arguments(item.words.begin() + 1, item.words.end());
    if (item.name() == "proxy_set_header") {
      if (arguments.size() != 2) return lose(where + "needs a name and a value");
      return set(where, arguments[0], arguments[1]);
    }
    for (const std::string& argument : arguments) {
      const size_t colon = argument.find(':');
      const bool clears = item.name() == "more_clear_input_headers";
      if (argument.starts_with('-') || (!clears && colon == argument.npos)) {
        return lose(where + "takes only texts such as \"Name: value\" here");
      }
      const std::string_view value = clears ? std::string_view() : trim(std::string_view(argument).substr(colon + 1));
      set(where, std::string(trim(std::string_view(argument).substr(0, colon))), std::string(value));
    }
  }

  void set(const std::string& where, std::string name, std::string value) {
    std::string problem = plugins::check_header_name(name);
    if (problem.empty() && (plugins::is_framing_field(name) || name == "host")) problem = name + " can't be set";
    if (problem.empty()) problem = plugins::VariableTemplate::check(value);
    if (!problem.empty()) return lose(where + "can't be translated: " + problem);
    out_.fields.emplace_back(std::move(name), std::move(value));
  }

  NginxAuthSnippet out_;
};

}  // namespace

NginxAuthSnippet translate_nginx_auth_snippet(std::string_view text) { return AuthTranslator().run(text); }

NginxSnippet translate_nginx_snippet(std::string_view text) { return Translator().run(text); }

}  // namespace sluice::compile
