// Annotations that only ingress-nginx has, but those of access.

#include "compile/annotation_parsers.h"
#include "plugins/schema.h"
#include "resource/reader.h"

namespace sluice::compile::read {

using resource::in_quotes;

bool custom_headers(const AnnotationCall& c) {
  std::string unused;
  if (parse_secret_ref(c.value, c.ns, &c.out.custom_headers, &unused)) return true;
  *c.error = in_quotes(c.value) + " is not a ConfigMap: write name or namespace/name";
  return false;
}

bool forwarded_prefix(const AnnotationCall& c) {
  std::string value(c.value);
  if (std::string problem = plugins::check_header_value(value); !problem.empty()) {
    *c.error = std::move(problem);
    return false;
  }
  return c.out.forwarded_prefix = std::move(value), true;
}

namespace {

bool tracing(const AnnotationCall& c, config::RouteTracing::Switch* out) {
  using Switch = config::RouteTracing::Switch;
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  return *out = on ? Switch::kOn : Switch::kOff, true;
}

}  // namespace

bool tracing_switch(const AnnotationCall& c) { return tracing(c, &c.out.tracing.enable); }
bool tracing_trust(const AnnotationCall& c) { return tracing(c, &c.out.tracing.trust_incoming); }

bool tracing_operation(const AnnotationCall& c) {
  if (c.value.find('$') != c.value.npos) {
    *c.error = in_quotes(c.value) + " holds a variable; the name of a span is a fixed text";
    return false;
  }
  return c.out.tracing.operation = c.value, true;
}

}  // namespace sluice::compile::read
