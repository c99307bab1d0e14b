#include "compile/auth_secret.h"

#include "compile/annotation_values.h"

namespace sluice::compile {
namespace {

constexpr size_t kMostUsers = 10000;

Result<std::vector<std::string>> read_file(std::string_view text) {
  std::vector<std::string> out;
  for (size_t number = 1;; ++number) {
    const size_t newline = text.find('\n');
    const std::string_view line = trim(text.substr(0, newline));
    if (!line.empty() && line[0] != '#') {
      const size_t colon = line.find(':');
      if (colon == 0 || colon == line.npos) {
        return Error{"line " + std::to_string(number) + " of its key auth is not name:hash, as htpasswd writes it"};
      }
      out.emplace_back(line);
    }
    if (newline == text.npos) return out;
    text.remove_prefix(newline + 1);
  }
}

}  // namespace

Result<std::vector<std::string>> read_users(const resource::Secret& secret, bool is_map) {
  std::vector<std::string> out;
  if (is_map) {
    for (const auto& [name, hash] : secret.data) out.push_back(name + ":" + std::string(trim(hash.expose())));
  } else {
    const resource::SecretBytes* file = secret.find("auth");
    if (!file) return Error{"it has no key auth"};
    auto lines = read_file(file->expose());
    if (!lines) return lines;
    out = std::move(*lines);
  }
  if (out.empty()) return Error{"it names no user"};
  if (out.size() > kMostUsers) return Error{"it names more than " + std::to_string(kMostUsers) + " users"};
  return out;
}

}  // namespace sluice::compile
