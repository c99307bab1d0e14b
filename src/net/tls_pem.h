#pragma once
// Reading of PEM text into AWS-LC's objects, and AWS-LC's error queue into sentences. Internal to
// net/tls*.

#include <openssl/base.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace sluice::net {

// A leaf, its intermediates in the order given, and the leaf's key.
struct TlsIdentity {
  std::vector<bssl::UniquePtr<X509>> chain;
  bssl::UniquePtr<EVP_PKEY> key;
};

// Never empty on success. `what` names the field in the error.
Result<std::vector<bssl::UniquePtr<X509>>> parse_certificates(std::string_view what, std::string_view pem);
// The key must belong to the first certificate, be strong enough, and (unless allowed) the leaf not
// be expired.
Result<TlsIdentity> parse_identity(std::string_view certificate_pem, std::string_view private_key_pem,
                                   bool allow_expired);
// A store that trusts each of the certificates, intermediates and leaves included.
Result<bssl::UniquePtr<X509_STORE>> parse_trust_store(std::string_view what, std::string_view pem);
// The system's trust anchors, read once and shared.
Result<bssl::UniquePtr<X509_STORE>> system_trust_store();

// Seconds since 1970.
int64_t not_before(X509* certificate);
int64_t not_after(X509* certificate);
// SHA-256 of the DER form.
std::string certificate_hash(const X509* certificate);

enum class SanType : uint8_t { kDns, kUri, kIp };
std::vector<std::string> subject_alt_names(X509* certificate, SanType type);

// Empties the error queue of this thread and words its oldest entry; `fallback` if it is empty.
std::string take_tls_error(std::string_view fallback);

}  // namespace sluice::net
