#pragma once
// Replacement: what stands in place of something that was found: text with variables (variables.h) and with the groups
// `$0` to `$9` of the regular expression that found it.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "plugins/variables.h"

namespace re2 {
class RE2;
}

namespace sluice::plugins {

class Replacement {
 public:
  static constexpr int kMaxGroups = 10;  // the whole match among them

  // `groups`: how many the expression has.
  static Result<Replacement> parse(std::string_view text, int groups);

  // `groups`: kMaxGroups texts; may be null if the expression has none.
  void append(filter::Context& context, const std::string_view* groups, std::string& out) const;

 private:
  struct Piece {
    VariableTemplate text;
    int group = -1;
  };
  Status add(std::string_view text);

  std::vector<Piece> pieces_;
};

// RE2 with a bound on its size. The error says what is wrong.
Result<std::shared_ptr<const re2::RE2>> compile_pattern(std::string_view text, bool ignore_case);
// Whether the text has a match; `groups` (kMaxGroups) may be null.
bool find_match(const re2::RE2& pattern, std::string_view text, std::string_view* groups);

}  // namespace sluice::plugins
