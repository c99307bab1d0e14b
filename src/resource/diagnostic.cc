#include "resource/diagnostic.h"

#include <algorithm>

namespace sluice::resource {

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "error";
}

std::string Diagnostic::render() const {
  std::string out;
  if (!file.empty()) {
    out += file;
    if (line != 0) out += ":" + std::to_string(line) + ":" + std::to_string(column);
    out += ": ";
  }
  if (severity != Severity::kError) out.append(name_of(severity)).append(": ");
  if (!object.empty()) out += object + ": ";
  if (!field.empty()) out += field + ": ";
  // One finding is one line, whatever was quoted into it.
  for (char c : message) out += c == '\n' || c == '\r' || c == '\t' ? ' ' : c;
  return out;
}

size_t count_errors(const Diagnostics& diagnostics) {
  return static_cast<size_t>(std::count_if(diagnostics.begin(), diagnostics.end(),
                                           [](const Diagnostic& d) { return d.severity == Severity::kError; }));
}

}  // namespace sluice::resource
