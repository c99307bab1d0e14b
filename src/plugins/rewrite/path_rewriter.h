#pragma once
// PathRewriter: a path rewrite, compiled.
//
// Most regular expressions that configurations hold are plain text with an anchor: `\/foo`,
// `^\/foo`, `^\/foo(/.*)?$` with `X\1`, `^.*$`. They are recognised when the configuration is read
// and then cost a comparison of bytes; RE2 runs for the others only.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/arena.h"
#include "base/result.h"
#include "plugins/rewrite/config.h"

namespace re2 {
class RE2;
}

namespace sluice::plugins::rewrite {

// A path that is longer than this after the rewrite is refused.
inline constexpr size_t kMaxPath = 65536;

class PathRewriter {
 public:
  enum class Mode : uint8_t {
    kWhole,    // the whole path is replaced
    kPrefix,   // "/p" → X, "/p/y" → X/y
    kStart,    // the text at the start of the path is replaced
    kLiteral,  // every occurrence of the text is replaced
    kRegex,    // every match is replaced
  };

  static Result<PathRewriter> make(const PathConfig& config);

  enum class Outcome : uint8_t { kUnchanged, kChanged, kTooLong };
  // Rewrites the path of `target`, a request target with its query ("/a?b"). On kChanged `*out` is
  // the new target.
  Outcome rewrite(std::string_view target, Arena& arena, std::string_view* out) const;

  Mode mode() const { return mode_; }

 private:
  // A part of the replacement of a regular expression: text, or a group's number.
  struct Piece {
    std::string text;
    int group = -1;
  };

  static Result<PathRewriter> make_regex(const PathConfig& config);
  bool simplify(std::string_view regex);
  Outcome replace_literal(std::string_view path, Arena& arena, std::string_view* out) const;
  Outcome replace_regex(std::string_view path, Arena& arena, std::string_view* out) const;
  Outcome replace_path(std::string_view path, Arena& arena, std::string_view* out) const;
  bool literal_replacement(std::string* out) const;

  Mode mode_ = Mode::kWhole;
  std::string text_;
  std::string replacement_;
  std::vector<Piece> pieces_;
  std::shared_ptr<const re2::RE2> regex_;
};

}  // namespace sluice::plugins::rewrite
