#pragma once
// Password hashes as `htpasswd` and crypt(3) write them: bcrypt ($2y$), Apache's apr1, MD5, SHA-256 and SHA-512 crypt,
// {SHA}, {SSHA}, {PLAIN}, traditional DES, and plain text as `htpasswd -p` leaves it.

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::plugins::basic_auth {

enum class Scheme : uint8_t { kUnknown, kPlain, kSha1, kSaltedSha1, kApr1, kCrypt };

// What is wrong with a hash, without telling any of it; empty if it can be checked. A hash that costs more than about a
// second to check is refused.
std::string check_hash(std::string_view hash);
Scheme scheme_of(std::string_view hash);

// True for hashes that take microseconds: the worker may check them itself.
bool is_fast(Scheme scheme);

// Whether the password is the one the hash was made of. Takes as long as the hash asks for; compares in constant time.
// Any thread.
bool verify_password(std::string_view hash, std::string_view password);

}  // namespace sluice::plugins::basic_auth
