#include "http/websocket.h"

#include <openssl/base64.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

namespace sluice::http {
namespace {

std::string base64(const uint8_t* data, size_t size) {
  uint8_t out[64];
  const size_t n = EVP_EncodeBlock(out, data, size);
  return std::string(reinterpret_cast<char*>(out), n);
}

}  // namespace

std::string websocket_accept(std::string_view key) {
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  uint8_t digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const uint8_t*>(text.data()), text.size(), digest);
  return base64(digest, sizeof(digest));
}

std::string websocket_key() {
  uint8_t bytes[16];
  RAND_bytes(bytes, sizeof(bytes));
  return base64(bytes, sizeof(bytes));
}

}  // namespace sluice::http
