#include "plugins/rewrite/path_rewriter.h"

#include <re2/re2.h>

#include <algorithm>
#include <cstring>

namespace sluice::plugins::rewrite {
namespace {

constexpr int kMaxGroups = 10;  // \0 to \9

// A text that grows in an arena, up to kMaxPath bytes.
class PathText {
 public:
  PathText(Arena& arena, size_t expected)
      : arena_(arena), capacity_(expected), data_(arena.allocate_array<char>(expected)) {}

  void append(std::string_view text) {
    if (size_ + text.size() > kMaxPath) too_long_ = true;
    if (too_long_ || text.empty()) return;
    if (size_ + text.size() > capacity_) {
      capacity_ = std::min(std::max(capacity_ * 2, size_ + text.size()), kMaxPath);
      char* data = arena_.allocate_array<char>(capacity_);
      std::memcpy(data, data_, size_);
      data_ = data;
    }
    std::memcpy(data_ + size_, text.data(), text.size());
    size_ += text.size();
  }

  bool too_long() const { return too_long_; }
  std::string_view view() const { return {data_, size_}; }

 private:
  Arena& arena_;
  size_t capacity_;
  size_t size_ = 0;
  char* data_;
  bool too_long_ = false;
};

re2::StringPiece piece(std::string_view text) { return {text.data(), text.size()}; }
std::string_view view(re2::StringPiece text) { return {text.data(), text.size()}; }

// Takes the longest start of `regex` that stands for itself, unescaped, off it.
std::string take_literal(std::string_view& regex) {
  std::string out;
  while (!regex.empty()) {
    const char c = regex[0];
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || byte >= 0x80 ||
                       std::string_view("/_-%~!@&=:,;<>'\"").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
      regex.remove_prefix(1);
      continue;
    }
    // A backslash before punctuation takes its meaning away.
    if (c != '\\' || regex.size() < 2) break;
    const char escaped = regex[1];
    if (!(escaped > 0x20 && escaped < 0x7f) || (escaped >= '0' && escaped <= '9') ||
        (escaped >= 'a' && escaped <= 'z') || (escaped >= 'A' && escaped <= 'Z') || escaped == '_') {
      break;
    }
    out += escaped;
    regex.remove_prefix(2);
  }
  return out;
}

// "a?", "a*" and the like: the last character of what was taken belongs to the operator.
bool is_repetition(std::string_view rest) {
  return !rest.empty() && (rest[0] == '?' || rest[0] == '*' || rest[0] == '+' || rest[0] == '{');
}

}  // namespace

Result<PathRewriter> PathRewriter::make(const PathConfig& config) {
  if (!config.regex.empty()) return make_regex(config);
  PathRewriter out;
  out.replacement_ = config.replacement;
  if (!config.prefix.empty()) {
    out.mode_ = Mode::kPrefix;
    out.text_ = config.prefix;
    while (out.text_.ends_with('/')) out.text_.pop_back();
  } else if (!config.literal.empty()) {
    out.mode_ = Mode::kLiteral;
    out.text_ = config.literal;
  }
  return out;
}

Result<PathRewriter> PathRewriter::make_regex(const PathConfig& config) {
  PathRewriter out;
  out.mode_ = Mode::kRegex;
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto regex = std::make_shared<re2::RE2>(config.regex, options);
  if (!regex->ok()) {
    return Error{"regex: " + in_quotes(config.regex) + " is not a regular expression (RE2): " + regex->error()};
  }
  const int groups = std::min(regex->NumberOfCapturingGroups(), kMaxGroups - 1);
  std::string literal;
  const std::string& text = config.replacement;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      literal += text[i];
      continue;
    }
    const char next = i + 1 < text.size() ? text[++i] : '\0';
    if (next == '\\') {
      literal += '\\';
      continue;
    }
    if (next < '0' || next > '9') {
      return Error{"replacement: a backslash stands before a group's digit or another backslash, not " +
                   (next ? in_quotes(std::string(1, next)) : std::string("at the end"))};
    }
    if (next - '0' > groups) {
      return Error{std::string("replacement: \\") + next + " refers to a group that the regex doesn't have"};
    }
    if (!literal.empty()) out.pieces_.push_back({std::move(literal), -1});
    literal.clear();
    out.pieces_.push_back({{}, next - '0'});
  }
  if (!literal.empty()) out.pieces_.push_back({std::move(literal), -1});
  if (!out.simplify(config.regex)) out.regex_ = std::move(regex);
  return out;
}

bool PathRewriter::literal_replacement(std::string* out) const {
  if (pieces_.size() > 1 || (pieces_.size() == 1 && pieces_[0].group >= 0)) return false;
  *out = pieces_.empty() ? std::string() : pieces_[0].text;
  return true;
}

// Recognises the forms of the head comment.
bool PathRewriter::simplify(std::string_view regex) {
  std::string replacement;
  const bool literal = literal_replacement(&replacement);
  const bool anchored = regex.starts_with('^');
  std::string_view rest = regex.substr(anchored ? 1 : 0);
  std::string text = take_literal(rest);
  if (is_repetition(rest)) return false;
  Mode mode;
  if (literal && rest.empty() && !text.empty()) {
    mode = anchored ? Mode::kStart : Mode::kLiteral;
  } else if (anchored && literal && text.empty() && rest == ".*$") {
    mode = Mode::kWhole;
  } else if (anchored && literal && rest == "(/|$)" && replacement.ends_with('/')) {
    mode = Mode::kPrefix;
  } else if (anchored && rest == "(/.*)?$" && !text.ends_with('/') && !pieces_.empty() && pieces_.back().group == 1 &&
             (pieces_.size() == 1 || (pieces_.size() == 2 && pieces_[0].group < 0))) {
    mode = Mode::kPrefix;
    replacement = pieces_.size() == 2 ? pieces_[0].text : std::string();
    if (replacement.ends_with('/')) return false;  // the slash of the rest is kept beside it
  } else {
    return false;
  }
  mode_ = mode;
  text_ = std::move(text);
  replacement_ = std::move(replacement);
  pieces_.clear();
  return true;
}

PathRewriter::Outcome PathRewriter::rewrite(std::string_view target, Arena& arena, std::string_view* out) const {
  const size_t question = target.find('?');
  const std::string_view path = target.substr(0, question);
  std::string_view changed;
  const Outcome outcome = replace_path(path, arena, &changed);
  if (outcome != Outcome::kChanged || changed == path)
    return outcome == Outcome::kTooLong ? outcome : Outcome::kUnchanged;
  if (changed.size() > kMaxPath) return Outcome::kTooLong;
  const std::string_view slash = changed.starts_with('/') ? "" : "/";
  if (question == std::string_view::npos) {
    *out = slash.empty() ? changed : arena.concat(slash, changed);
    return Outcome::kChanged;
  }
  if (changed.find('?') != std::string_view::npos) {
    // The replacement brings a query of its own: the request's follows it.
    changed = arena.concat(changed, "&");
    *out = arena.concat(slash, changed, target.substr(question + 1));
  } else {
    *out = arena.concat(slash, changed, target.substr(question));
  }
  return Outcome::kChanged;
}

PathRewriter::Outcome PathRewriter::replace_path(std::string_view path, Arena& arena, std::string_view* out) const {
  switch (mode_) {
    case Mode::kWhole:
      *out = replacement_;
      return Outcome::kChanged;
    case Mode::kPrefix: {
      if (!path.starts_with(text_)) return Outcome::kUnchanged;
      std::string_view rest = path.substr(text_.size());
      if (!rest.empty() && rest[0] != '/') return Outcome::kUnchanged;
      if (!rest.empty() && replacement_.ends_with('/')) rest.remove_prefix(1);
      *out = arena.concat(replacement_, rest);
      return Outcome::kChanged;
    }
    case Mode::kStart:
      if (!path.starts_with(text_)) return Outcome::kUnchanged;
      *out = arena.concat(replacement_, path.substr(text_.size()));
      return Outcome::kChanged;
    case Mode::kLiteral:
      return replace_literal(path, arena, out);
    case Mode::kRegex:
      return replace_regex(path, arena, out);
  }
  return Outcome::kUnchanged;
}

PathRewriter::Outcome PathRewriter::replace_literal(std::string_view path, Arena& arena, std::string_view* out) const {
  size_t found = path.find(text_);
  if (found == std::string_view::npos) return Outcome::kUnchanged;
  PathText text(arena, path.size() + replacement_.size());
  size_t at = 0;
  for (; found != std::string_view::npos && !text.too_long(); found = path.find(text_, at)) {
    text.append(path.substr(at, found - at));
    text.append(replacement_);
    at = found + text_.size();
  }
  text.append(path.substr(at));
  *out = text.view();
  return text.too_long() ? Outcome::kTooLong : Outcome::kChanged;
}

// As RE2::GlobalReplace, within bounds.
PathRewriter::Outcome PathRewriter::replace_regex(std::string_view path, Arena& arena, std::string_view* out) const {
  re2::StringPiece groups[kMaxGroups];
  const int group_count = std::min(regex_->NumberOfCapturingGroups() + 1, kMaxGroups);
  PathText text(arena, path.size() + 64);
  const char* last_end = nullptr;
  size_t at = 0;
  bool changed = false;
  while (at <= path.size() && !text.too_long()) {
    if (!regex_->Match(piece(path), at, path.size(), re2::RE2::UNANCHORED, groups, group_count)) break;
    const std::string_view match = view(groups[0]);
    const auto begin = static_cast<size_t>(match.data() - path.data());
    text.append(path.substr(at, begin - at));
    at = begin;
    if (match.empty() && match.data() == last_end) {
      // No empty match right behind another match.
      text.append(path.substr(at, 1));
      ++at;
      continue;
    }
    for (const Piece& part : pieces_)
      text.append(part.group < 0 ? std::string_view(part.text) : view(groups[part.group]));
    at += match.size();
    last_end = path.data() + at;
    changed = true;
  }
  if (!changed) return Outcome::kUnchanged;
  if (at < path.size()) text.append(path.substr(at));
  *out = text.view();
  return text.too_long() ? Outcome::kTooLong : Outcome::kChanged;
}

}  // namespace sluice::plugins::rewrite
