#include "compile/tls_contexts.h"

#include <openssl/sha.h>

#include <algorithm>

namespace sluice::compile {
namespace {

class Digest {
 public:
  Digest() { SHA256_Init(&state_); }
  // Each part is preceded by its length, so that no two different lists of parts look alike.
  Digest& operator<<(std::string_view part) {
    uint64_t size = part.size();
    SHA256_Update(&state_, &size, sizeof(size));
    SHA256_Update(&state_, part.data(), part.size());
    return *this;
  }
  Digest& operator<<(const std::vector<std::string>& parts) {
    *this << std::to_string(parts.size());
    for (const std::string& part : parts) *this << std::string_view(part);
    return *this;
  }
  Digest& operator<<(int value) { return *this << std::to_string(value); }
  std::string finish() {
    std::string out(SHA256_DIGEST_LENGTH, 0);
    SHA256_Final(reinterpret_cast<uint8_t*>(out.data()), &state_);
    return out;
  }

 private:
  SHA256_CTX state_;
};

}  // namespace

template <typename Build>
Result<TlsContexts::Pointer> TlsContexts::get(std::string digest, Build build) {
  if (auto at = by_digest_.find(digest); at != by_digest_.end()) {
    if (Pointer context = at->second.lock()) return context;
  }
  auto context = build();
  if (!context) return context;
  ++built_;
  if (by_digest_.size() >= sweep_at_) {
    std::erase_if(by_digest_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = std::max<size_t>(64, by_digest_.size() * 2);
  }
  by_digest_[std::move(digest)] = *context;
  return context;
}

Result<TlsContexts::Pointer> TlsContexts::server(const net::TlsServerConfig& c) {
  Digest digest;
  digest << "server" << c.certificate_pem << c.private_key_pem << c.client_ca_pem << static_cast<int>(c.client_auth)
         << c.client_verify_depth << c.alpn << static_cast<int>(c.min_version) << static_cast<int>(c.max_version)
         << c.ciphers_tls12 << c.client_prefers_ciphers << c.groups << c.session_scope << c.allow_expired
         << std::to_string(reinterpret_cast<uintptr_t>(c.ticket_keys.get()));
  return get(digest.finish(), [&] { return net::TlsContext::server(c); });
}

Result<TlsContexts::Pointer> TlsContexts::client(const net::TlsClientConfig& c) {
  Digest digest;
  digest << "client" << c.sni << c.verify << c.ca_pem << c.verify_name << c.verify_depth << c.certificate_pem
         << c.private_key_pem << c.alpn << static_cast<int>(c.min_version) << static_cast<int>(c.max_version)
         << c.ciphers_tls12 << c.groups;
  return get(digest.finish(), [&] { return net::TlsContext::client(c); });
}

}  // namespace sluice::compile
