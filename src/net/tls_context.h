#pragma once
// TLS contexts: everything about TLS that is settled before a connection exists. A context is built
// on the control thread from PEM text, is immutable afterwards and is shared by all workers; a
// change of certificate is another context, and connections keep the one they were made with. The
// connections themselves are in net/tls_session.h.
//
// What is offered: TLS 1.2 (ECDHE with AEAD only) and 1.3; groups X25519 and P-256; no
// renegotiation, compression, early data, SHA-1 signatures or RSA keys under 2048 bits.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

struct ssl_ctx_st;

namespace sluice::net {

class TlsTicketKeys;

enum class TlsVersion : uint8_t { kTls12, kTls13 };

struct TlsServerConfig {
  enum class ClientAuth : uint8_t {
    kNone,        // no client certificate is asked for
    kOptional,    // asked for; a client may send none, but one that is sent must verify
    kUnverified,  // asked for; what is sent is taken, and whether it verifies is told (TlsPeerCertificate::problem)
    kRequired,    // a client without a certificate that verifies is refused
  };

  std::string certificate_pem;  // the leaf first, then intermediates
  std::string private_key_pem;  // the leaf's, not encrypted
  std::string client_ca_pem;    // trust anchors for client certificates; required unless kNone
  ClientAuth client_auth = ClientAuth::kNone;
  int client_verify_depth = -1;  // most intermediate CAs of a client's chain; -1: no limit of ours
  // Protocols in the order of our preference. A client that offers only others is refused (RFC 7301
  // §3.2); one that offers none is accepted. Empty: ALPN is ignored.
  std::vector<std::string> alpn;
  TlsVersion min_version = TlsVersion::kTls12;
  TlsVersion max_version = TlsVersion::kTls13;
  // In OpenSSL's syntax; empty: the default. TLS 1.3 has no weak suites to choose from.
  std::string ciphers_tls12;
  bool client_prefers_ciphers = false;  // of those of TLS 1.2, the client's first is taken
  // Of the key exchange, colon-separated, by preference; empty: the default "X25519:P-256".
  // "X25519MLKEM768" can be put in front; it resists quantum computers and makes a handshake
  // dearer, so it is not the default.
  std::string groups;
  // Null: no resumption.
  std::shared_ptr<TlsTicketKeys> ticket_keys;
  // Sessions resume only between contexts of equal scope (and equal configuration, certificate
  // included).
  std::string session_scope;
  // Serve a certificate that has expired instead of refusing to build the context.
  bool allow_expired = false;
};

struct TlsClientConfig {
  std::string sni;     // empty or an IP address: none is sent
  bool verify = true;  // false: any certificate is accepted
  std::string ca_pem;  // trust anchors; empty: those of the system
  // Host name or IP address that the certificate must be for; empty: `sni`; both empty: any name.
  std::string verify_name;
  int verify_depth = 0;                          // CA certificates in the chain at most; 0: no limit of our own
  std::string certificate_pem, private_key_pem;  // what we present when asked; both or neither
  std::vector<std::string> alpn;                 // by preference
  TlsVersion min_version = TlsVersion::kTls12;
  TlsVersion max_version = TlsVersion::kTls13;
  std::string ciphers_tls12;
  std::string groups;
};

// Thread-safe: immutable.
class TlsContext {
 public:
  // The error says which field is wrong and what would be right, and never quotes key material: PEM
  // that does not parse, an empty chain, a key that belongs to another certificate, an expired
  // leaf, unknown cipher names.
  static Result<std::shared_ptr<const TlsContext>> server(const TlsServerConfig& config);
  static Result<std::shared_ptr<const TlsContext>> client(const TlsClientConfig& config);

  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;
  ~TlsContext();

  bool is_server() const { return is_server_; }
  // When the leaf certificate becomes valid and invalid, in seconds since 1970; 0 without a certificate.
  int64_t not_before() const { return not_before_; }
  int64_t not_after() const { return not_after_; }
  // DNS names and IP addresses that the leaf certificate is for.
  const std::vector<std::string>& certificate_names() const { return certificate_names_; }
  // Hash of the configuration and the certificates (32 bytes). Sessions resume between contexts
  // with the same one only.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  friend class TlsSession;
  friend struct TlsCallbacks;
  TlsContext() = default;

  ssl_ctx_st* ssl_ctx_ = nullptr;
  bool is_server_ = false;
  int verify_mode_ = 0;
  bool takes_unverified_ = false;
  int client_verify_depth_ = -1;
  uint16_t min_version_ = 0, max_version_ = 0;  // as on the wire: 0x0303, 0x0304
  std::string ciphers_tls12_, groups_;          // empty: the default
  bool client_prefers_ciphers_ = false;
  std::string alpn_wire_;  // names, each after a byte with its length
  std::string sni_, verify_name_;
  std::string fingerprint_;
  std::shared_ptr<TlsTicketKeys> ticket_keys_;
  int64_t not_before_ = 0, not_after_ = 0;
  std::vector<std::string> certificate_names_;
};

// Finds the context for a name a client asks for. Called in the middle of a handshake, on the
// worker's thread; must not block. The implementation looks into the worker's current snapshot.
class TlsServerSelector {
 public:
  virtual ~TlsServerSelector() = default;
  // `sni` is lower case, without a trailing dot, and empty if the client sent none; it is valid
  // during the call only. Null: the handshake is refused with the alert unrecognized_name.
  virtual std::shared_ptr<const TlsContext> select(std::string_view sni) = 0;
};

// "2026-11-25T02:37:09Z", for messages about when a certificate is valid.
std::string validity_text(int64_t seconds);

// Whether `text` is a certificate chain and a key that belong together, as TlsContext::server()
// would say: for validating an object before it is used.
Status check_certificate(const std::string& certificate_pem, const std::string& private_key_pem);

}  // namespace sluice::net
