#include "net/tls_ticket_keys.h"

#include <openssl/aead.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/hkdf.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

namespace sluice::net {
namespace {

constexpr size_t kNameSize = 16;
constexpr size_t kNonceSize = 12;
constexpr size_t kTagSize = 16;
constexpr size_t kKeySize = 32;
constexpr size_t kSecretSize = 32;
static_assert(TlsTicketKeys::kOverhead == kNameSize + kNonceSize + kTagSize);

std::atomic<uint64_t> next_id{1};

}  // namespace

struct TlsTicketKeys::Key {
  uint8_t name[kNameSize];
  bssl::ScopedEVP_AEAD_CTX aead;

  static std::shared_ptr<const Key> derive(std::span<const uint8_t> secret) {
    auto key = std::make_shared<Key>();
    uint8_t material[kNameSize + kKeySize];
    constexpr std::string_view kInfo = "sluice session ticket";
    if (!HKDF(material, sizeof(material), EVP_sha256(), secret.data(), secret.size(), nullptr, 0,
              reinterpret_cast<const uint8_t*>(kInfo.data()), kInfo.size())) {
      return nullptr;
    }
    std::memcpy(key->name, material, kNameSize);
    bool ready =
        EVP_AEAD_CTX_init(key->aead.get(), EVP_aead_aes_256_gcm(), material + kNameSize, kKeySize, kTagSize, nullptr);
    OPENSSL_cleanse(material, sizeof(material));
    return ready ? key : nullptr;
  }

  static std::shared_ptr<const Key> random() {
    uint8_t secret[kSecretSize];
    RAND_bytes(secret, sizeof(secret));
    std::shared_ptr<const Key> key = derive(secret);
    OPENSSL_cleanse(secret, sizeof(secret));
    return key;
  }
};

TlsTicketKeys::TlsTicketKeys(size_t previous) : previous_(previous), id_(next_id++) {
  keys_ = std::make_shared<const KeySet>(KeySet{Key::random()});
}

TlsTicketKeys::~TlsTicketKeys() = default;

void TlsTicketKeys::rotate() {
  std::shared_ptr<const Key> fresh = Key::random();
  std::lock_guard lock(mutex_);
  KeySet keys{std::move(fresh)};
  keys.insert(keys.end(), keys_->begin(), keys_->begin() + std::min(previous_, keys_->size()));
  publish(std::move(keys));
}

Status TlsTicketKeys::set(std::span<const std::span<const uint8_t>> secrets) {
  if (secrets.empty()) return Error{"session ticket keys: at least one is needed"};
  KeySet keys;
  for (std::span<const uint8_t> secret : secrets) {
    if (secret.size() < kSecretSize) return Error{"session ticket keys: each needs at least 32 bytes"};
    std::shared_ptr<const Key> key = Key::derive(secret);
    if (!key) return Error{"session ticket keys: the key cannot be derived"};
    keys.push_back(std::move(key));
  }
  std::lock_guard lock(mutex_);
  publish(std::move(keys));
  return {};
}

// The caller holds mutex_.
void TlsTicketKeys::publish(KeySet keys) {
  keys_ = std::make_shared<const KeySet>(std::move(keys));
  version_.fetch_add(1, std::memory_order_release);
}

// Each thread keeps its own reference to the keys it saw last, so that reading costs one load.
const TlsTicketKeys::KeySet& TlsTicketKeys::current() {
  struct Seen {
    uint64_t id = 0;
    uint64_t version = 0;
    std::shared_ptr<const KeySet> keys;
  };
  static thread_local Seen seen;
  if (seen.id != id_ || seen.version != version_.load(std::memory_order_acquire)) {
    std::lock_guard lock(mutex_);
    seen = {id_, version_.load(std::memory_order_relaxed), keys_};
  }
  return *seen.keys;
}

size_t TlsTicketKeys::seal(std::span<const uint8_t> plain, std::span<uint8_t> out) {
  if (out.size() < plain.size() + kOverhead) return 0;
  const Key& key = *current().front();
  uint8_t nonce[kNonceSize];
  RAND_bytes(nonce, sizeof(nonce));
  size_t sealed = 0;
  // The plain text may lie at the start of `out`: the body is sealed first, to where it belongs.
  std::memmove(out.data() + kNameSize + kNonceSize, plain.data(), plain.size());
  uint8_t* body = out.data() + kNameSize + kNonceSize;
  if (!EVP_AEAD_CTX_seal(key.aead.get(), body, &sealed, out.size() - kNameSize - kNonceSize, nonce, kNonceSize, body,
                         plain.size(), key.name, kNameSize)) {
    ERR_clear_error();
    return 0;
  }
  std::memcpy(out.data(), key.name, kNameSize);
  std::memcpy(out.data() + kNameSize, nonce, kNonceSize);
  return kNameSize + kNonceSize + sealed;
}

std::optional<size_t> TlsTicketKeys::open(std::span<const uint8_t> ticket, std::span<uint8_t> out) {
  if (ticket.size() < kOverhead || out.size() < ticket.size() - kNameSize - kNonceSize) return std::nullopt;
  for (const auto& key : current()) {
    if (std::memcmp(key->name, ticket.data(), kNameSize) != 0) continue;
    std::span<const uint8_t> nonce = ticket.subspan(kNameSize, kNonceSize);
    std::span<const uint8_t> body = ticket.subspan(kNameSize + kNonceSize);
    size_t opened = 0;
    if (EVP_AEAD_CTX_open(key->aead.get(), out.data(), &opened, out.size(), nonce.data(), nonce.size(), body.data(),
                          body.size(), key->name, kNameSize)) {
      return opened;
    }
    ERR_clear_error();
    return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace sluice::net
