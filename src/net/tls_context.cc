#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

#include "net/tls_callbacks.h"
#include "net/tls_context.h"
#include "net/tls_pem.h"

namespace sluice::net {
namespace {

// A client CA list larger than this is not sent as a hint in the handshake: clients have size
// limits of their own.
constexpr size_t kMaxCaHints = 64;

uint16_t wire_version(TlsVersion version) { return version == TlsVersion::kTls12 ? TLS1_2_VERSION : TLS1_3_VERSION; }

Result<std::string> encode_alpn(const std::vector<std::string>& protocols) {
  std::string wire;
  for (const std::string& protocol : protocols) {
    if (protocol.empty() || protocol.size() > 255) {
      return Error{"alpn: a protocol name has 1 to 255 bytes, got " + std::to_string(protocol.size())};
    }
    wire += static_cast<char>(protocol.size());
    wire += protocol;
  }
  if (wire.size() > 65535) return Error{"alpn: too many protocols"};
  return wire;
}

// Hands the certificates over in their DER form: an SSL_CTX that is given X509 objects keeps them,
// some 4 KiB each.
Status use_identity(SSL_CTX* ctx, const TlsIdentity& identity) {
  std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> owned;
  std::vector<CRYPTO_BUFFER*> chain;
  for (const auto& certificate : identity.chain) {
    uint8_t* der = nullptr;
    int size = i2d_X509(certificate.get(), &der);
    bssl::UniquePtr<uint8_t> owned_der(der);
    if (size > 0) owned.emplace_back(CRYPTO_BUFFER_new(der, static_cast<size_t>(size), nullptr));
    if (size <= 0 || !owned.back()) return Error{"certificate: " + take_tls_error("not usable")};
    chain.push_back(owned.back().get());
  }
  if (SSL_CTX_set_chain_and_key(ctx, chain.data(), chain.size(), identity.key.get(), nullptr)) {
    return {};
  }
  ERR_clear_error();
  return Error{"certificate: not usable for TLS"};
}

// What both kinds of configuration have.
template <typename Config>
Status apply_common(SSL_CTX* ctx, const Config& config) {
  if (config.min_version > config.max_version) return Error{"min_version: is above max_version"};
  if (!TlsCallbacks::configure(ctx) || !SSL_CTX_set_min_proto_version(ctx, wire_version(config.min_version)) ||
      !SSL_CTX_set_max_proto_version(ctx, wire_version(config.max_version))) {
    return Error{take_tls_error("out of memory")};
  }
  if (!config.ciphers_tls12.empty() && !SSL_CTX_set_strict_cipher_list(ctx, config.ciphers_tls12.c_str())) {
    ERR_clear_error();
    return Error{"ciphers: \"" + config.ciphers_tls12 + "\" names a cipher suite that is not known or not offered"};
  }
  if (!config.groups.empty() && !SSL_CTX_set1_groups_list(ctx, config.groups.c_str())) {
    ERR_clear_error();
    return Error{"groups: \"" + config.groups + "\" names a group that is not known"};
  }
  return {};
}

bssl::UniquePtr<STACK_OF(X509_NAME)> ca_hints(const std::vector<bssl::UniquePtr<X509>>& anchors) {
  bssl::UniquePtr<STACK_OF(X509_NAME)> names(sk_X509_NAME_new_null());
  for (const auto& anchor : anchors) {
    bssl::UniquePtr<X509_NAME> name(X509_NAME_dup(X509_get_subject_name(anchor.get())));
    if (name) bssl::PushToStack(names.get(), std::move(name));
  }
  return names;
}

Status trust_clients(SSL_CTX* ctx, const std::string& ca_pem) {
  auto anchors = parse_certificates("client CA", ca_pem);
  if (!anchors) return anchors.error();
  auto store = parse_trust_store("client CA", ca_pem);
  if (!store) return store.error();
  SSL_CTX_set_cert_store(ctx, store->release());
  if (anchors->size() <= kMaxCaHints) SSL_CTX_set_client_CA_list(ctx, ca_hints(*anchors).release());
  return {};
}

Status trust_servers(SSL_CTX* ctx, const std::string& ca_pem) {
  auto store = ca_pem.empty() ? system_trust_store() : parse_trust_store("CA", ca_pem);
  if (!store) return store.error();
  SSL_CTX_set_cert_store(ctx, store->release());
  return {};
}

std::string to_lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  }
  return text;
}

// Fields are length-prefixed so that no two configurations hash the same text.
class Fingerprint {
 public:
  Fingerprint() { SHA256_Init(&state_); }
  Fingerprint& add(std::string_view field) {
    uint64_t size = field.size();
    SHA256_Update(&state_, &size, sizeof(size));
    SHA256_Update(&state_, field.data(), field.size());
    return *this;
  }
  Fingerprint& add(int number) { return add(std::to_string(number)); }
  std::string finish() {
    uint8_t hash[SHA256_DIGEST_LENGTH];
    SHA256_Final(hash, &state_);
    return std::string(reinterpret_cast<char*>(hash), sizeof(hash));
  }

 private:
  SHA256_CTX state_;
};

template <typename Config>
Fingerprint common_fingerprint(const Config& config, const std::string& alpn_wire) {
  Fingerprint fingerprint;
  fingerprint.add(static_cast<int>(config.min_version)).add(static_cast<int>(config.max_version));
  fingerprint.add(config.ciphers_tls12).add(config.groups).add(alpn_wire).add(config.certificate_pem);
  return fingerprint;
}

std::vector<std::string> names_of(X509* leaf) {
  std::vector<std::string> names = subject_alt_names(leaf, SanType::kDns);
  for (std::string& ip : subject_alt_names(leaf, SanType::kIp)) names.push_back(std::move(ip));
  return names;
}

}  // namespace

TlsContext::~TlsContext() { SSL_CTX_free(ssl_ctx_); }

Result<std::shared_ptr<const TlsContext>> TlsContext::server(const TlsServerConfig& config) {
  using ClientAuth = TlsServerConfig::ClientAuth;
  auto identity = parse_identity(config.certificate_pem, config.private_key_pem, config.allow_expired);
  if (!identity) return identity.error();
  auto alpn = encode_alpn(config.alpn);
  if (!alpn) return alpn.error();

  bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_server_method()));
  if (!ctx) return Error{take_tls_error("out of memory")};
  if (Status status = apply_common(ctx.get(), config); !status) return status.error();
  if (Status status = use_identity(ctx.get(), *identity); !status) return status.error();
  if (config.client_auth != ClientAuth::kNone) {
    if (Status status = trust_clients(ctx.get(), config.client_ca_pem); !status) return status.error();
  }
  TlsCallbacks::install_server(ctx.get());

  std::shared_ptr<TlsContext> context(new TlsContext());
  context->is_server_ = true;
  context->verify_mode_ = config.client_auth == ClientAuth::kNone ? SSL_VERIFY_NONE
                          : config.client_auth != ClientAuth::kRequired
                              ? SSL_VERIFY_PEER
                              : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  context->client_verify_depth_ = config.client_verify_depth;
  context->takes_unverified_ = config.client_auth == ClientAuth::kUnverified;
  context->min_version_ = wire_version(config.min_version);
  context->max_version_ = wire_version(config.max_version);
  context->ciphers_tls12_ = config.ciphers_tls12;
  context->client_prefers_ciphers_ = config.client_prefers_ciphers;
  context->groups_ = config.groups;
  context->alpn_wire_ = std::move(*alpn);
  context->ticket_keys_ = config.ticket_keys;
  context->not_before_ = sluice::net::not_before(identity->chain[0].get());
  context->not_after_ = sluice::net::not_after(identity->chain[0].get());
  context->certificate_names_ = names_of(identity->chain[0].get());
  context->fingerprint_ = common_fingerprint(config, context->alpn_wire_)
                              .add(static_cast<int>(config.client_auth))
                              .add(config.client_verify_depth)
                              .add(config.client_ca_pem)
                              .add(config.session_scope)
                              .finish();
  static_assert(SHA256_DIGEST_LENGTH <= SSL_MAX_SID_CTX_LENGTH);
  SSL_CTX_set_session_id_context(ctx.get(), reinterpret_cast<const uint8_t*>(context->fingerprint_.data()),
                                 context->fingerprint_.size());
  context->ssl_ctx_ = ctx.release();
  return std::shared_ptr<const TlsContext>(std::move(context));
}

Result<std::shared_ptr<const TlsContext>> TlsContext::client(const TlsClientConfig& config) {
  auto alpn = encode_alpn(config.alpn);
  if (!alpn) return alpn.error();

  bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_client_method()));
  if (!ctx) return Error{take_tls_error("out of memory")};
  if (Status status = apply_common(ctx.get(), config); !status) return status.error();
  std::shared_ptr<TlsContext> context(new TlsContext());
  if (!config.certificate_pem.empty() || !config.private_key_pem.empty()) {
    auto identity = parse_identity(config.certificate_pem, config.private_key_pem, false);
    if (!identity) return identity.error();
    if (Status status = use_identity(ctx.get(), *identity); !status) return status.error();
    context->not_before_ = sluice::net::not_before(identity->chain[0].get());
    context->not_after_ = sluice::net::not_after(identity->chain[0].get());
    context->certificate_names_ = names_of(identity->chain[0].get());
  }
  if (config.verify) {
    if (Status status = trust_servers(ctx.get(), config.ca_pem); !status) return status.error();
    if (config.verify_depth > 0) SSL_CTX_set_verify_depth(ctx.get(), config.verify_depth);
  }
  TlsCallbacks::install_client(ctx.get());
  if (!alpn->empty() && SSL_CTX_set_alpn_protos(ctx.get(), reinterpret_cast<const uint8_t*>(alpn->data()),
                                                static_cast<unsigned>(alpn->size())) != 0) {
    return Error{"alpn: " + take_tls_error("not usable")};
  }

  context->verify_mode_ = config.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
  context->sni_ = to_lower(config.sni);
  context->verify_name_ = to_lower(config.verify_name);
  context->alpn_wire_ = std::move(*alpn);
  context->fingerprint_ = common_fingerprint(config, context->alpn_wire_)
                              .add(context->verify_mode_)
                              .add(config.verify_depth)
                              .add(config.ca_pem)
                              .finish();
  context->ssl_ctx_ = ctx.release();
  return std::shared_ptr<const TlsContext>(std::move(context));
}

Status check_certificate(const std::string& certificate_pem, const std::string& private_key_pem) {
  auto identity = parse_identity(certificate_pem, private_key_pem, false);
  return identity ? Status() : Status(identity.error());
}

}  // namespace sluice::net
