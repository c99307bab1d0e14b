#include <gtest/gtest.h>

#include <thread>

#include "plugins/basic_auth/htpasswd.h"
#include "plugins/basic_auth/verdict_cache.h"
#include "plugins/basic_auth/verifier.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using basic_auth::check_hash;
using basic_auth::VerdictCache;
using basic_auth::verify_password;
using testing::error;
using testing::FakeContext;
using testing::make;

// Made with htpasswd and openssl passwd from "secret".
constexpr const char* kApr1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/";
constexpr const char* kMd5 = "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1";
constexpr const char* kSha256 = "$5$rounds=1000$saltsalt$eKLZU9t9OoPWrqOQsoTIKG0aYkZ5rGOoOQhiIvoSWX2";
constexpr const char* kBcrypt = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
constexpr const char* kSha1 = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";
constexpr const char* kDes = "abNANd1rDfiNc";

TEST(Htpasswd, KnownHashes) {
  for (const char* hash : {kApr1, kMd5, kSha256, kBcrypt, kSha1, kDes, "{PLAIN}secret", "secret"}) {
    EXPECT_EQ(check_hash(hash), "") << hash;
    EXPECT_TRUE(verify_password(hash, "secret")) << hash;
    for (const char* wrong : {"", "Secret", "secret1", "secre"})
      EXPECT_FALSE(verify_password(hash, wrong)) << hash << wrong;
  }
}

TEST(Htpasswd, Apr1OfAwkwardPasswords) {
  // Lengths around the digest's, for the bit-wise part of the algorithm.
  EXPECT_TRUE(verify_password("$apr1$ab$S8K6Sgp3W8c9Jb6LxgywZ.", ""));
  EXPECT_TRUE(verify_password("$apr1$ab$1FPGDx43yKnbIEPqvqc.H.", "0123456789abcdef"));
  EXPECT_TRUE(verify_password("$apr1$ab$49IF7t9zqvMNTTcW7KAe0.", "0123456789abcdef0123456789abcdefX"));
}

TEST(Htpasswd, RefusesWhatCannotBeChecked) {
  for (const char* bad :
       {"", "$9$x", "$argon2id$v=19$x", "{MD5}x", "$2y$31$abcdefghijklmnopqrstuuK7VnQkLQ0l5Q0cXcqBDJYV3n4jEY6Yq",
        "$2y$10$short", "{SHA}xx", "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "$apr1$toolongsalt$x",
        "$6$rounds=999999999$x$y", "*", "!"}) {
    EXPECT_NE(check_hash(bad), "") << bad;
  }
}

TEST(VerdictCache, FindsWhatWasPut) {
  VerdictCache cache;
  const auto a = VerdictCache::digest("ann:secret"), b = VerdictCache::digest("ann:other");
  EXPECT_FALSE(cache.find(a).has_value());
  cache.put(a, true);
  cache.put(b, false);
  EXPECT_EQ(cache.find(a), std::optional(true));
  EXPECT_EQ(cache.find(b), std::optional(false));
  for (int i = 0; i < 5000; ++i) cache.put(VerdictCache::digest("x:" + std::to_string(i)), true);
  EXPECT_FALSE(cache.find(VerdictCache::digest("y:1")).has_value()) << "the table does not grow";
}

const std::string kAnn = "Basic YW5uOnNlY3JldA==";  // ann:secret

std::string config(const std::string& hash) { return "{realm: R, users: [\"ann:" + hash + "\", \"bob:x\"]}"; }

// The status that the filter answers, 200 if the request passes, after the loop had time.
int status_for(FakeContext& context, const std::string& hash, const std::string& authorization) {
  if (!authorization.empty()) context.header("authorization", authorization);
  context.create(make("basic-auth", config(hash)));
  context.run_request();
  for (int i = 0; i < 400 && !context.request_passed() && !context.replied(); ++i) context.turn(10);
  return context.replied() ? context.reply_status() : context.request_passed() ? 200 : 0;
}

TEST(BasicAuth, Verdicts) {
  for (const char* hash : {kBcrypt, kApr1, kSha1, "{PLAIN}secret"}) {
    FakeContext good, wrong, none, stranger;
    EXPECT_EQ(status_for(good, hash, kAnn), 200) << hash;
    EXPECT_EQ(status_for(wrong, hash, "Basic YW5uOndyb25n"), 401) << hash;
    EXPECT_EQ(status_for(none, hash, ""), 401);
    EXPECT_EQ(none.reply_headers().get("www-authenticate"), "Basic realm=\"R\"");
    EXPECT_EQ(status_for(stranger, hash, "Basic em9lOnNlY3JldA=="), 401) << "zoe with ann's password";
  }
}

TEST(BasicAuth, OddFields) {
  for (const char* odd : {"Basic", "Basic ", "Basic ===", "Bearer YW5uOnNlY3JldA==", "BasicYW5uOnNlY3JldA==",
                          "Basic YW5u", "Basic YW5uOnMAAA=="}) {
    FakeContext context;
    EXPECT_EQ(status_for(context, "secret", odd), 401) << odd;
  }
  FakeContext any_case;
  EXPECT_EQ(status_for(any_case, "secret", "bAsIc  YW5uOnNlY3JldA=="), 200);
  FakeContext huge;
  EXPECT_EQ(status_for(huge, "secret", "Basic " + std::string(100000, 'A')), 401);
}

TEST(BasicAuth, TheSecondRequestIsAnsweredAtOnce) {
  auto factory = make("basic-auth", config(kBcrypt));
  FakeContext first, second;
  first.header("authorization", kAnn);
  first.create(factory);
  EXPECT_FALSE(first.run_request());
  for (int i = 0; i < 400 && !first.request_passed(); ++i) first.turn(10);
  EXPECT_TRUE(first.request_passed());
  second.header("authorization", kAnn);
  second.create(factory);
  EXPECT_TRUE(second.run_request());
}

TEST(BasicAuth, AClientThatLeavesIsForgotten) {
  auto factory = make("basic-auth", config(kBcrypt));
  for (int i = 0; i < 20; ++i) {
    FakeContext context;
    context.header("authorization", kAnn);
    context.create(factory);
    context.run_request();
    context.finish();
  }
}

TEST(Verifier, QueueIsBounded) {
  event::Loop loop;
  std::mutex gate;
  gate.lock();
  std::vector<std::shared_ptr<basic_auth::Check>> checks;
  size_t taken = 0, told = 0;
  for (size_t i = 0; i < basic_auth::Verifier::kMaxWaiting * 2; ++i) {
    checks.push_back(std::make_shared<basic_auth::Check>(
        loop, [&] { return std::lock_guard(gate), true; }, [&](bool good) { told += good; }));
    taken += basic_auth::Verifier::instance().submit(checks.back());
  }
  EXPECT_GT(taken, 0u);  // other tests may have left some
  EXPECT_LE(taken, basic_auth::Verifier::kMaxWaiting + 1);
  gate.unlock();
  for (int i = 0; i < 1000 && told < taken; ++i) loop.run_once(10);
  EXPECT_EQ(told, taken);
}

TEST(BasicAuth, ErrorsTellNothingOfTheHash) {
  const std::string told = error("basic-auth", "{users: [\"ann:$9$topsecret\"]}");
  EXPECT_NE(told.find("the password of \"ann\" is not a hash that can be checked"), std::string::npos) << told;
  EXPECT_EQ(told.find("topsecret"), std::string::npos);
  EXPECT_NE(error("basic-auth", "{users: [ann]}").find("is not name:hash"), std::string::npos);
  EXPECT_NE(error("basic-auth", "{users: []}").find("must hold at least one"), std::string::npos);
  EXPECT_NE(error("basic-auth", "{}").find("users"), std::string::npos);
}

}  // namespace
}  // namespace sluice::plugins
