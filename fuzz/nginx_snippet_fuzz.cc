// A snippet of nginx's configuration: nothing crashes, and what is translated is what the plugin takes, as a whole too.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compile/nginx_snippet.h"
#include "plugins/registry.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  compile::NginxSnippet snippet = compile::translate_nginx_snippet({reinterpret_cast<const char*>(data), size});
  plugins::ConfigNode config = plugins::ConfigNode::map();
  config.set("steps", std::move(snippet.steps));
  if (!plugins::find("directives")->parse(config)) abort();
  const auto auth = compile::translate_nginx_auth_snippet({reinterpret_cast<const char*>(data), size});
  if (!auth.lost_guard.empty() && auth.problems.empty()) abort();
  return 0;
}
