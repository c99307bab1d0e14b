#include "plugins/replacement.h"

#include <re2/re2.h>

#include <algorithm>

#include "plugins/schema.h"

namespace sluice::plugins {

Result<Replacement> Replacement::parse(std::string_view text, int groups) {
  Replacement out;
  size_t begin = 0;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] != '$' || text[i + 1] < '0' || text[i + 1] > '9') continue;
    const int group = text[i + 1] - '0';
    if (group > groups) return Error{"$" + std::to_string(group) + " is not a group of the expression"};
    if (auto added = out.add(text.substr(begin, i - begin)); !added) return added.error();
    out.pieces_.push_back({{}, group});
    begin = ++i + 1;
  }
  if (auto added = out.add(text.substr(begin)); !added) return added.error();
  return out;
}

Status Replacement::add(std::string_view text) {
  if (text.empty()) return {};
  auto parsed = VariableTemplate::parse(text);
  if (!parsed) return parsed.error();
  pieces_.push_back({std::move(*parsed), -1});
  return {};
}

void Replacement::append(filter::Context& context, const std::string_view* groups, std::string& out) const {
  for (const Piece& piece : pieces_) {
    if (piece.group < 0) {
      out += piece.text.render(context);
    } else if (groups) {
      out += groups[piece.group];
    }
  }
}

Result<std::shared_ptr<const re2::RE2>> compile_pattern(std::string_view text, bool ignore_case) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  options.set_case_sensitive(!ignore_case);
  auto out = std::make_shared<const re2::RE2>(re2::StringPiece(text.data(), text.size()), options);
  if (!out->ok()) return Error{in_quotes(text) + " is not a regular expression: " + out->error()};
  return out;
}

bool find_match(const re2::RE2& pattern, std::string_view text, std::string_view* groups) {
  re2::StringPiece found[Replacement::kMaxGroups];
  const int count = groups ? std::min(pattern.NumberOfCapturingGroups() + 1, Replacement::kMaxGroups) : 0;
  if (!pattern.Match({text.data(), text.size()}, 0, text.size(), re2::RE2::UNANCHORED, found, count)) return false;
  for (int i = 0; i < count; ++i) groups[i] = {found[i].data(), found[i].size()};
  return true;
}

}  // namespace sluice::plugins
