#pragma once
// Credentials: the token and TLS context for requests to one API server. Files are read again when they may have
// changed: tokens and certificates of a Pod rotate.

#include <memory>
#include <string>

#include "base/result.h"
#include "net/tls_context.h"
#include "source/kube/access.h"

namespace sluice::source::kube {

class Credentials {
 public:
  // A file is looked at again after so long, or after refresh().
  static constexpr uint64_t kRefreshMs = 30'000;

  explicit Credentials(ClusterAccess access) : access_(std::move(access)) {}

  const ClusterAccess& access() const { return access_; }
  // The value of `authorization`, or empty. A token file that can't be read leaves the last token in use.
  std::string authorization(uint64_t now_ms);
  // For a new connection; null without TLS.
  Result<std::shared_ptr<const net::TlsContext>> tls_context(uint64_t now_ms);
  // The server refused what we said: read everything again.
  void refresh() { token_read_ms_ = tls_read_ms_ = 0; }

 private:
  const ClusterAccess access_;
  resource::SecretBytes token_;
  uint64_t token_read_ms_ = 0;
  std::shared_ptr<const net::TlsContext> context_;
  uint64_t tls_read_ms_ = 0;
};

}  // namespace sluice::source::kube
