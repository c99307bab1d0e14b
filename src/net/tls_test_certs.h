#pragma once
// Certificates for tests, made at run time: no key is ever in the repository.

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdint>
#include <string>

namespace sluice::net {

struct TestCertificate {
  bssl::UniquePtr<EVP_PKEY> key;
  bssl::UniquePtr<X509> certificate;

  std::string certificate_pem() const {
    return write([&](BIO* bio) { PEM_write_bio_X509(bio, certificate.get()); });
  }
  std::string key_pem() const {
    return write(
        [&](BIO* bio) { PEM_write_bio_PKCS8PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }

 private:
  template <typename Write>
  static std::string write(Write write_to) {
    bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
    write_to(bio.get());
    const uint8_t* bytes = nullptr;
    size_t size = 0;
    BIO_mem_contents(bio.get(), &bytes, &size);
    return std::string(reinterpret_cast<const char*>(bytes), size);
  }
};

struct TestCertificateOptions {
  std::string common_name = "test";
  std::string sans;  // OpenSSL's syntax: "DNS:a.example,URI:spiffe://x,IP:127.0.0.1"
  bool is_ca = false;
  long valid_from = -3600, valid_for = 86400;  // seconds relative to now
  unsigned rsa_bits = 0;                       // 0: ECDSA P-256
};

inline bssl::UniquePtr<EVP_PKEY> make_test_key(unsigned rsa_bits) {
  bssl::UniquePtr<EVP_PKEY> key(EVP_PKEY_new());
  if (rsa_bits == 0) {
    bssl::UniquePtr<EC_KEY> ec(EC_KEY_new_by_curve_name(NID_X9_62_prime256v1));
    EC_KEY_generate_key(ec.get());
    EVP_PKEY_assign_EC_KEY(key.get(), ec.release());
    return key;
  }
  bssl::UniquePtr<RSA> rsa(RSA_new());
  bssl::UniquePtr<BIGNUM> e(BN_new());
  BN_set_word(e.get(), RSA_F4);
  RSA_generate_key_ex(rsa.get(), static_cast<int>(rsa_bits), e.get(), nullptr);
  EVP_PKEY_assign_RSA(key.get(), rsa.release());
  return key;
}

// Signed by `issuer`, or by itself if that is null.
inline TestCertificate make_test_certificate(const TestCertificateOptions& options,
                                             const TestCertificate* issuer = nullptr) {
  static int64_t serial = 1000;
  TestCertificate result;
  result.key = make_test_key(options.rsa_bits);
  result.certificate.reset(X509_new());
  X509* x = result.certificate.get();
  X509_set_version(x, X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(x), ++serial);
  X509_gmtime_adj(X509_getm_notBefore(x), options.valid_from);
  X509_gmtime_adj(X509_getm_notAfter(x), options.valid_for);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const uint8_t*>(options.common_name.data()),
                             static_cast<ossl_ssize_t>(options.common_name.size()), -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer->certificate.get() : x));
  X509_set_pubkey(x, result.key.get());
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer ? issuer->certificate.get() : x, x, nullptr, nullptr, 0);
  auto extend = [&](int nid, const std::string& value) {
    bssl::UniquePtr<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
    X509_add_ext(x, extension.get(), -1);
  };
  extend(NID_basic_constraints, options.is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (options.is_ca) extend(NID_key_usage, "critical,keyCertSign,cRLSign");
  if (!options.sans.empty()) extend(NID_subject_alt_name, options.sans);
  X509_sign(x, issuer ? issuer->key.get() : result.key.get(), EVP_sha256());
  return result;
}

inline TestCertificate make_test_ca(const std::string& name = "test ca") {
  return make_test_certificate({.common_name = name, .is_ca = true});
}

}  // namespace sluice::net
