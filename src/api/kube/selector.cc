#include "api/kube/selector.h"

#include <algorithm>

namespace sluice::api::kube {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.' || c == '/';
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

}  // namespace

class LabelSelector::Parser {
 public:
  explicit Parser(std::string_view text) : rest_(text) {}

  Result<LabelSelector> run() {
    LabelSelector out;
    skip();
    while (!rest_.empty()) {
      Term term;
      if (!this->term(term))
        return Error{"unable to parse the label selector at \"" + std::string(rest_.substr(0, 40)) + "\""};
      out.terms_.push_back(std::move(term));
      if (out.terms_.size() > kMaxTerms) return Error{"the label selector has too many terms"};
      skip();
      if (rest_.empty()) break;
      if (!take(","))
        return Error{"unable to parse the label selector at \"" + std::string(rest_.substr(0, 40)) + "\""};
      skip();
      if (rest_.empty()) return Error{"the label selector ends with a comma"};
    }
    return out;
  }

 private:
  bool term(Term& out) {
    const bool negated = take("!");
    skip();
    out.key = word();
    if (out.key.empty()) return false;
    skip();
    out.op = negated ? Operator::kAbsent : Operator::kExists;
    if (rest_.empty() || rest_.front() == ',' || negated) return true;
    if (take("!=")) return value(out, Operator::kNotIn);
    if (take("==") || take("=")) return value(out, Operator::kIn);
    if (take("notin")) return values(out, Operator::kNotIn);
    if (take("in")) return values(out, Operator::kIn);
    return false;
  }

  bool value(Term& out, Operator op) {
    skip();
    out.op = op;
    out.values.push_back(word());
    return true;
  }

  bool values(Term& out, Operator op) {
    skip();
    out.op = op;
    if (!take("(")) return false;
    do {
      skip();
      out.values.push_back(word());
      skip();
    } while (take(","));
    return take(")");
  }

  bool take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  void skip() {
    while (!rest_.empty() && rest_.front() == ' ') rest_.remove_prefix(1);
  }
  std::string word() {
    size_t length = 0;
    while (length < rest_.size() && is_word(rest_[length])) ++length;
    std::string out(rest_.substr(0, length));
    rest_.remove_prefix(length);
    return out;
  }

  std::string_view rest_;
};

Result<LabelSelector> LabelSelector::parse(std::string_view text) { return Parser(text).run(); }

bool LabelSelector::matches(const Labels& labels) const {
  return std::all_of(terms_.begin(), terms_.end(), [&](const Term& term) {
    const auto at = std::lower_bound(labels.begin(), labels.end(), term.key,
                                     [](const auto& label, const std::string& key) { return label.first < key; });
    const bool there = at != labels.end() && at->first == term.key;
    const auto listed = [&] {
      return std::find(term.values.begin(), term.values.end(), at->second) != term.values.end();
    };
    switch (term.op) {
      case Operator::kIn:
        return there && listed();
      case Operator::kNotIn:
        return !there || !listed();
      case Operator::kExists:
        return there;
      case Operator::kAbsent:
        return !there;
    }
    return false;
  });
}

Result<FieldSelector> FieldSelector::parse(std::string_view text) {
  FieldSelector out;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view term = trim(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
    if (term.empty()) continue;
    const size_t equals = term.find('=');
    if (equals == term.npos) return Error{"invalid field selector \"" + std::string(term) + "\": expected field=value"};
    const bool negated = equals > 0 && term[equals - 1] == '!';
    const std::string_view field = trim(term.substr(0, equals - negated));
    std::string_view value = term.substr(equals + 1);
    if (!negated && value.starts_with('=')) value.remove_prefix(1);
    if (field != "metadata.name" && field != "metadata.namespace") {
      return Error{"field label not supported: " + std::string(field)};
    }
    out.terms_.push_back({field == "metadata.name", !negated, std::string(trim(value))});
    if (out.terms_.size() > LabelSelector::kMaxTerms) return Error{"the field selector has too many terms"};
  }
  return out;
}

bool FieldSelector::matches(std::string_view ns, std::string_view name) const {
  return std::all_of(terms_.begin(), terms_.end(),
                     [&](const Term& term) { return (term.value == (term.of_name ? name : ns)) == term.equal; });
}

const std::string* FieldSelector::name() const {
  for (const Term& term : terms_) {
    if (term.of_name && term.equal) return &term.value;
  }
  return nullptr;
}

}  // namespace sluice::api::kube
