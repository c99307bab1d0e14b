#include "source/kube/credentials.h"

#include "base/log.h"
#include "source/files.h"

namespace sluice::source::kube {
namespace {

constexpr size_t kMaxFile = 1 << 20;

bool is_fresh(uint64_t read_ms, uint64_t now_ms) { return read_ms != 0 && now_ms - read_ms < Credentials::kRefreshMs; }

// Of a token, so that it can stand in a header field: no white space around, no control byte inside.
std::string clean(std::string text) {
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.pop_back();
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 127) return {};
  }
  return text;
}

}  // namespace

std::string Credentials::authorization(uint64_t now_ms) {
  if (access_.token_file.empty()) {
    const std::string token = clean(std::string(access_.token.expose()));
    return token.empty() ? token : "Bearer " + token;
  }
  if (!is_fresh(token_read_ms_, now_ms)) {
    token_read_ms_ = now_ms;
    Result<std::string> text = read_file(access_.token_file, kMaxFile);
    if (text.ok()) {
      token_ = resource::SecretBytes(clean(std::move(*text)));
    } else {
      log::warning("kubernetes", access_.token_file + " " + text.error().message);
    }
  }
  return token_.empty() ? std::string() : "Bearer " + std::string(token_.expose());
}

Result<std::shared_ptr<const net::TlsContext>> Credentials::tls_context(uint64_t now_ms) {
  if (!access_.tls || is_fresh(tls_read_ms_, now_ms)) return context_;
  net::TlsClientConfig config;
  config.sni = access_.tls_server_name.empty() ? access_.host : access_.tls_server_name;
  config.verify_name = config.sni;
  config.verify = !access_.insecure_skip_tls_verify;
  config.alpn = {"http/1.1"};
  config.ca_pem = access_.ca_pem;
  config.certificate_pem = access_.client_certificate_pem;
  config.private_key_pem = std::string(access_.client_key_pem.expose());
  std::string failure;
  const auto read = [&](const std::string& file, std::string& out) {
    if (file.empty()) return;
    Result<std::string> text = read_file(file, kMaxFile);
    if (text.ok()) {
      out = std::move(*text);
    } else {
      failure = file + " " + text.error().message;
    }
  };
  read(access_.ca_file, config.ca_pem);
  read(access_.client_certificate_file, config.certificate_pem);
  read(access_.client_key_file, config.private_key_pem);
  if (failure.empty()) {
    auto made = net::TlsContext::client(config);
    if (made.ok()) {
      context_ = std::move(*made);
      tls_read_ms_ = now_ms;
      return context_;
    }
    failure = made.error().message;
  }
  // Half of a rotation: the last good one goes on for a moment.
  if (!context_) return Error{failure};
  log::warning("kubernetes", failure + "; the former certificates stay in use");
  return context_;
}

}  // namespace sluice::source::kube
