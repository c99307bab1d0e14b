#pragma once
// The syntax of nginx's configuration: directives of words, ended by `;` or a block. Bounded in size, count and depth.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::compile {

struct NginxDirective {
  int line = 1;
  std::vector<std::string> words;  // the name first; quotes are taken off
  bool has_block = false;
  std::vector<NginxDirective> block;

  const std::string& name() const { return words.front(); }
};

// The error begins with the line: "line 3: …".
Result<std::vector<NginxDirective>> parse_nginx_config(std::string_view text);

}  // namespace sluice::compile
