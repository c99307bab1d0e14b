#pragma once
// Diagnostic: one finding about one object or file, as a sentence its owner can act on. Never holds
// a secret.

#include <cstdint>
#include <string>
#include <vector>

namespace sluice::resource {

enum class Severity : uint8_t {
  kInfo,     // worth knowing: an unknown kind was skipped
  kWarning,  // accepted, but probably not what was meant
  kError,    // the object, or the named part of it, has no effect
};

struct Diagnostic {
  Severity severity = Severity::kError;
  std::string file;   // empty: not from a file
  uint32_t line = 0;  // 1-based; 0: unknown
  uint32_t column = 0;
  std::string object;   // "Ingress ns/name"; empty: the file as a whole
  std::string field;    // "spec.rules[0].http.paths[1].pathType"; empty: the object as a whole
  std::string message;  // what was wrong and what would be right

  // One line: `conf/a.yaml:12:9: Ingress default/foo: spec.rules[0].host: "a b" is not a host name
  // …`. Severities other than error are named after the place: `conf/a.yaml:1:1: warning: …`.
  std::string render() const;

  bool operator==(const Diagnostic&) const = default;
};

using Diagnostics = std::vector<Diagnostic>;

const char* name_of(Severity severity);

// The number of errors among them.
size_t count_errors(const Diagnostics& diagnostics);

}  // namespace sluice::resource
