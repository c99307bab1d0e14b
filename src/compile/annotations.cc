#include "compile/annotations.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <unordered_map>

#include "compile/annotation_table.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

using resource::in_quotes;

constexpr std::string_view kNginx = "nginx.ingress.kubernetes.io/";
constexpr std::string_view kHigress = "higress.io/";
constexpr std::string_view kSluice = "sluice.io/";

std::array<std::span<const Annotation>, 6> tables() {
  return {higress_annotations(),        nginx_annotations(),      nginx_access_annotations(),
          nginx_upstream_annotations(), nginx_site_annotations(), sluice_annotations()};
}

bool is_family(const Annotation& annotation) { return annotation.key.ends_with('*'); }
std::string_view fixed_part(const Annotation& annotation) {
  return annotation.key.substr(0, annotation.key.size() - is_family(annotation));
}

const Annotation* find_annotation(std::string_view key) {
  struct Index {
    std::unordered_map<std::string_view, const Annotation*> by_key;
    std::vector<const Annotation*> families;
  };
  static const auto* const kIndex = [] {
    auto* index = new Index;
    for (std::span<const Annotation> table : tables()) {
      for (const Annotation& annotation : table) {
        if (is_family(annotation)) {
          index->families.push_back(&annotation);
        } else {
          index->by_key.emplace(annotation.key, &annotation);
        }
      }
    }
    return index;
  }();
  if (auto at = kIndex->by_key.find(key); at != kIndex->by_key.end()) return at->second;
  for (const Annotation* family : kIndex->families) {
    if (key.starts_with(fixed_part(*family))) return family;
  }
  return nullptr;
}

bool reads_nginx(Prefixes prefixes) { return prefixes == Prefixes::kBoth || prefixes == Prefixes::kNginx; }
bool reads_higress(Prefixes prefixes) { return prefixes == Prefixes::kBoth || prefixes == Prefixes::kHigress; }

// A key of the metadata, taken apart. `name` empty: none of ours.
struct Key {
  std::string_view prefix, name;
  bool is_read_by(const Annotation& annotation) const {
    if (prefix == kNginx) return reads_nginx(annotation.prefixes);
    if (prefix == kHigress) return reads_higress(annotation.prefixes);
    return annotation.prefixes == Prefixes::kSluice;
  }
};

Key take_apart(std::string_view key) {
  for (std::string_view prefix : {kNginx, kHigress, kSluice}) {
    if (key.starts_with(prefix)) return {prefix, key.substr(prefix.size())};
  }
  return {};
}

// What is given for one key, under the two prefixes.
struct Given {
  const resource::Pair* nginx = nullptr;
  const resource::Pair* other = nullptr;
};

class AnnotationReader {
 public:
  AnnotationReader(const resource::Ingress& ingress, bool as_nginx, resource::Diagnostics& diagnostics)
      : ingress_(ingress), diagnostics_(diagnostics) {
    out_.as_nginx = as_nginx;
  }

  IngressOptions read() {
    for (const resource::Pair& pair : ingress_.meta.annotations) collect(pair);
    // In the order of the tables, so that nothing depends on the order in the file.
    for (std::span<const Annotation> table : tables()) {
      for (const Annotation& annotation : table) {
        if (given_.empty()) break;
        if (auto at = given_.find(&annotation); at != given_.end()) apply(annotation, at->second);
      }
    }
    std::sort(out_.conditions.begin(), out_.conditions.end(), [](const auto& a, const auto& b) {
      return std::tie(a.source, a.name, a.kind, a.value) < std::tie(b.source, b.name, b.kind, b.value);
    });
    return std::move(out_);
  }

 private:
  void collect(const resource::Pair& pair) {
    const Key key = take_apart(pair.key);
    if (key.name.empty()) return;
    const Annotation* annotation = find_annotation(key.name);
    if (!annotation) return report(resource::Severity::kWarning, pair, "is not supported and has no effect");
    if (!key.is_read_by(*annotation)) {
      const std::string_view right = annotation->prefixes == Prefixes::kSluice  ? kSluice
                                     : annotation->prefixes == Prefixes::kNginx ? kNginx
                                                                                : kHigress;
      return report(resource::Severity::kWarning, pair,
                    "is not read with this prefix; write " + std::string(right) + std::string(key.name));
    }
    if (is_family(*annotation)) {
      apply(*annotation, pair);
      return;
    }
    (key.prefix == kNginx ? given_[annotation].nginx : given_[annotation].other) = &pair;
  }

  void apply(const Annotation& annotation, const Given& given) {
    if (given.nginx && apply(annotation, *given.nginx)) return;
    if (given.other && apply(annotation, *given.other)) return;
    if (annotation.if_invalid == IfInvalid::kClose && out_.refusal.empty() && !given_empty(given)) {
      out_.refusal = "the annotation " + std::string(annotation.key) + " is not valid";
    }
  }

  // A chart that leaves a value open means that there is no annotation.
  static bool given_empty(const Given& given) {
    for (const resource::Pair* pair : {given.nginx, given.other}) {
      if (pair && !trim(pair->value).empty()) return false;
    }
    return true;
  }

  bool apply(const Annotation& annotation, const resource::Pair& pair) {
    std::string value = trim_lines(pair.value);
    const bool family = is_family(annotation);
    if (!family && trim(value).empty()) {
      return report(resource::Severity::kWarning, pair, "is empty and has no effect"), false;
    }
    std::string_view suffix;
    if (family) suffix = take_apart(pair.key).name.substr(fixed_part(annotation).size());
    std::string error;
    const bool good = annotation.parse({value, pair.value, suffix, ingress_.meta.ns, out_, &error});
    if (!good && annotation.if_invalid == IfInvalid::kClose) error += "; the Ingress's routes answer 503";
    if (!error.empty()) report(good ? resource::Severity::kWarning : resource::Severity::kError, pair, error);
    return good;
  }

  void report(resource::Severity severity, const resource::Pair& pair, std::string message) {
    diagnostics_.push_back({severity, ingress_.meta.file ? *ingress_.meta.file : std::string(), pair.mark.line,
                            pair.mark.column, ingress_.key().to_string(), "metadata.annotations[" + pair.key + "]",
                            std::move(message)});
  }

  const resource::Ingress& ingress_;
  resource::Diagnostics& diagnostics_;
  IngressOptions out_;
  std::unordered_map<const Annotation*, Given> given_;
};

std::string escaped_for_table(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '|') out += '\\';
    if (c == '\n') {
      out += "⏎";
      continue;
    }
    out += c;
  }
  return out;
}

const char* name_of(AnnotationScope scope) {
  switch (scope) {
    case AnnotationScope::kMatch:
      return "match";
    case AnnotationScope::kRoute:
      return "route";
    case AnnotationScope::kCanaryRoute:
      return "route ✚";
    case AnnotationScope::kCanary:
      return "canary";
    case AnnotationScope::kService:
      return "service";
    case AnnotationScope::kHost:
      return "host";
  }
  return "?";
}

std::string documentation(std::span<const Annotation> table) {
  std::string out =
      "| Annotation | Prefix | Applies to | Meaning | Example | Status | Difference or stated effect |\n"
      "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Annotation& a : table) {
    out += "| `" + std::string(a.key) + "` | ";
    out += a.prefixes == Prefixes::kBoth      ? "both"
           : a.prefixes == Prefixes::kHigress ? "`higress.io`"
           : a.prefixes == Prefixes::kNginx   ? "nginx"
                                              : "`sluice.io`";
    out += std::string(" | ") + name_of(a.scope) + " | " + escaped_for_table(a.meaning) + " | `" +
           escaped_for_table(a.example) + "` | " + (a.status == AnnotationStatus::kWorks ? "works" : "accepted") +
           " | " + escaped_for_table(a.difference);
    if (a.if_invalid == IfInvalid::kClose) out += std::string(a.difference.empty() ? "" : " ") + "Not valid: 503.";
    out += " |\n";
  }
  return out;
}

}  // namespace

bool one_word(const AnnotationCall& c, std::initializer_list<std::string_view> words, size_t* index) {
  std::string list;
  for (size_t i = 0; i < words.size(); ++i) {
    if (iequals(c.value, words.begin()[i])) return *index = i, true;
    list += (i ? ", " : "") + std::string(words.begin()[i]);
  }
  *c.error = in_quotes(c.value) + " is not one of " + list;
  return false;
}

bool absolute_path(const AnnotationCall& c, std::string* out) {
  if (c.value[0] != '/') {
    *c.error = in_quotes(c.value) + " must begin with '/'";
    return false;
  }
  return *out = c.value, true;
}

bool on_off(const AnnotationCall& c, bool* out) {
  if (c.value == "on" || c.value == "off") return *out = c.value == "on", true;
  *c.error = in_quotes(c.value) + " is not on or off";
  return false;
}

bool bounded_int(const AnnotationCall& c, int64_t min, int64_t max, int64_t* out) {
  int64_t value;
  if (!parse_int(c.raw, &value, c.error)) return false;
  if (value < min || value > max) {
    *c.error = in_quotes(c.raw) + " is not in " + std::to_string(min) + ".." + std::to_string(max);
    return false;
  }
  return *out = value, true;
}

IngressOptions parse_annotations(const resource::Ingress& ingress, bool as_nginx, resource::Diagnostics& out) {
  return AnnotationReader(ingress, as_nginx, out).read();
}

namespace {

AnnotationInfo info_of(const Annotation& a) {
  return {a.key, reads_nginx(a.prefixes), reads_higress(a.prefixes), a.status, a.difference};
}

}  // namespace

std::vector<AnnotationInfo> known_annotations() {
  std::vector<AnnotationInfo> out;
  for (std::span<const Annotation> table : tables()) {
    for (const Annotation& annotation : table) out.push_back(info_of(annotation));
  }
  return out;
}

std::optional<AnnotationInfo> annotation_info(std::string_view key) {
  const Key parts = take_apart(key);
  const Annotation* annotation = parts.name.empty() ? nullptr : find_annotation(parts.name);
  if (!annotation || !parts.is_read_by(*annotation)) return std::nullopt;
  return info_of(*annotation);
}

bool is_gateway_annotation(std::string_view key) { return !take_apart(key).name.empty(); }

std::vector<std::string> without_effect_in_canary(const resource::Ingress& ingress) {
  std::vector<std::string> out;
  for (const resource::Pair& pair : ingress.meta.annotations) {
    const Key key = take_apart(pair.key);
    const Annotation* annotation = key.name.empty() ? nullptr : find_annotation(key.name);
    if (!annotation || !key.is_read_by(*annotation)) continue;
    if (annotation->scope == AnnotationScope::kRoute || annotation->scope == AnnotationScope::kHost) {
      out.push_back(pair.key);
    }
  }
  return out;
}

std::vector<std::string> without_effect_in_passthrough(const resource::Ingress& ingress) {
  std::vector<std::string> out;
  for (const resource::Pair& pair : ingress.meta.annotations) {
    const Key key = take_apart(pair.key);
    const Annotation* annotation = key.name.empty() ? nullptr : find_annotation(key.name);
    if (!annotation || !key.is_read_by(*annotation) || annotation->if_invalid != IfInvalid::kClose) continue;
    if (key.name != "whitelist-source-range" && key.name != "denylist-source-range") out.push_back(pair.key);
  }
  return out;
}

std::string annotations_documentation() {
  return "## Higress's annotations\n\n" + documentation(higress_annotations()) +
         "\n## Further annotations of ingress-nginx\n\n### Routing\n\n" + documentation(nginx_annotations()) +
         "\n### Access, limits and sizes\n\n" + documentation(nginx_access_annotations()) +
         "\n### Towards services\n\n" + documentation(nginx_upstream_annotations()) +
         "\n### Hosts, redirects and responses\n\n" + documentation(nginx_site_annotations()) +
         "\n## Sluice's own\n\n" + documentation(sluice_annotations());
}

bool path_is_regex(const IngressOptions& options, std::string_view path) {
  if (options.as_nginx) return options.use_regex || options.full_path_regex || !options.rewrite_target.empty();
  if (!options.has_rewrite_family()) return false;
  if (options.use_regex || options.full_path_regex) return true;
  const std::string& target = options.rewrite_target;
  if (target.empty()) return false;
  return path.find_first_of("\\.+*?()|[]{}^$") != path.npos || target.find_first_of("$\\") != target.npos;
}

}  // namespace sluice::compile
