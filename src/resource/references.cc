#include "resource/references.h"

#include <algorithm>

#include "resource/credentials.h"

namespace sluice::resource {
namespace {

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::vector<std::string> secret_references(const Ingress& ingress) {
  std::vector<std::string> out;
  const auto add = [&](std::string_view reference) {
    reference = trim(reference);
    if (reference.empty()) return;
    std::string key(reference);
    if (key.find('/') == key.npos) key = ingress.meta.ns + "/" + key;
    out.push_back(key + "-cacert");
    out.push_back(std::move(key));
  };
  for (const IngressTls& tls : ingress.tls) add(tls.secret);
  for (const Pair& annotation : ingress.meta.annotations) {
    if (annotation.key.ends_with("-secret")) add(annotation.value);
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<std::string> config_map_references(const Ingress& ingress) {
  std::vector<std::string> out;
  for (const Pair& annotation : ingress.meta.annotations) {
    if (!annotation.key.ends_with("custom-headers") && !annotation.key.ends_with("-set-headers")) continue;
    const std::string_view reference = trim(annotation.value);
    if (reference.empty()) continue;
    std::string key(reference);
    if (key.find('/') == key.npos) key = ingress.meta.ns + "/" + key;
    out.push_back(std::move(key));
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::vector<std::string> secret_references(const ConfigMap& map) {
  Diagnostics unused;
  std::vector<std::string> out;
  if (auto credentials = parse_credentials(map, unused)) {
    for (const Credentials::Entry& entry : credentials->entries) {
      out.push_back(entry.ns + "/" + entry.name);
      out.push_back(entry.ns + "/" + entry.name + "-cacert");
    }
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

}  // namespace sluice::resource
