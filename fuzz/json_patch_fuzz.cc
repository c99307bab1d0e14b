// Patches of the Kubernetes-style API: two JSON texts, a target and a patch, divided by a NUL byte. Whatever is
// accepted stays within the bounds, and goes through YAML unchanged.

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "api/kube/managed_fields.h"
#include "api/kube/patch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::api::kube;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = text.find('\0');
  if (end == text.npos || size > 4096) return 0;
  const auto target = parse_json(text.substr(0, end));
  const auto patch = parse_json(text.substr(end + 1));
  if (!target.ok() || !patch.ok()) return 0;
  Json results[4] = {*target, *target, *target, *target};
  const bool accepted[4] = {apply_json_patch(results[0], *patch).ok(), apply_merge_patch(results[1], *patch).ok(),
                            apply_strategic_patch(results[2], *patch, "Service").ok(),
                            apply_configuration(results[3], *patch, "Service").ok()};
  for (int i = 0; i < 4; ++i) {
    if (!accepted[i]) continue;
    if (depth_of(results[i]) > kMaxDepth) std::abort();
    // Numbers are not compared by their text, so those of 1e300 and the like are left out.
    if (to_text(results[i]).find_first_of("eE.") != std::string::npos) continue;
    const auto back = parse_yaml(to_yaml(results[i]));
    if (!back.ok() || *back != results[i]) std::abort();
  }
  if (!accepted[3]) return 0;
  // The target is its own metadata too: its managedFields are as hostile as the rest.
  ManagedFields managed(*target, "Service");
  (void)managed.conflicts("a", *target, *patch);
  Json merged = results[3];
  if (managed.apply("a", "v1", "t", *target, *patch, merged)) managed.update("b", "v1", "t", merged, *target);
  managed.store(merged.is_object() ? merged : merged = Json::object());
  return 0;
}
