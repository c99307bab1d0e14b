#include "net/tls_callbacks.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <span>
#include <string_view>

#include "net/tls_context.h"
#include "net/tls_session.h"
#include "net/tls_ticket_keys.h"

namespace sluice::net {
namespace {

constexpr uint16_t kSignatureAlgorithms[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_ED25519,
    SSL_SIGN_RSA_PSS_RSAE_SHA256,    SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384,
    SSL_SIGN_RSA_PKCS1_SHA384,       SSL_SIGN_ECDSA_SECP521R1_SHA512,
    SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA512,
};

constexpr SSL_TICKET_AEAD_METHOD kTicketMethod = {
    .max_overhead = TlsCallbacks::ticket_overhead,
    .seal = TlsCallbacks::ticket_seal,
    .open = TlsCallbacks::ticket_open,
};

// Whether a session was made by a client whose certificate has expired since. It must show another. (That the CA is
// still the same one is seen to by the session id context.)
bool shows_outdated_client(SSL_CTX* ctx, std::span<const uint8_t> bytes) {
  const bssl::UniquePtr<SSL_SESSION> session(SSL_SESSION_from_bytes(bytes.data(), bytes.size(), ctx));
  ERR_clear_error();
  if (!session) return true;
  const X509* client = SSL_SESSION_get0_peer(session.get());
  return client && X509_cmp_current_time(X509_get0_notAfter(client)) <= 0;
}

// The session that AWS-LC calls back for: its transport knows.
TlsSession* session_of(const SSL* ssl) { return static_cast<TlsSession*>(BIO_get_data(SSL_get_rbio(ssl))); }

}  // namespace

bool TlsCallbacks::configure(SSL_CTX* ctx) {
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(ctx, kSessionLifetime);
  SSL_CTX_set_session_psk_dhe_timeout(ctx, kSessionLifetime);
  SSL_CTX_set_max_cert_list(ctx, kMaxPeerChain);
  SSL_CTX_set_early_data_enabled(ctx, 0);
  return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) && SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) &&
         SSL_CTX_set_strict_cipher_list(ctx, kDefaultCiphersTls12) && SSL_CTX_set1_groups_list(ctx, kDefaultGroups) &&
         SSL_CTX_set_verify_algorithm_prefs(ctx, kSignatureAlgorithms, std::size(kSignatureAlgorithms)) &&
         SSL_CTX_set_signing_algorithm_prefs(ctx, kSignatureAlgorithms, std::size(kSignatureAlgorithms));
}

void TlsCallbacks::install_server(SSL_CTX* ctx) {
  SSL_CTX_set_alpn_select_cb(ctx, select_alpn, nullptr);
  SSL_CTX_set_ticket_aead_method(ctx, &kTicketMethod);
}

void TlsCallbacks::install_client(SSL_CTX* ctx) {
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, new_client_session);
}

SSL_CTX* TlsCallbacks::server_start() {
  static thread_local bssl::UniquePtr<SSL_CTX> start = [] {
    bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_server_method()));
    if (!ctx || !configure(ctx.get())) return bssl::UniquePtr<SSL_CTX>();
    install_server(ctx.get());
    SSL_CTX_set_select_certificate_cb(ctx.get(), select_certificate);
    SSL_CTX_set_tlsext_servername_callback(ctx.get(), check_selected);
    return ctx;
  }();
  return start.get();
}

ssl_select_cert_result_t TlsCallbacks::select_certificate(const SSL_CLIENT_HELLO* hello) {
  const char* name = SSL_get_servername(hello->ssl, TLSEXT_NAMETYPE_host_name);
  return session_of(hello->ssl)->select(name ? name : "") ? ssl_select_cert_success : ssl_select_cert_error;
}

int TlsCallbacks::check_selected(SSL* ssl, int* alert, void*) {
  if (session_of(ssl)->context_) return SSL_TLSEXT_ERR_OK;
  *alert = SSL_AD_UNRECOGNIZED_NAME;
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

int TlsCallbacks::select_alpn(SSL* ssl, const uint8_t** out, uint8_t* out_length, const uint8_t* offered,
                              unsigned offered_length, void*) {
  const auto& context = session_of(ssl)->context_;
  if (!context || context->alpn_wire_.empty()) return SSL_TLSEXT_ERR_NOACK;
  uint8_t* selected = nullptr;
  int found = SSL_select_next_proto(&selected, out_length, reinterpret_cast<const uint8_t*>(context->alpn_wire_.data()),
                                    static_cast<unsigned>(context->alpn_wire_.size()), offered, offered_length);
  if (found != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = selected;
  return SSL_TLSEXT_ERR_OK;
}

size_t TlsCallbacks::ticket_overhead(SSL*) { return TlsTicketKeys::kOverhead; }

int TlsCallbacks::ticket_seal(SSL* ssl, uint8_t* out, size_t* out_length, size_t room, const uint8_t* in,
                              size_t in_length) {
  const auto& context = session_of(ssl)->context_;
  if (!context || !context->ticket_keys_) return 0;
  *out_length = context->ticket_keys_->seal({in, in_length}, {out, room});
  return *out_length > 0;
}

ssl_ticket_aead_result_t TlsCallbacks::ticket_open(SSL* ssl, uint8_t* out, size_t* out_length, size_t room,
                                                   const uint8_t* in, size_t in_length) {
  const auto& context = session_of(ssl)->context_;
  if (!context || !context->ticket_keys_) return ssl_ticket_aead_ignore_ticket;
  std::optional<size_t> opened = context->ticket_keys_->open({in, in_length}, {out, room});
  if (!opened) return ssl_ticket_aead_ignore_ticket;
  if (context->verify_mode_ != SSL_VERIFY_NONE && shows_outdated_client(SSL_get_SSL_CTX(ssl), {out, *opened})) {
    return ssl_ticket_aead_ignore_ticket;
  }
  *out_length = *opened;
  return ssl_ticket_aead_success;
}

int TlsCallbacks::new_client_session(SSL* ssl, SSL_SESSION* session) {
  TlsSession* owner = session_of(ssl);
  if (!owner->cache_) return 0;
  owner->cache_->put(*owner->cache_key_, session);
  return 1;
}

}  // namespace sluice::net
