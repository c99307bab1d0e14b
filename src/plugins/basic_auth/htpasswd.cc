#include "plugins/basic_auth/htpasswd.h"

#include <crypt.h>
#include <openssl/md5.h>
#include <openssl/mem.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <span>

#include "base/base64.h"

namespace sluice::plugins::basic_auth {
namespace {

constexpr std::string_view kApr1 = "$apr1$";
constexpr std::string_view kSha = "{SHA}";
constexpr std::string_view kSaltedSha = "{SSHA}";
constexpr std::string_view kPlain = "{PLAIN}";
constexpr std::string_view kCryptAlphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr int kMaxBcryptCost = 14;
constexpr int kMaxShaRounds = 1'000'000;

bool equal(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

bool is_bcrypt(std::string_view hash) {
  return hash.starts_with("$2a$") || hash.starts_with("$2b$") || hash.starts_with("$2y$");
}
bool is_sha_crypt(std::string_view hash) { return hash.starts_with("$5$") || hash.starts_with("$6$"); }

bool is_of_crypt_alphabet(std::string_view text) {
  return text.find_first_not_of(kCryptAlphabet) == std::string_view::npos;
}

int number_at(std::string_view text) {
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::string_view bytes(std::span<const uint8_t> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// Apache's variant of MD5 crypt: https://httpd.apache.org/docs/current/misc/password_encryptions.html
class Md5 {
 public:
  Md5() { MD5_Init(&context_); }
  void add(std::string_view text) { MD5_Update(&context_, text.data(), text.size()); }
  void finish(uint8_t* out) { MD5_Final(out, &context_); }

 private:
  MD5_CTX context_;
};

std::string apr1_digest(std::string_view password, std::string_view salt) {
  uint8_t digest[16];
  Md5 inner;
  inner.add(password);
  inner.add(salt);
  inner.add(password);
  inner.finish(digest);
  Md5 outer;
  outer.add(password);
  outer.add(kApr1);
  outer.add(salt);
  for (size_t left = password.size(); left > 0; left -= std::min<size_t>(left, 16)) {
    outer.add(bytes(digest).substr(0, std::min<size_t>(left, 16)));
  }
  for (size_t bits = password.size(); bits; bits >>= 1) {
    outer.add(bits & 1 ? std::string_view("\0", 1) : password.substr(0, 1));
  }
  outer.finish(digest);
  for (int round = 0; round < 1000; ++round) {
    Md5 next;
    next.add(round & 1 ? password : bytes(digest));
    if (round % 3) next.add(salt);
    if (round % 7) next.add(password);
    next.add(round & 1 ? bytes(digest) : password);
    next.finish(digest);
  }
  static constexpr uint8_t kOrder[5][3] = {{0, 6, 12}, {1, 7, 13}, {2, 8, 14}, {3, 9, 15}, {4, 10, 5}};
  std::string out;
  auto append = [&](uint32_t value, int digits) {
    for (; digits > 0; --digits, value >>= 6) out += kCryptAlphabet[value & 63];
  };
  for (const auto& [a, b, c] : kOrder) {
    append(static_cast<uint32_t>(digest[a]) << 16 | static_cast<uint32_t>(digest[b]) << 8 | digest[c], 4);
  }
  append(digest[11], 2);
  OPENSSL_cleanse(digest, sizeof(digest));
  return out;
}

bool verify_apr1(std::string_view hash, std::string_view password) {
  const std::string_view rest = hash.substr(kApr1.size());
  const size_t dollar = rest.find('$');
  return equal(apr1_digest(password, rest.substr(0, std::min<size_t>(dollar, 8))), rest.substr(dollar + 1));
}

bool verify_sha1(std::string_view encoded, std::string_view password) {
  const auto wanted = decode_base64(encoded);
  if (!wanted || wanted->size() < SHA_DIGEST_LENGTH) return false;
  std::string salted(password);
  salted += wanted->substr(SHA_DIGEST_LENGTH);
  uint8_t digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const uint8_t*>(salted.data()), salted.size(), digest);
  OPENSSL_cleanse(salted.data(), salted.size());
  return equal(bytes(digest), std::string_view(*wanted).substr(0, SHA_DIGEST_LENGTH));
}

bool verify_crypt(std::string_view hash, std::string_view password) {
  auto data = std::make_unique<crypt_data>();  // tens of KiB
  std::string key(password), setting(hash);
  const char* made = crypt_r(key.c_str(), setting.c_str(), data.get());
  const bool good = made && made[0] != '*' && equal(made, hash);
  OPENSSL_cleanse(key.data(), key.size());
  OPENSSL_cleanse(data.get(), sizeof(crypt_data));
  return good;
}

}  // namespace

Scheme scheme_of(std::string_view hash) {
  if (hash.empty()) return Scheme::kUnknown;
  if (hash.starts_with(kPlain)) return Scheme::kPlain;
  if (hash.starts_with(kSha)) return Scheme::kSha1;
  if (hash.starts_with(kSaltedSha)) return Scheme::kSaltedSha1;
  if (hash.starts_with(kApr1)) return Scheme::kApr1;
  if (is_bcrypt(hash) || is_sha_crypt(hash) || hash.starts_with("$1$")) return Scheme::kCrypt;
  if (hash[0] == '$' || hash[0] == '{' || hash[0] == '*' || hash[0] == '!') return Scheme::kUnknown;
  if (hash.size() == 13 && is_of_crypt_alphabet(hash)) return Scheme::kCrypt;
  return Scheme::kPlain;
}

std::string check_hash(std::string_view hash) {
  switch (scheme_of(hash)) {
    case Scheme::kUnknown:
      return "is not a hash that can be checked: use bcrypt (htpasswd -B), apr1, SHA-1 or crypt";
    case Scheme::kSha1:
    case Scheme::kSaltedSha1: {
      const auto raw = decode_base64(hash.substr(hash.find('}') + 1));
      const bool salted = hash.starts_with(kSaltedSha);
      const bool good = raw && (salted ? raw->size() > SHA_DIGEST_LENGTH : raw->size() == SHA_DIGEST_LENGTH);
      return good ? "" : "is not base64 of a SHA-1 hash";
    }
    case Scheme::kApr1: {
      const std::string_view rest = hash.substr(kApr1.size());
      const size_t dollar = rest.find('$');
      const bool good = dollar != rest.npos && dollar <= 8 && rest.size() - dollar == 23;
      return good ? "" : "is not $apr1$ with a salt and 22 characters";
    }
    case Scheme::kPlain:
      return "";
    case Scheme::kCrypt:
      break;
  }
  if (is_bcrypt(hash)) {
    const bool shape = hash.size() == 60 && hash[6] == '$' && is_of_crypt_alphabet(hash.substr(7));
    if (!shape) return "is not a bcrypt hash of 60 characters";
    const int cost = number_at(hash.substr(4));
    if (cost < 4 || cost > kMaxBcryptCost) {
      return "has a bcrypt cost outside 4.." + std::to_string(kMaxBcryptCost);
    }
  }
  if (is_sha_crypt(hash) && hash.substr(3).starts_with("rounds=") && number_at(hash.substr(10)) > kMaxShaRounds) {
    return "has more than " + std::to_string(kMaxShaRounds) + " rounds";
  }
  return "";
}

bool is_fast(Scheme scheme) {
  return scheme == Scheme::kPlain || scheme == Scheme::kSha1 || scheme == Scheme::kSaltedSha1;
}

bool verify_password(std::string_view hash, std::string_view password) {
  switch (scheme_of(hash)) {
    case Scheme::kUnknown:
      return false;
    case Scheme::kPlain:
      if (hash.starts_with(kPlain)) hash.remove_prefix(kPlain.size());
      return equal(hash, password);
    case Scheme::kSha1:
      return verify_sha1(hash.substr(kSha.size()), password);
    case Scheme::kSaltedSha1:
      return verify_sha1(hash.substr(kSaltedSha.size()), password);
    case Scheme::kApr1:
      return verify_apr1(hash, password);
    case Scheme::kCrypt:
      return verify_crypt(hash, password);
  }
  return false;
}

}  // namespace sluice::plugins::basic_auth
