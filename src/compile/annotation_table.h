#pragma once
// The tables of annotations: one row per key says how it is read and is what the documentation is made of
// (docs/guide/annotations.md). annotations_higress.cc holds Higress's keys, annotations_nginx*.cc those that only
// ingress-nginx has, annotations_sluice.cc our own. Private to compile/.
//
// To add an annotation: a parser that writes into IngressOptions, a row in the table it belongs to, and
// `SLUICE_WRITE_DOCS=1 compile_test --gtest_filter='AnnotationDocs.*'`.

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "compile/annotation_values.h"
#include "compile/annotations.h"

namespace sluice::compile {

struct AnnotationCall {
  std::string_view value;   // trimmed line by line; never empty
  std::string_view raw;     // as written
  std::string_view suffix;  // of a family's key: what follows its fixed part
  const std::string& ns;    // of the Ingress
  IngressOptions& out;
  std::string* error;
};

// False: the value can't be understood and the output is as it was. True with an error set: a part of the value is
// ignored, or has another effect than its words say.
using ParseAnnotation = bool (*)(const AnnotationCall&);

enum class Prefixes : uint8_t { kBoth, kHigress, kNginx, kSluice };

enum class IfInvalid : uint8_t {
  kIgnore,  // as if the annotation were not there
  kClose,   // the Ingress's routes answer 503: the annotation was to keep somebody out
};

struct Annotation {
  std::string_view key;  // ends in '*': a family, the rest of the key is part of the value
  Prefixes prefixes;
  AnnotationScope scope;
  ParseAnnotation parse;
  std::string_view meaning;
  std::string_view example;
  AnnotationStatus status = AnnotationStatus::kWorks;
  std::string_view difference = {};  // to Higress, or nginx where that has the key too; what an accepted one does
  IfInvalid if_invalid = IfInvalid::kIgnore;
};

std::span<const Annotation> higress_annotations();
std::span<const Annotation> nginx_annotations();
std::span<const Annotation> nginx_access_annotations();
std::span<const Annotation> nginx_upstream_annotations();  // towards services, and what has no meaning here
std::span<const Annotation> nginx_site_annotations();      // hosts, responses, snippets
std::span<const Annotation> sluice_annotations();

// --- what parsers are made of ---

// The index of the word among `words`, whatever its case.
bool one_word(const AnnotationCall& call, std::initializer_list<std::string_view> words, size_t* index);
bool absolute_path(const AnnotationCall& call, std::string* out);
bool on_off(const AnnotationCall& call, bool* out);
// A whole number within the bounds.
bool bounded_int(const AnnotationCall& call, int64_t min, int64_t max, int64_t* out);

template <auto Member>
bool to_text(const AnnotationCall& c) {
  return c.out.*Member = c.value, true;
}
template <auto Member>
bool to_bool(const AnnotationCall& c) {
  return parse_bool(c.raw, &(c.out.*Member), c.error);
}
template <auto Part, auto Member>
bool part_text(const AnnotationCall& c) {
  return c.out.*Part.*Member = c.value, true;
}
template <auto Part, auto Member>
bool part_bool(const AnnotationCall& c) {
  return parse_bool(c.raw, &(c.out.*Part.*Member), c.error);
}
template <auto Part, auto Member>
bool part_int(const AnnotationCall& c) {
  int64_t value;
  if (!parse_int(c.raw, &value, c.error)) return false;
  return c.out.*Part.*Member = value, true;
}
template <auto Part, auto Member>
bool part_list(const AnnotationCall& c) {
  return c.out.*Part.*Member = split_list(c.value, ","), true;
}

}  // namespace sluice::compile
