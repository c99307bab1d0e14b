#pragma once
// KeyedDigest: an HMAC-SHA256 under a key that is drawn when the process starts. It stands for a secret in tables that
// must not hold it, and nobody outside can choose two texts that collide.

#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string_view>

namespace sluice::plugins {

struct KeyedDigest {
  uint64_t words[4] = {};

  static KeyedDigest of(std::string_view text) {
    static const auto kKey = [] {
      std::array<uint8_t, 32> key;
      RAND_bytes(key.data(), key.size());
      return key;
    }();
    KeyedDigest out;
    static_assert(sizeof(out) == SHA256_DIGEST_LENGTH);
    HMAC(EVP_sha256(), kKey.data(), kKey.size(), reinterpret_cast<const uint8_t*>(text.data()), text.size(),
         reinterpret_cast<uint8_t*>(&out), nullptr);
    return out;
  }
  bool operator==(const KeyedDigest&) const = default;

  struct Hash {
    size_t operator()(const KeyedDigest& digest) const { return digest.words[0]; }
  };
};

}  // namespace sluice::plugins
