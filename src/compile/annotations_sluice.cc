// Our own annotations: what neither Higress nor ingress-nginx can say.

#include "compile/annotation_parsers.h"

namespace sluice::compile {
namespace {

using namespace read;
using Scope = AnnotationScope;

bool compat(const AnnotationCall& c) {
  size_t index;
  if (!one_word(c, {"higress", "nginx"}, &index)) return false;
  return c.out.as_nginx = index == 1, true;
}

constexpr Annotation kTable[] = {
    {"compat", Prefixes::kSluice, Scope::kMatch, compat,
     "`nginx` or `higress`: whose meaning holds where the two differ; without it as `sluice.compat` of "
     "`higress-config` says, or else `--compat`. See "
     "[Where nginx and Higress differ](../compatibility.md#where-nginx-and-higress-differ).",
     "nginx"},
    {"filters", Prefixes::kSluice, Scope::kRoute, filters,
     "Native plugins of the routes, in order: a YAML list of `{name, config}`; see [Use filters](filters.md).",
     "[{name: cors}]"},
    {"limit-status", Prefixes::kSluice, Scope::kRoute, limit_status,
     "Status of what `limit-rps`, `limit-rpm` and `limit-connections` refuse; default 503.", "429"},
    {"upstream", Prefixes::kSluice, Scope::kService, upstream,
     "How a service's endpoints are treated: health checks, outlier detection, circuit breaking and more; see [Choose "
     "and watch endpoints](upstream.md).",
     "{slow_start_ms: 5000}"},
};

}  // namespace

std::span<const Annotation> sluice_annotations() { return kTable; }

}  // namespace sluice::compile
