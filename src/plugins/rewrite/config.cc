#include "plugins/rewrite/config.h"

#include <algorithm>

namespace sluice::plugins::rewrite {
namespace {

std::string check_target_text(std::string& value) {
  const bool good = std::all_of(value.begin(), value.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte > 0x20 && byte != 0x7f && byte != '#';
  });
  return good ? std::string()
              : in_quotes(value) + " holds a space, a '#' or a control character; write it percent-encoded";
}

std::optional<Problem> check_path(const PathConfig& path) {
  const int given = !path.regex.empty() + !path.literal.empty() + !path.prefix.empty();
  if (given > 1) return Problem{{}, "only one of regex, literal and prefix can be given"};
  if (!path.prefix.empty() && path.prefix[0] != '/')
    return Problem{"prefix", in_quotes(path.prefix) + " must begin with '/'"};
  if (given == 0 && !path.replacement.empty() && path.replacement[0] != '/') {
    return Problem{"replacement", in_quotes(path.replacement) + " must begin with '/'"};
  }
  return std::nullopt;
}

const Schema<PathConfig>& path_schema() {
  static const Schema<PathConfig> kSchema =
      Schema<PathConfig>()
          .text("regex", &PathConfig::regex, "RE2 expression; every match of it in the path is replaced.")
          .text("literal", &PathConfig::literal, "Text; every occurrence of it in the path is replaced.")
          .text("prefix", &PathConfig::prefix,
                "Path prefix, element by element, that is replaced: with `/p` and the replacement "
                "`/x`, `/p/y` becomes "
                "`/x/y`; a path that doesn't begin with it stays.")
          .text("replacement", &PathConfig::replacement,
                "What comes instead. With `regex`, `\\1` to `\\9` stand for groups, `\\0` for the "
                "match and `\\\\` for a "
                "backslash. With none of the three above it is the whole new path.",
                check_target_text)
          .check(check_path);
  return kSchema;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .text("host", &Config::host, "Host, with an optional port, that the upstream sees.", check_authority)
          .object("path", &Config::path, path_schema(), "How the path is changed. The query is kept as it is.");
  return kSchema;
}

}  // namespace sluice::plugins::rewrite
