// Objects in Kubernetes' binary form: a byte chooses the kind, the rest is the body. Whatever is accepted is JSON of
// bounded size that its parser takes.

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "api/kube/protobuf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::api::kube;
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t choice = data[0] % (kinds().size() + 1);
  const auto object =
      choice < kinds().size() ? object_from_protobuf(kinds()[choice], body) : delete_options_from_protobuf(body);
  if (!object.ok()) return 0;
  if (depth_of(*object) > kMaxDepth || count_values(*object) > 2 * size + 8) std::abort();
  if (!parse_json(to_text(*object)).ok()) std::abort();
  return 0;
}
