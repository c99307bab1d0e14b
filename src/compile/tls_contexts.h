#pragma once
// TlsContexts: builds TLS contexts and shares them by content, so that an unchanged Secret never
// builds one twice and ten thousand hosts with one certificate have one context. Contexts that
// nobody uses any more are forgotten.

#include <memory>
#include <string>
#include <unordered_map>

#include "base/result.h"
#include "net/tls.h"

namespace sluice::compile {

class TlsContexts {
 public:
  using Pointer = std::shared_ptr<const net::TlsContext>;

  Result<Pointer> server(const net::TlsServerConfig& config);
  Result<Pointer> client(const net::TlsClientConfig& config);

  // How many contexts were built so far, for tests and metrics.
  size_t built() const { return built_; }

 private:
  template <typename Build>
  Result<Pointer> get(std::string digest, Build build);

  std::unordered_map<std::string, std::weak_ptr<const net::TlsContext>> by_digest_;  // SHA-256 of the configuration
  size_t sweep_at_ = 64;
  size_t built_ = 0;
};

}  // namespace sluice::compile
