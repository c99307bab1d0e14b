// The ClientHello of connections that may be passed through: what is found does not depend on how the bytes arrive, and
// more than the bound is never asked for.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "net/client_hello.h"

using sluice::net::ClientHello;
using sluice::net::kClientHelloMax;
using sluice::net::parse_client_hello;
using Status = ClientHello::Status;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const ClientHello whole = parse_client_hello(bytes);
  if (whole.status == Status::kNeedMore) check(size < kClientHelloMax);
  check(whole.server_name.size() <= 255);
  for (const char c : whole.server_name) check(c > ' ' && c < 0x7f && !(c >= 'A' && c <= 'Z'));
  // A prefix says "need more" until it says what the whole says.
  for (size_t n = 0; n < size; n += n < 600 ? 1 : 97) {
    const ClientHello early = parse_client_hello(std::string(bytes, 0, n));
    if (early.status == Status::kNeedMore) continue;
    check(early.status == whole.status && early.server_name == whole.server_name);
    break;
  }
  return 0;
}
