#include "plugins/basic_auth/filter.h"

#include <openssl/mem.h>

#include <algorithm>

#include "base/base64.h"

#include "plugins/basic_auth/htpasswd.h"
#include "plugins/basic_auth/verdict_cache.h"
#include "plugins/basic_auth/verifier.h"
#include "plugins/ip_restriction/address_set.h"

namespace sluice::plugins::basic_auth {
namespace {

constexpr size_t kMaxCredential = 1024;

struct User {
  std::string name, hash;
};

struct State {
  explicit State(const Config& config) {
    for (const std::string& line : config.users) {
      const size_t colon = line.find(':');
      users.push_back({line.substr(0, colon), line.substr(colon + 1)});
    }
    std::stable_sort(users.begin(), users.end(), [](const User& a, const User& b) { return a.name < b.name; });
    for (const std::string& address : config.skip_addresses) skip.add(address);
    skip.seal();
    challenge = "Basic realm=\"";
    for (char c : config.realm) {
      if (c == '"' || c == '\\') challenge += '\\';
      challenge += c;
    }
    challenge += '"';
  }

  const User* find(std::string_view name) const {
    auto at = std::lower_bound(users.begin(), users.end(), name,
                               [](const User& user, std::string_view wanted) { return user.name < wanted; });
    return at != users.end() && at->name == name ? &*at : nullptr;
  }

  std::vector<User> users;  // sorted
  std::string challenge;
  ip_restriction::AddressSet skip;
  mutable VerdictCache cache;
};

// Name and password; wiped when it goes.
struct Credential {
  std::string text;
  size_t colon = 0;

  Credential() = default;
  Credential(const Credential&) = default;
  Credential& operator=(const Credential&) = delete;
  ~Credential() { OPENSSL_cleanse(text.data(), text.size()); }
  std::string_view name() const { return std::string_view(text).substr(0, colon); }
  std::string_view password() const { return std::string_view(text).substr(colon + 1); }

  // From an Authorization field.
  bool read(std::string_view field) {
    constexpr std::string_view kBasic = "basic";
    if (field.size() <= kBasic.size() || field.size() > kMaxCredential || field[kBasic.size()] != ' ') return false;
    for (size_t i = 0; i < kBasic.size(); ++i) {
      if ((field[i] | 0x20) != kBasic[i]) return false;
    }
    field.remove_prefix(kBasic.size());
    while (!field.empty() && field.front() == ' ') field.remove_prefix(1);
    auto decoded = decode_base64(field);
    if (!decoded) return false;
    text = std::move(*decoded);
    colon = text.find(':');
    return colon != text.npos && text.find('\0') == text.npos;
  }
};

// Runs on the verifier's thread. A name that isn't known costs as much as one that is.
bool verify(const State& state, const Credential& credential, const VerdictCache::Digest& digest) {
  if (const auto known = state.cache.find(digest)) return *known;
  const User* user = state.find(credential.name());
  const User& checked = user ? *user : state.users.front();
  const bool good = verify_password(checked.hash, credential.password()) && user;
  state.cache.put(digest, good);
  return good;
}

class BasicAuth final : public filter::Filter {
 public:
  explicit BasicAuth(const std::shared_ptr<const State>& state) : state_(state) {}

  filter::Status on_request_headers(filter::Context& context, bool end) override {
    if (!state_->skip.empty() && state_->skip.contains(context.client_address())) return filter::Status::kContinue;
    auto credential = std::make_shared<Credential>();
    if (!credential->read(context.request().headers.get(http::HeaderId::kAuthorization))) {
      return refuse(context, "basic_auth_required");
    }
    const VerdictCache::Digest digest = VerdictCache::digest(credential->text);
    if (const auto known = state_->cache.find(digest)) return decide(context, *known);
    const User* user = state_->find(credential->name());
    if (is_fast(scheme_of((user ? *user : state_->users.front()).hash))) {
      return decide(context, verify(*state_, *credential, digest));
    }
    check_ = std::make_shared<Check>(
        context.loop(), [state = state_, credential, digest] { return verify(*state, *credential, digest); },
        [this, &context](bool good) {
          check_ = nullptr;
          if (decide(context, good) == filter::Status::kContinue) context.resume_request(*this);
        });
    if (Verifier::instance().submit(check_)) return filter::Status::kPause;
    check_ = nullptr;
    context.add_flag(filter::ResponseFlag::kOverload);
    context.send_local_reply({.status = 503, .body = "overloaded", .details = "basic_auth_overload"},
                             [](http::HeaderMap& headers, const void*) { headers.add("retry-after", "1"); });
    return filter::Status::kPause;
  }

  void on_complete(filter::Context& context) override {
    if (check_) check_->give_up();
  }

 private:
  filter::Status decide(filter::Context& context, bool good) {
    return good ? filter::Status::kContinue : refuse(context, "basic_auth_failed");
  }

  filter::Status refuse(filter::Context& context, std::string_view details) {
    context.send_local_reply(
        {.status = 401, .body = "Unauthorized", .details = details},
        [](http::HeaderMap& headers, const void* state) {
          headers.add("www-authenticate", static_cast<const State*>(state)->challenge);
        },
        state_.get());
    return filter::Status::kPause;
  }

  const std::shared_ptr<const State>& state_;  // the factory's
  std::shared_ptr<Check> check_;               // under way
};

class Factory final : public filter::Factory {
 public:
  explicit Factory(const Config& config) : state_(std::make_shared<const State>(config)) {}

  std::string_view name() const override { return "basic-auth"; }
  filter::Filter* create(filter::Context& context) const override { return context.arena().create<BasicAuth>(state_); }

 private:
  const std::shared_ptr<const State> state_;
};

Result<FactoryPointer> parse(const ConfigNode& node) {
  auto config = schema().parse(node);
  if (!config) return config.error();
  if (config->users.empty()) return Error{"users: must hold at least one"};
  return FactoryPointer(std::make_shared<Factory>(*config));
}

}  // namespace

Plugin plugin() {
  return {"basic-auth", parse, "Asks for a name and password and checks them against hashes.",
          []() -> const SchemaBase& { return schema(); }};
}

}  // namespace sluice::plugins::basic_auth
