#pragma once
// What AWS-LC calls back in the middle of a handshake, and the settings that every SSL_CTX shares.
// Internal to net/tls*: contexts register the callbacks, sessions implement them.

#include <openssl/ssl.h>

#include <cstdint>

namespace sluice::net {

inline constexpr const char* kDefaultGroups = "X25519:P-256";
// Forward secrecy and AEAD only. [a|b]: the client's preference decides, which knows whether it has
// AES in hardware.
inline constexpr const char* kDefaultCiphersTls12 =
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]:"
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

// Seconds that a session may be resumed for.
inline constexpr uint32_t kSessionLifetime = 7200;
// Bytes of a peer's certificate chain that are accepted.
inline constexpr size_t kMaxPeerChain = 64 * 1024;

struct TlsCallbacks {
  // Groups, ciphers, signature algorithms, limits. False if AWS-LC refuses one, which only lack of
  // memory can cause.
  static bool configure(SSL_CTX* ctx);
  // Server callbacks that are looked up in the selected context.
  static void install_server(SSL_CTX* ctx);
  static void install_client(SSL_CTX* ctx);

  // A context without a certificate that server sessions start with until the client's SNI selects
  // theirs. One per thread, since AWS-LC counts handshakes in it under a lock. Null if there is no
  // memory.
  static SSL_CTX* server_start();

  static ssl_select_cert_result_t select_certificate(const SSL_CLIENT_HELLO* hello);
  static int check_selected(SSL* ssl, int* alert, void*);
  static int select_alpn(SSL* ssl, const uint8_t** out, uint8_t* out_length, const uint8_t* offered,
                         unsigned offered_length, void*);
  static size_t ticket_overhead(SSL* ssl);
  static int ticket_seal(SSL* ssl, uint8_t* out, size_t* out_length, size_t room, const uint8_t* in, size_t in_length);
  static ssl_ticket_aead_result_t ticket_open(SSL* ssl, uint8_t* out, size_t* out_length, size_t room,
                                              const uint8_t* in, size_t in_length);
  static int new_client_session(SSL* ssl, SSL_SESSION* session);
};

}  // namespace sluice::net
