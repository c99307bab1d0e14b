#include "net/tls_pem.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <fstream>
#include <mutex>
#include <sstream>

#include "net/address.h"
#include "net/tls_context.h"

namespace sluice::net {
namespace {

constexpr const char* kSystemBundle = "/etc/ssl/certs/ca-certificates.crt";
// A chain or bundle larger than this is a mistake or an attack.
constexpr size_t kMaxPemBytes = 4 << 20;

bssl::UniquePtr<BIO> memory_bio(std::string_view text) {
  return bssl::UniquePtr<BIO>(BIO_new_mem_buf(text.data(), static_cast<ossl_ssize_t>(text.size())));
}

// Without this an encrypted key would ask for its password on the terminal.
int no_password(char*, int, int, void*) { return 0; }

bool is_end_of_pem(uint32_t error) {
  return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

Error pem_error(std::string_view what, std::string_view why) {
  return Error{std::string(what) + ": " + std::string(why)};
}

Result<bssl::UniquePtr<EVP_PKEY>> parse_private_key(std::string_view pem) {
  constexpr std::string_view kWhat = "private key";
  if (pem.empty()) return pem_error(kWhat, "is empty");
  if (pem.size() > kMaxPemBytes) return pem_error(kWhat, "is too large");
  ERR_clear_error();
  bssl::UniquePtr<BIO> bio = memory_bio(pem);
  bssl::UniquePtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, nullptr));
  // The library's own error is not shown: it is about the inside of a secret.
  ERR_clear_error();
  if (key) return key;
  if (pem.find("ENCRYPTED") != pem.npos) return pem_error(kWhat, "is encrypted; give it without a password");
  if (pem.find("PRIVATE KEY-----") == pem.npos) {
    return pem_error(kWhat, "holds no PEM block of the kind \"-----BEGIN PRIVATE KEY-----\"");
  }
  return pem_error(kWhat, "is not a valid PEM private key");
}

Status check_key_strength(const EVP_PKEY* key) {
  switch (EVP_PKEY_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
      if (EVP_PKEY_bits(key) >= 2048) return {};
      return pem_error("private key",
                       "an RSA key needs at least 2048 bits, this one has " + std::to_string(EVP_PKEY_bits(key)));
    case EVP_PKEY_EC:
    case EVP_PKEY_ED25519:
      return {};
    default:
      return pem_error("private key", "only RSA, ECDSA and Ed25519 keys are supported");
  }
}

Status check_key_belongs(const std::vector<bssl::UniquePtr<X509>>& chain, EVP_PKEY* key) {
  auto belongs = [key](const bssl::UniquePtr<X509>& certificate) {
    bool match = X509_check_private_key(certificate.get(), key) == 1;
    ERR_clear_error();
    return match;
  };
  if (belongs(chain[0])) return {};
  auto owner = std::find_if(chain.begin() + 1, chain.end(), belongs);
  if (owner == chain.end()) return pem_error("private key", "does not belong to the certificate");
  return pem_error("certificate", "the private key belongs to certificate " +
                                      std::to_string(owner - chain.begin() + 1) +
                                      " of the chain; the leaf must come first");
}

Result<bssl::UniquePtr<X509_STORE>> make_store(const std::vector<bssl::UniquePtr<X509>>& anchors) {
  bssl::UniquePtr<X509_STORE> store(X509_STORE_new());
  if (!store) return Error{take_tls_error("out of memory")};
  for (const auto& anchor : anchors) {
    if (!X509_STORE_add_cert(store.get(), anchor.get())) return Error{take_tls_error("cannot add a trust anchor")};
  }
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  return store;
}

std::string san_text(const GENERAL_NAME* name, SanType type) {
  if (type == SanType::kIp) {
    const ASN1_OCTET_STRING* ip = name->d.iPAddress;
    const uint8_t* bytes = ASN1_STRING_get0_data(ip);
    if (ASN1_STRING_length(ip) == 4) return Address::ipv4(std::span<const uint8_t, 4>(bytes, 4), 0).ip();
    if (ASN1_STRING_length(ip) == 16) return Address::ipv6(std::span<const uint8_t, 16>(bytes, 16), 0).ip();
    return {};
  }
  const ASN1_IA5STRING* text = type == SanType::kDns ? name->d.dNSName : name->d.uniformResourceIdentifier;
  std::string value(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)), ASN1_STRING_length(text));
  // A name with a NUL inside is made to deceive.
  return value.find('\0') == value.npos ? value : std::string();
}

// AWS-LC's reasons read like CERTIFICATE_VERIFY_FAILED.
std::string readable(const char* reason) {
  std::string text = reason ? reason : "unknown error";
  for (char& c : text) c = c == '_' ? ' ' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

Result<std::vector<bssl::UniquePtr<X509>>> parse_certificates(std::string_view what, std::string_view pem) {
  if (pem.empty()) return pem_error(what, "is empty");
  if (pem.size() > kMaxPemBytes) return pem_error(what, "is too large");
  ERR_clear_error();
  bssl::UniquePtr<BIO> bio = memory_bio(pem);
  std::vector<bssl::UniquePtr<X509>> certificates;
  while (X509* certificate = PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr)) {
    certificates.emplace_back(certificate);
  }
  if (!is_end_of_pem(ERR_peek_last_error())) {
    return pem_error(what, "PEM certificate " + std::to_string(certificates.size() + 1) +
                               " is not valid: " + take_tls_error("malformed"));
  }
  ERR_clear_error();
  if (certificates.empty()) {
    return pem_error(what, "holds no PEM block of the kind \"-----BEGIN CERTIFICATE-----\"");
  }
  return certificates;
}

Result<TlsIdentity> parse_identity(std::string_view certificate_pem, std::string_view private_key_pem,
                                   bool allow_expired) {
  auto chain = parse_certificates("certificate", certificate_pem);
  if (!chain) return chain.error();
  auto key = parse_private_key(private_key_pem);
  if (!key) return key.error();
  if (Status strong = check_key_strength(key->get()); !strong) return strong.error();
  if (Status belongs = check_key_belongs(*chain, key->get()); !belongs) return belongs.error();
  X509* leaf = (*chain)[0].get();
  if (!allow_expired && not_after(leaf) < std::time(nullptr)) {
    return pem_error("certificate", "expired on " + validity_text(not_after(leaf)));
  }
  return TlsIdentity{std::move(*chain), std::move(*key)};
}

Result<bssl::UniquePtr<X509_STORE>> parse_trust_store(std::string_view what, std::string_view pem) {
  auto anchors = parse_certificates(what, pem);
  if (!anchors) return anchors.error();
  return make_store(*anchors);
}

Result<bssl::UniquePtr<X509_STORE>> system_trust_store() {
  static std::mutex mutex;
  static bssl::UniquePtr<X509_STORE> shared;
  std::lock_guard lock(mutex);
  if (!shared) {
    std::ifstream file(kSystemBundle);
    std::stringstream content;
    content << file.rdbuf();
    if (!file) {
      return Error{std::string("no CA certificates are configured and the system's (") + kSystemBundle +
                   ") cannot be read; install ca-certificates or give a CA"};
    }
    auto store = parse_trust_store(kSystemBundle, content.str());
    if (!store) return store.error();
    shared = std::move(*store);
  }
  X509_STORE_up_ref(shared.get());
  return bssl::UniquePtr<X509_STORE>(shared.get());
}

int64_t not_after(X509* certificate) {
  int64_t seconds = 0;
  return ASN1_TIME_to_posix(X509_get0_notAfter(certificate), &seconds) ? seconds : 0;
}

int64_t not_before(X509* certificate) {
  int64_t seconds = 0;
  return ASN1_TIME_to_posix(X509_get0_notBefore(certificate), &seconds) ? seconds : 0;
}

std::string validity_text(int64_t time) {
  const std::time_t seconds = time;
  std::tm utc;
  char text[32];
  gmtime_r(&seconds, &utc);
  return std::string(text, std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc));
}

std::string certificate_hash(const X509* certificate) {
  uint8_t hash[SHA256_DIGEST_LENGTH];
  unsigned size = 0;
  X509_digest(certificate, EVP_sha256(), hash, &size);
  return std::string(reinterpret_cast<char*>(hash), size);
}

std::vector<std::string> subject_alt_names(X509* certificate, SanType type) {
  std::vector<std::string> texts;
  bssl::UniquePtr<GENERAL_NAMES> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  ERR_clear_error();
  const int wanted = type == SanType::kDns ? GEN_DNS : type == SanType::kUri ? GEN_URI : GEN_IPADD;
  for (size_t i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != wanted) continue;
    if (std::string text = san_text(name, type); !text.empty()) texts.push_back(std::move(text));
  }
  return texts;
}

std::string take_tls_error(std::string_view fallback) {
  uint32_t error = ERR_get_error();
  ERR_clear_error();
  if (error == 0) return std::string(fallback);
  int reason = ERR_GET_REASON(error);
  if (ERR_GET_LIB(error) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET) {
    return std::string("the peer refused with the alert \"") +
           SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET) + "\"";
  }
  return readable(ERR_reason_error_string(error));
}

}  // namespace sluice::net
