// JSON text: what is accepted is written and read again to the same text.

#include <cstdint>
#include <cstdlib>

#include "resource/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace sluice::resource;
  Limits limits;
  limits.max_depth = 20;
  limits.max_values = 10'000;
  static JsonParser first(limits), second(limits);
  const Node* root = first.parse({reinterpret_cast<const char*>(data), size});
  if (!root) {
    if (first.error().empty()) std::abort();
    return 0;
  }
  std::string once, twice;
  write_json(*root, once);
  const Node* again = second.parse(once);
  if (!again) std::abort();
  write_json(*again, twice);
  if (once != twice) std::abort();
  return 0;
}
