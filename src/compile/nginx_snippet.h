#pragma once
// Translates the common directives of a snippet of nginx's configuration into the steps of the plugin `directives`.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "plugins/config_node.h"

namespace sluice::compile {

struct NginxSnippet {
  plugins::ConfigNode steps = plugins::ConfigNode::list();
  std::vector<std::string> problems;  // "line 3: proxy_cache can't be translated"
  // Not empty: a directive that was to keep somebody out could not be translated. Says which.
  std::string lost_guard;
};

NginxSnippet translate_nginx_snippet(std::string_view text);

// Of a snippet for the call of external authentication: the fields it sets there, with variables; an empty value leaves
// the field out.
struct NginxAuthSnippet {
  std::vector<std::pair<std::string, std::string>> fields;
  std::vector<std::string> problems;
  // Not empty: what the service decides by could not be translated. Says what.
  std::string lost_guard;
};

NginxAuthSnippet translate_nginx_auth_snippet(std::string_view text);

}  // namespace sluice::compile
