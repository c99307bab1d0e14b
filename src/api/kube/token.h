#pragma once
// The token by which clients of the API are known, the certificate by which they know it, and the kubeconfig that tells
// both to kubectl (which shows a token over TLS only).

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace sluice::api::kube {

// Where the token is kept unless told otherwise: api-token in the state directory, if there is one, else in
// $XDG_STATE_HOME/sluice or ~/.local/state/sluice.
std::string default_token_file(const std::string& state_directory);

// Reads the token; where there is no file, makes one (mode 0600, its directory 0700) with 256 random bits. Errors name
// the path and never the token.
Result<std::string> load_or_create_token(const std::string& path);
Result<std::string> load_token(const std::string& path);

// The certificate and private key of the API, in PEM: api-tls.pem beside the token. Made if there is none, or if it has
// less than 30 days to go; mode 0600.
Result<std::string> load_or_create_certificate(const std::string& token_file);
// Of PEM text with a certificate and its key, the certificate.
std::string certificate_part(const std::string& pem);
Result<std::string> load_certificate(const std::string& token_file);

// Takes the same time wherever they differ.
bool same_token(std::string_view given, std::string_view expected);

// `server`: https://127.0.0.1:15080. It expects that certificate whatever the name or address in the URL.
std::string kubeconfig_text(const std::string& server, const std::string& certificate, const std::string& token,
                            const std::string& ns);
// Replaces the file; mode 0600.
Status write_private_file(const std::string& path, std::string_view text);

}  // namespace sluice::api::kube
