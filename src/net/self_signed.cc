#include "net/self_signed.h"

#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "net/tls_pem.h"

namespace sluice::net {
namespace {

constexpr long kBackdatedSeconds = 3600;
constexpr long kValidSeconds = 10L * 365 * 24 * 3600;

Error failed() { return Error{take_tls_error("cannot make a certificate")}; }

bssl::UniquePtr<EVP_PKEY> new_key() {
  bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (!ec || !key || !EC_KEY_generate_key(ec.get()) || !EVP_PKEY_set1_EC_KEY(key.get(), ec.get())) return nullptr;
  return key;
}

bool set_serial(X509* certificate) {
  uint64_t serial = 0;
  if (!RAND_bytes(reinterpret_cast<uint8_t*>(&serial), sizeof(serial))) return false;
  return ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1 | 1) == 1;
}

bool add_extension(X509* certificate, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  bssl::UniquePtr<X509_EXTENSION> extension(X509V3_EXT_nconf_nid(nullptr, &context, nid, value));
  return extension && X509_add_ext(certificate, extension.get(), -1);
}

bool fill(X509* certificate, EVP_PKEY* key, const std::string& common_name) {
  X509_NAME* name = X509_get_subject_name(certificate);
  return X509_set_version(certificate, X509_VERSION_3) && set_serial(certificate) &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), -kBackdatedSeconds) &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), kValidSeconds) && X509_set_pubkey(certificate, key) &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const uint8_t*>(common_name.data()),
                                    static_cast<ossl_ssize_t>(common_name.size()), -1, 0) &&
         X509_set_issuer_name(certificate, name) &&
         add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
         add_extension(certificate, NID_key_usage, "critical,digitalSignature,keyCertSign") &&
         add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
         add_extension(certificate, NID_subject_key_identifier, "hash") &&
         add_extension(certificate, NID_authority_key_identifier, "keyid") &&
         add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1");
}

}  // namespace

Result<std::string> make_self_signed(const std::string& common_name) {
  const bssl::UniquePtr<EVP_PKEY> key = new_key();
  const bssl::UniquePtr<X509> certificate(X509_new());
  if (!key || !certificate || !fill(certificate.get(), key.get(), common_name) ||
      !X509_sign(certificate.get(), key.get(), EVP_sha256())) {
    return failed();
  }
  const bssl::UniquePtr<BIO> out(BIO_new(BIO_s_mem()));
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  if (!out || !PEM_write_bio_X509(out.get(), certificate.get()) ||
      !PEM_write_bio_PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) ||
      !BIO_mem_contents(out.get(), &bytes, &size)) {
    return failed();
  }
  return std::string(reinterpret_cast<const char*>(bytes), size);
}

}  // namespace sluice::net
