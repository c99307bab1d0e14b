#pragma once
// What becomes of objects that were written for another gateway: which work as they are, which mean something else
// here, which have no effect, and what to do about it.

#include <string>
#include <vector>

#include "compile/control_plane.h"

namespace sluice::compile {

enum class MigrationSource : uint8_t { kIngressNginx, kHigress };

struct MigrationFinding {
  enum class Verdict : uint8_t { kWorks, kChanges, kUnsupported } verdict = Verdict::kWorks;
  std::string field;   // "metadata.annotations[nginx.ingress.kubernetes.io/affinity]"
  std::string what;    // the difference, or what is wrong; empty for kWorks
  std::string advice;  // what to do; may be empty
};

struct MigrationObject {
  std::string object;  // "Ingress ns/name"
  std::string file;
  uint32_t line = 0;
  std::vector<MigrationFinding> findings;

  // The worst of its findings.
  MigrationFinding::Verdict verdict() const;
};

struct Migration {
  std::vector<MigrationObject> objects;  // sorted by kind and name
  size_t count(MigrationFinding::Verdict verdict) const;

  std::string to_text() const;
  std::string to_json() const;
};

// `control` has applied all objects. Values of Secrets and ConfigMaps are not told.
Migration assess_migration(const ControlPlane& control, MigrationSource source);

}  // namespace sluice::compile
