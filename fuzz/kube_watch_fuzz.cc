// The stream of a watch: lines in pieces of any size, events, and the objects in them as every kind that is watched.
// The first byte says how long the pieces are.

#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "resource/parse.h"
#include "source/kube/kube_source.h"
#include "source/kube/lines.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice;
  if (size == 0) return 0;
  const size_t piece = data[0] + size_t{1};
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  source::kube::LineSplitter lines(4096);
  resource::JsonParser parser;
  while (!text.empty()) {
    const bool more = lines.feed(text.substr(0, piece), [&](std::string_view line) {
      if (line.find('\n') != line.npos || line.empty()) std::abort();
      const resource::Node* root = parser.parse(line);
      const resource::Node* object = root ? root->find("object") : nullptr;
      if (!object) return true;
      for (const source::kube::KindApi& api : source::kube::watched_kinds()) {
        const auto parsed =
            resource::parse_object(*object, std::make_shared<const std::string>("f"), api.name, api.api_version);
        for (const auto& diagnostic : parsed.diagnostics) (void)diagnostic.render();
      }
      return true;
    });
    if (!more) break;
    text.remove_prefix(std::min(piece, text.size()));
  }
  if (lines.partial() > 4096) std::abort();
  return 0;
}
