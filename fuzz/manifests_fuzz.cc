// Any text as a manifest: parsed, compiled, changed, routed, explained and dumped. Nothing may
// crash, hang or leak, and two control planes that got the same text must agree.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "compile/control_plane.h"
#include "compile/dump.h"
#include "compile/explain.h"
#include "resource/parse.h"

namespace {

using namespace sluice;

resource::ParsedFile parse(const std::string& text, const char* name) {
  return resource::parse_manifests(text, std::make_shared<const std::string>(name));
}

std::vector<resource::ParsedFile> one(resource::ParsedFile file) {
  std::vector<resource::ParsedFile> out;
  out.push_back(std::move(file));
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  compile::Options options;
  options.ingress_class = "";
  compile::ControlPlane control(options), other(options);
  control.apply(one(parse(text, "a")), {});
  control.apply(one(parse(text.substr(0, size / 2), "b")), {});
  control.apply(one(parse(text, "b")), {"a"});
  other.apply(one(parse(text, "b")), {});
  for (const char* request : {"GET http://a/", "PUT https://b.example.com/a/b?x=1"}) {
    compile::explain(*control.snapshot(), *compile::ExplainRequest::parse(request, {"x: 1"}));
  }
  for (const auto& diagnostic : control.diagnostics()) {
    if (diagnostic.render().find('\n') != std::string::npos) abort();
  }
  control.status();
  // Where the first half was good and the whole is not, the last good versions differ, and global
  // options outlive their ConfigMap; else both must be the same.
  if (text.find("higress-config") == text.npos && resource::count_errors(other.diagnostics()) == 0 &&
      compile::dump(*control.snapshot()) != compile::dump(*other.snapshot())) {
    abort();
  }
  return 0;
}
