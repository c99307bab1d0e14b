// The value of any annotation, an htpasswd file and an address list: nothing crashes, an address that a list was made
// of is in it, and parsing the same twice gives the same messages. The first byte chooses the annotation.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "compile/annotations.h"
#include "compile/auth_secret.h"
#include "plugins/basic_auth/htpasswd.h"
#include "plugins/ip_restriction/address_set.h"

using namespace sluice;

namespace {

std::string messages(const resource::Ingress& ingress) {
  resource::Diagnostics diagnostics;
  compile::parse_annotations(ingress, false, diagnostics);
  compile::parse_annotations(ingress, true, diagnostics);
  std::string out;
  for (const auto& diagnostic : diagnostics) out += diagnostic.render() + "\n";
  return out;
}

void check_annotation(uint8_t choice, const std::string& value) {
  static const auto kKnown = compile::known_annotations();
  const compile::AnnotationInfo& info = kKnown[choice % kKnown.size()];
  std::string key(info.key);
  if (key.ends_with('*')) {
    key.pop_back();
    key += value.substr(0, value.size() % 8);
  }
  resource::Ingress ingress;
  ingress.meta.ns = "ns";
  ingress.meta.name = "a";
  ingress.meta.annotations.push_back({(info.higress ? "higress.io/"
                                       : info.nginx ? "nginx.ingress.kubernetes.io/"
                                                    : "sluice.io/") +
                                          key,
                                      value,
                                      {}});
  if (messages(ingress) != messages(ingress)) abort();
}

void check_addresses(const std::string& value) {
  using plugins::ip_restriction::AddressSet;
  if (!AddressSet::check(value).empty()) return;
  AddressSet set;
  set.add(value);
  set.add("10.0.0.0/8");
  set.seal();
  const auto address = net::Address::parse_ip(std::string_view(value).substr(0, value.find('/')));
  if (!address || !set.contains(*address)) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const std::string value(reinterpret_cast<const char*>(data + 1), size - 1);
  check_annotation(data[0], value);
  check_addresses(value);
  resource::Secret secret;
  secret.data.emplace_back("auth", resource::SecretBytes(value));
  (void)compile::read_users(secret, false);
  (void)compile::read_users(secret, true);
  plugins::basic_auth::check_hash(value);
  return 0;
}
