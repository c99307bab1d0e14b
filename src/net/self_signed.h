#pragma once
// A certificate of our own making, for a server whose clients are told beforehand which certificate to expect.

#include <string>

#include "base/result.h"

namespace sluice::net {

// PEM text of a certificate for localhost, 127.0.0.1 and ::1 (ECDSA P-256, signed by itself, valid from an hour ago for
// ten years) followed by its private key.
Result<std::string> make_self_signed(const std::string& common_name);

}  // namespace sluice::net
