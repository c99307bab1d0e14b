#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "net/tls_pem.h"
#include "net/tls_session.h"

namespace sluice::net {
namespace {

std::string to_hex(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (unsigned char byte : bytes) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string content(BIO* bio) {
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  return BIO_mem_contents(bio, &bytes, &size) ? std::string(reinterpret_cast<const char*>(bytes), size) : std::string();
}

std::string name_text(const X509_NAME* name) {
  bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  if (!bio || X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253) < 0) return {};
  return content(bio.get());
}

std::string serial_text(X509* certificate) {
  bssl::UniquePtr<BIGNUM> number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  bssl::UniquePtr<char> hex(number ? BN_bn2hex(number.get()) : nullptr);
  return hex ? std::string(hex.get()) : std::string();
}

std::string pem_text(X509* certificate) {
  bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  return bio && PEM_write_bio_X509(bio.get(), certificate) ? content(bio.get()) : std::string();
}

}  // namespace

std::optional<TlsPeerCertificate> TlsSession::peer_certificate() const {
  if (!context_ || (context_->verify_mode_ & SSL_VERIFY_PEER) == 0) return std::nullopt;
  const long result = SSL_get_verify_result(ssl_);
  if (!established_ || (result != X509_V_OK && !context_->takes_unverified_)) return std::nullopt;
  bssl::UniquePtr<X509> leaf(SSL_get_peer_certificate(ssl_));
  if (!leaf) return std::nullopt;
  TlsPeerCertificate facts;
  facts.sha256 = to_hex(certificate_hash(leaf.get()));
  if (result != X509_V_OK) facts.problem = X509_verify_cert_error_string(result);
  facts.subject = name_text(X509_get_subject_name(leaf.get()));
  facts.issuer = name_text(X509_get_issuer_name(leaf.get()));
  facts.serial = serial_text(leaf.get());
  facts.uri_sans = subject_alt_names(leaf.get(), SanType::kUri);
  facts.dns_sans = subject_alt_names(leaf.get(), SanType::kDns);
  facts.pem = pem_text(leaf.get());
  const STACK_OF(X509)* chain = SSL_get_peer_full_cert_chain(ssl_);
  for (size_t i = 0; chain && i < sk_X509_num(chain); ++i) facts.chain_pem += pem_text(sk_X509_value(chain, i));
  return facts;
}

}  // namespace sluice::net
