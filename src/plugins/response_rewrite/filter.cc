#include "plugins/response_rewrite/filter.h"

#include <re2/re2.h>

#include <cstring>
#include <optional>

#include "plugins/response_rewrite/config.h"
#include "plugins/variables.h"

// What a service says about its own address in a response, changed to what the client sees: the Domain and Path of
// cookies, Location and Refresh.

namespace sluice::plugins::response_rewrite {
namespace {

using http::HeaderId;

constexpr int kMaxGroups = 10;

bool equal_in_any_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Text with variables and with the groups of a regular expression.
class Replacement {
 public:
  static Result<Replacement> parse(std::string_view text) {
    Replacement out;
    size_t begin = 0;
    for (size_t i = 0; i + 1 < text.size(); ++i) {
      if (text[i] != '$' || text[i + 1] < '0' || text[i + 1] > '9') continue;
      if (auto added = out.add(text.substr(begin, i - begin)); !added) return added.error();
      out.pieces_.push_back({{}, text[i + 1] - '0'});
      begin = i + 2;
      ++i;
    }
    if (auto added = out.add(text.substr(begin)); !added) return added.error();
    return out;
  }

  bool has_group_above(int count) const {
    for (const Piece& piece : pieces_) {
      if (piece.group > count) return true;
    }
    return false;
  }

  void append(filter::Context& context, const re2::StringPiece* groups, std::string& out) const {
    for (const Piece& piece : pieces_) {
      if (piece.group < 0) {
        out += piece.text.render(context);
      } else if (groups) {
        out.append(groups[piece.group].data(), groups[piece.group].size());
      }
    }
  }

 private:
  struct Piece {
    VariableTemplate text;
    int group = -1;
  };
  Status add(std::string_view text) {
    if (text.empty()) return {};
    auto parsed = VariableTemplate::parse(text);
    if (!parsed) return parsed.error();
    pieces_.push_back({std::move(*parsed), -1});
    return {};
  }

  std::vector<Piece> pieces_;
};

class CompiledRule {
 public:
  enum class Literal : uint8_t { kWhole, kStart };

  static Result<CompiledRule> compile(const Rule& rule, Literal literal) {
    CompiledRule out;
    out.literal_ = literal;
    auto to = Replacement::parse(rule.to);
    if (!to) return Error{"to: " + to.error().message};
    out.to_ = std::move(*to);
    std::string_view from = rule.from;
    int groups = 0;
    if (from.starts_with('~')) {
      re2::RE2::Options options;
      options.set_log_errors(false);
      options.set_max_mem(1 << 20);
      options.set_case_sensitive(!from.starts_with("~*"));
      from.remove_prefix(from.starts_with("~*") ? 2 : 1);
      out.regex_ = std::make_shared<const re2::RE2>(re2::StringPiece(from.data(), from.size()), options);
      if (!out.regex_->ok()) return Error{"from: " + in_quotes(from) + " is not a regular expression"};
      groups = out.regex_->NumberOfCapturingGroups();
    } else {
      // A domain with or without a dot in front is the same (RFC 6265 §5.2.3).
      if (literal == Literal::kWhole && from.starts_with('.')) from.remove_prefix(1);
      out.from_ = from;
    }
    if (out.to_.has_group_above(groups)) return Error{"to: names a group that `from` does not have"};
    return out;
  }

  // The value with what was found replaced; nothing if it does not fit.
  std::optional<std::string> apply(filter::Context& context, std::string_view value) const {
    std::string out;
    if (regex_) {
      re2::StringPiece groups[kMaxGroups];
      const int count = std::min(regex_->NumberOfCapturingGroups() + 1, kMaxGroups);
      if (!regex_->Match({value.data(), value.size()}, 0, value.size(), re2::RE2::UNANCHORED, groups, count)) {
        return std::nullopt;
      }
      const auto begin = static_cast<size_t>(groups[0].data() - value.data());
      out.append(value.substr(0, begin));
      to_.append(context, groups, out);
      out.append(value.substr(begin + groups[0].size()));
      return out;
    }
    if (literal_ == Literal::kWhole) {
      if (value.starts_with('.')) value.remove_prefix(1);
      if (!equal_in_any_case(value, from_)) return std::nullopt;
      to_.append(context, nullptr, out);
      return out;
    }
    if (!value.starts_with(from_)) return std::nullopt;
    to_.append(context, nullptr, out);
    out.append(value.substr(from_.size()));
    return out;
  }

 private:
  std::string from_;
  std::shared_ptr<const re2::RE2> regex_;
  Replacement to_;
  Literal literal_ = Literal::kStart;
};

using Rules = std::vector<CompiledRule>;

struct Program {
  Rules cookie_domain, cookie_path, location;
  bool empty() const { return cookie_domain.empty() && cookie_path.empty() && location.empty(); }
};

std::optional<std::string> apply(const Rules& rules, filter::Context& context, std::string_view value) {
  for (const CompiledRule& rule : rules) {
    if (auto out = rule.apply(context, value)) return out;
  }
  return std::nullopt;
}

// What came from the request may hold anything; a field value must not break out of its field.
bool is_safe(std::string_view text) {
  for (char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return false;
  }
  return true;
}

// The Set-Cookie field with its attributes changed; empty: nothing changed.
std::string rewritten_cookie(const Program& program, filter::Context& context, std::string_view cookie) {
  std::string out;
  bool changed = false;
  size_t at = cookie.find(';');
  out.append(cookie.substr(0, at));
  while (at < cookie.size()) {
    const size_t end = std::min(cookie.find(';', at + 1), cookie.size());
    const std::string_view attribute = cookie.substr(at + 1, end - at - 1);
    const size_t equals = attribute.find('=');
    const std::string_view name = trim(attribute.substr(0, equals));
    const Rules* rules = equal_in_any_case(name, "domain") ? &program.cookie_domain
                         : equal_in_any_case(name, "path") ? &program.cookie_path
                                                           : nullptr;
    std::optional<std::string> value;
    if (rules && equals != attribute.npos) value = apply(*rules, context, trim(attribute.substr(equals + 1)));
    if (value && is_safe(*value) && value->find(';') == value->npos) {
      out.append("; ").append(name).append("=").append(*value);
      changed = true;
    } else {
      out.append(";").append(attribute);
    }
    at = end;
  }
  return changed ? out : std::string();
}

class ResponseRewrite final : public filter::Filter {
 public:
  explicit ResponseRewrite(const Program& program) : program_(program) {}

  filter::Status on_response_headers(filter::Context& context, bool end) override {
    http::HeaderMap& headers = context.response().headers;
    if (!program_.location.empty()) {
      rewrite_location(context, headers);
      rewrite_refresh(context, headers);
    }
    if (!program_.cookie_domain.empty() || !program_.cookie_path.empty()) rewrite_cookies(context, headers);
    return filter::Status::kContinue;
  }

 private:
  void rewrite_location(filter::Context& context, http::HeaderMap& headers) const {
    const std::string_view value = headers.get(HeaderId::kLocation);
    if (value.empty()) return;
    const auto changed = apply(program_.location, context, value);
    if (changed && is_safe(*changed)) headers.set(HeaderId::kLocation, context.arena().copy(*changed));
  }

  // "5; url=http://…"
  void rewrite_refresh(filter::Context& context, http::HeaderMap& headers) const {
    const std::string_view value = headers.get("refresh");
    const size_t semicolon = value.find(';');
    if (semicolon == value.npos) return;
    std::string_view rest = trim(value.substr(semicolon + 1));
    if (rest.size() < 4 || !equal_in_any_case(rest.substr(0, 4), "url=")) return;
    const auto changed = apply(program_.location, context, rest.substr(4));
    if (!changed || !is_safe(*changed)) return;
    headers.set("refresh", context.arena().copy(std::string(value.substr(0, semicolon)) + "; url=" + *changed));
  }

  void rewrite_cookies(filter::Context& context, http::HeaderMap& headers) const {
    std::vector<std::string_view> cookies;
    bool changed = false;
    for (const http::HeaderField& field : headers) {
      if (field.id != HeaderId::kSetCookie) continue;
      const std::string cookie = rewritten_cookie(program_, context, field.value());
      changed |= !cookie.empty();
      cookies.push_back(cookie.empty() ? field.value() : context.arena().copy(cookie));
    }
    if (!changed) return;
    headers.remove(HeaderId::kSetCookie);
    for (std::string_view cookie : cookies) headers.add(HeaderId::kSetCookie, cookie);
  }

  const Program& program_;
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(Program program) : program_(std::move(program)) {}

  std::string_view name() const override { return "response-rewrite"; }
  filter::Filter* create(filter::Context& context) const override {
    return program_.empty() ? nullptr : context.arena().create<ResponseRewrite>(program_);
  }

 private:
  const Program program_;
};

Status compile(const std::vector<Rule>& rules, std::string_view field, CompiledRule::Literal literal, Rules* out) {
  for (size_t i = 0; i < rules.size(); ++i) {
    auto compiled = CompiledRule::compile(rules[i], literal);
    if (!compiled) {
      return Error{std::string(field) + "[" + std::to_string(i) + "]." + compiled.error().message};
    }
    out->push_back(std::move(*compiled));
  }
  return {};
}

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  Program program;
  using Literal = CompiledRule::Literal;
  for (const Status& status : {compile(config->cookie_domain, "cookie_domain", Literal::kWhole, &program.cookie_domain),
                               compile(config->cookie_path, "cookie_path", Literal::kStart, &program.cookie_path),
                               compile(config->location, "location", Literal::kStart, &program.location)}) {
    if (!status) return status.error();
  }
  return FactoryPointer(std::make_shared<Factory>(std::move(program)));
}

}  // namespace

Plugin plugin() {
  return {"response-rewrite", parse, "Changes cookie domains and paths, Location and Refresh of responses.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::response_rewrite
