#include "api/kube/token.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "api/kube/json.h"
#include "base/base64.h"
#include "net/self_signed.h"
#include "net/tls_context.h"
#include "source/files.h"

namespace sluice::api::kube {
namespace {

constexpr size_t kMinLength = 16;
constexpr size_t kMaxLength = 4096;
constexpr size_t kMaxCertificate = 64 << 10;
constexpr int64_t kRenewSeconds = 30L * 24 * 3600;

std::string certificate_path(const std::string& token_file) {
  return (std::filesystem::path(token_file).parent_path() / "api-tls.pem").string();
}

Error error_of(const std::string& path) { return Error{path + ": " + std::strerror(errno)}; }

Result<std::string> new_token() {
  unsigned char bytes[32];
  if (::getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) return Error{"no random bytes"};
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : bytes) {
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

Status make_private_directory(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (path.empty() || fs::is_directory(path, error)) return {};
  if (Status made = make_private_directory(fs::path(path).parent_path()); !made.ok()) return made;
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return error_of(path);
  return {};
}

}  // namespace

std::string default_token_file(const std::string& state_directory) {
  if (!state_directory.empty()) return state_directory + "/api-token";
  if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state)
    return std::string(state) + "/sluice/api-token";
  const char* home = std::getenv("HOME");
  return std::string(home ? home : "") + "/.local/state/sluice/api-token";
}

Result<std::string> load_token(const std::string& path) {
  Result<std::string> text = source::read_file(path, kMaxLength);
  if (!text.ok()) return Error{path + " " + text.error().message};
  while (!text->empty() && std::strchr(" \t\r\n", text->back())) text->pop_back();
  if (text->size() < kMinLength) {
    return Error{path + ": the token should have at least " + std::to_string(kMinLength) + " characters"};
  }
  for (const char c : *text) {
    if (c <= ' ' || c > '~') return Error{path + ": the token should be one word of printable characters"};
  }
  return text;
}

Result<std::string> load_or_create_token(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 || errno != ENOENT) return load_token(path);
  Result<std::string> token = new_token();
  if (!token.ok()) return token;
  if (Status made = make_private_directory(std::filesystem::path(path).parent_path()); !made.ok()) return made.error();
  if (Status written = write_private_file(path, *token + "\n"); !written.ok()) return written.error();
  return token;
}

Result<std::string> load_or_create_certificate(const std::string& token_file) {
  const std::string path = certificate_path(token_file);
  struct stat info;
  if (::stat(path.c_str(), &info) == 0) {
    Result<std::string> pem = source::read_file(path, kMaxCertificate);
    if (!pem.ok()) return Error{path + " " + pem.error().message};
    net::TlsServerConfig config;
    config.certificate_pem = config.private_key_pem = *pem;
    config.allow_expired = true;
    const auto context = net::TlsContext::server(config);
    if (!context.ok()) return Error{path + ": " + context.error().message + "; remove the file to get another one"};
    if ((*context)->not_after() > std::time(nullptr) + kRenewSeconds) return pem;
  }
  Result<std::string> pem = net::make_self_signed("sluice-api");
  if (!pem.ok()) return pem;
  if (Status written = write_private_file(path, *pem); !written.ok()) return written.error();
  return pem;
}

Result<std::string> load_certificate(const std::string& token_file) {
  const std::string path = certificate_path(token_file);
  Result<std::string> pem = source::read_file(path, kMaxCertificate);
  if (!pem.ok()) return Error{path + " " + pem.error().message};
  return certificate_part(*pem);
}

std::string certificate_part(const std::string& pem) {
  static constexpr std::string_view kEnd = "-----END CERTIFICATE-----\n";
  const size_t end = pem.find(kEnd);
  return end == pem.npos ? std::string() : pem.substr(0, end + kEnd.size());
}

bool same_token(std::string_view given, std::string_view expected) {
  unsigned difference = given.size() != expected.size();
  for (size_t i = 0; i < expected.size(); ++i) {
    difference |= static_cast<unsigned char>(expected[i]) ^ static_cast<unsigned char>(i < given.size() ? given[i] : 0);
  }
  return difference == 0;
}

std::string kubeconfig_text(const std::string& server, const std::string& certificate, const std::string& token,
                            const std::string& ns) {
  return to_yaml({{"apiVersion", "v1"},
                  {"kind", "Config"},
                  {"current-context", "sluice"},
                  {"contexts",
                   {{{"name", "sluice"}, {"context", {{"cluster", "sluice"}, {"user", "sluice"}, {"namespace", ns}}}}}},
                  {"clusters",
                   {{{"name", "sluice"},
                     {"cluster",
                      {{"server", server},
                       {"tls-server-name", "localhost"},
                       {"certificate-authority-data", encode_base64(certificate)}}}}}},
                  {"users", {{{"name", "sluice"}, {"user", {{"token", token}}}}}}});
}

Status write_private_file(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return error_of(temporary);
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  ::close(fd);
  if (written && ::rename(temporary.c_str(), path.c_str()) == 0) return {};
  Status failure = error_of(path);
  ::unlink(temporary.c_str());
  return failure;
}

}  // namespace sluice::api::kube
