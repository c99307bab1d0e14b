#include <gtest/gtest.h>

#include "plugins/rewrite/path_rewriter.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using rewrite::PathConfig;
using rewrite::PathRewriter;
using testing::error;
using testing::FakeContext;
using testing::make;
using Mode = PathRewriter::Mode;

std::string apply(const PathConfig& config, std::string_view target, Mode mode) {
  auto rewriter = PathRewriter::make(config);
  if (!rewriter) return rewriter.error().message;
  EXPECT_EQ(static_cast<int>(rewriter->mode()), static_cast<int>(mode)) << config.regex;
  Arena arena;
  std::string_view out;
  switch (rewriter->rewrite(target, arena, &out)) {
    case PathRewriter::Outcome::kUnchanged:
      return "unchanged";
    case PathRewriter::Outcome::kTooLong:
      return "too long";
    case PathRewriter::Outcome::kChanged:
      break;
  }
  return std::string(out);
}

PathConfig regex(std::string pattern, std::string replacement) {
  return {.regex = pattern, .replacement = replacement};
}

TEST(Rewrite, WholePath) {
  const PathConfig config{.replacement = "/new"};
  EXPECT_EQ(apply(config, "/a/b?x=1", Mode::kWhole), "/new?x=1");
  EXPECT_EQ(apply(config, "/new", Mode::kWhole), "unchanged");
  EXPECT_EQ(apply(regex("^.*$", "/a\\\\b"), "/x", Mode::kWhole), "/a\\b");
}

TEST(Rewrite, PrefixElementByElement) {
  const PathConfig config{.prefix = "/p", .replacement = "/x"};
  EXPECT_EQ(apply(config, "/p", Mode::kPrefix), "/x");
  EXPECT_EQ(apply(config, "/p/", Mode::kPrefix), "/x/");
  EXPECT_EQ(apply(config, "/p/y?q=/p", Mode::kPrefix), "/x/y?q=/p");
  EXPECT_EQ(apply(config, "/pq", Mode::kPrefix), "unchanged");
  EXPECT_EQ(apply(config, "/a/p", Mode::kPrefix), "unchanged");
  const PathConfig slash{.prefix = "/p/", .replacement = "/x/"};
  EXPECT_EQ(apply(slash, "/p", Mode::kPrefix), "/x/");
  EXPECT_EQ(apply(slash, "/p/", Mode::kPrefix), "/x/");
  EXPECT_EQ(apply(slash, "/p/y", Mode::kPrefix), "/x/y");
  const PathConfig root{.prefix = "/", .replacement = "/x"};
  EXPECT_EQ(apply(root, "/", Mode::kPrefix), "/x/");
  EXPECT_EQ(apply(root, "/y", Mode::kPrefix), "/x/y");
  const PathConfig strip{.prefix = "/p", .replacement = ""};
  EXPECT_EQ(apply(strip, "/p/y", Mode::kPrefix), "/y");
  EXPECT_EQ(apply(strip, "/p", Mode::kPrefix), "/");
}

TEST(Rewrite, LiteralEverywhere) {
  const PathConfig config{.literal = "/p", .replacement = "/long/er"};
  EXPECT_EQ(apply(config, "/p/a/p?/p", Mode::kLiteral), "/long/er/a/long/er?/p");
  EXPECT_EQ(apply(config, "/pq", Mode::kLiteral), "/long/erq");
  EXPECT_EQ(apply(config, "/x", Mode::kLiteral), "unchanged");
  const PathConfig to_root{.literal = "/p", .replacement = "/"};
  EXPECT_EQ(apply(to_root, "/p/x", Mode::kLiteral), "//x");
}

// The expressions that rewrite-target and rewrite-path become.
TEST(Rewrite, PlainExpressionsNeedNoRegex) {
  EXPECT_EQ(apply(regex("\\/foo", "/bar"), "/foo/x/foo", Mode::kLiteral), "/bar/x/bar");
  EXPECT_EQ(apply(regex("\\/v1\\.0", "/x"), "/v1.0/y", Mode::kLiteral), "/x/y");
  EXPECT_EQ(apply(regex("\\/v1\\.0", "/x"), "/v1-0/y", Mode::kLiteral), "unchanged");
  EXPECT_EQ(apply(regex("^/", "/app"), "/x", Mode::kStart), "/appx");
  EXPECT_EQ(apply(regex("^\\/foo(/.*)?$", "/x\\1"), "/foo", Mode::kPrefix), "/x");
  EXPECT_EQ(apply(regex("^\\/foo(/.*)?$", "/x\\1"), "/foo/y", Mode::kPrefix), "/x/y");
  EXPECT_EQ(apply(regex("^\\/foo(/.*)?$", "/x\\1"), "/foob", Mode::kPrefix), "unchanged");
  EXPECT_EQ(apply(regex("^\\/foo(/|$)", "/x/"), "/foo", Mode::kPrefix), "/x/");
  EXPECT_EQ(apply(regex("^\\/foo(/|$)", "/x/"), "/foo/y", Mode::kPrefix), "/x/y");
  EXPECT_EQ(apply(regex("^(/.*)?$", "/x\\1"), "/y", Mode::kPrefix), "/x/y");
  EXPECT_EQ(apply(regex("^(/|$)", "/x/"), "/y", Mode::kPrefix), "/x/y");
}

TEST(Rewrite, OthersAreRegexes) {
  EXPECT_EQ(apply(regex("/v1.0", "/x"), "/v1-0/y", Mode::kRegex), "/x/y");
  EXPECT_EQ(apply(regex("/a?", "-"), "/a/b", Mode::kRegex), "/--b");
  EXPECT_EQ(apply(regex("/ab*", "/x"), "/abbb/a", Mode::kRegex), "/x/x");
  EXPECT_EQ(apply(regex("^/a|/b", "/x"), "/a/b", Mode::kRegex), "/x/x");
  EXPECT_EQ(apply(regex("(?i)^\\/foo(/.*)?$", "/x\\1"), "/FOO/y", Mode::kRegex), "/x/y");
  EXPECT_EQ(apply(regex("^/foo(/.*)?$", "/x/\\1"), "/foo/y", Mode::kRegex), "/x//y");
  EXPECT_EQ(apply(regex("\\d+", "N"), "/1/22/x", Mode::kRegex), "/N/N/x");
}

TEST(Rewrite, GroupsAndTheMatch) {
  EXPECT_EQ(apply(regex("/api/([^/]+)/(.*)", "/\\2/\\1"), "/api/a/b/c?q=1", Mode::kRegex), "/b/c/a?q=1");
  EXPECT_EQ(apply(regex("[a-c]", "<\\0>"), "/abx", Mode::kRegex), "/<a><b>x");
  EXPECT_EQ(apply(regex("/(a)?(b)?x", "/[\\1\\2]"), "/bx", Mode::kRegex), "/[b]");
  EXPECT_EQ(apply(regex("/something(/|$)(.*)", "/\\2"), "/something", Mode::kRegex), "/");
  EXPECT_EQ(apply(regex("x*", "-"), "/ab", Mode::kRegex), "/-/-a-b-");
  EXPECT_EQ(apply(regex("nothing+", "/x"), "/a", Mode::kRegex), "unchanged");
}

TEST(Rewrite, TheResultBeginsWithASlash) {
  EXPECT_EQ(apply(regex("^/a/", ""), "/a/b?q", Mode::kStart), "/b?q");
  EXPECT_EQ(apply(regex("^/a", ""), "/a", Mode::kStart), "/");
}

TEST(Rewrite, AQueryInTheReplacementComesFirst) {
  const PathConfig config{.replacement = "/x?a=1"};
  EXPECT_EQ(apply(config, "/y?b=2", Mode::kWhole), "/x?a=1&b=2");
  EXPECT_EQ(apply(config, "/y", Mode::kWhole), "/x?a=1");
}

TEST(Rewrite, GrowthIsBounded) {
  const std::string slashes(60000, '/');
  EXPECT_EQ(apply({.literal = "/", .replacement = "/0123456789"}, slashes, Mode::kLiteral), "too long");
  EXPECT_EQ(apply(regex("/|x", "/0123456789"), slashes, Mode::kRegex), "too long");
  EXPECT_EQ(apply({.prefix = "/", .replacement = "/" + std::string(70000, 'a')}, "/x", Mode::kPrefix), "too long");
  FakeContext context;
  context.target(slashes);
  context.create(make("rewrite", "{path: {literal: /, replacement: /0123456789}}"));
  EXPECT_FALSE(context.run_request());
  EXPECT_EQ(context.reply_status(), 414);
}

TEST(Rewrite, KeepsTheOriginalsInFields) {
  FakeContext context;
  context.target("/p/y?q=1");
  const FactoryPointer factory = make("rewrite", "{host: up.example, path: {prefix: /p, replacement: /x}}");
  ASSERT_NE(context.create(factory), nullptr);
  EXPECT_TRUE(context.run_request());
  EXPECT_EQ(context.request().path, "/x/y?q=1");
  EXPECT_EQ(context.request().authority, "up.example");
  EXPECT_EQ(FakeContext::lines(context.request().headers),
            "x-envoy-original-path: /p/y?q=1\nx-envoy-original-host: foo.example\n");
  // Another rewrite doesn't forget what the client asked for.
  context.finish();
  context.create(make("rewrite", "{host: z.example, path: {replacement: /z}}"));
  context.run_request();
  EXPECT_EQ(context.request().path, "/z?q=1");
  EXPECT_EQ(context.request().headers.get("x-envoy-original-path"), "/p/y?q=1");
  EXPECT_EQ(context.request().headers.get("x-envoy-original-host"), "foo.example");
}

TEST(Rewrite, AnUnchangedPathLeavesNoTrace) {
  FakeContext context;
  context.target("/other");
  context.create(make("rewrite", "{path: {prefix: /p, replacement: /x}}"));
  context.run_request();
  EXPECT_TRUE(context.request().headers.empty());
  FakeContext star;
  star.method("OPTIONS").target("*");
  star.create(make("rewrite", "{path: {replacement: /x}}"));
  EXPECT_TRUE(star.run_request());
  EXPECT_EQ(star.request().path, "*");
}

TEST(Rewrite, NothingToDoMeansNoFilter) {
  FakeContext context;
  EXPECT_EQ(context.create(make("rewrite", "{}")), nullptr);
}

TEST(Rewrite, MalformedConfigurations) {
  EXPECT_EQ(error("rewrite", "{path: {regex: \"a(\", replacement: /x}}")
                .find("path.regex: \"a(\" is not a regular expression"),
            0u);
  EXPECT_EQ(error("rewrite", R"x({path: {regex: "/(a)", replacement: "/\\2"}})x"),
            "path.replacement: \\2 refers to a group that the regex doesn't have");
  EXPECT_NE(error("rewrite", R"x({path: {regex: "/(a)", replacement: "/\\q"}})x"), "");
  EXPECT_NE(error("rewrite", R"x({path: {regex: "/(a)", replacement: "/\\"}})x"), "");
  EXPECT_EQ(error("rewrite", "{path: {regex: a, literal: b}}"),
            "path: only one of regex, literal and prefix can be given");
  EXPECT_EQ(error("rewrite", "{path: {prefix: p, replacement: /x}}"), "path.prefix: \"p\" must begin with '/'");
  EXPECT_EQ(error("rewrite", "{path: {replacement: x}}"), "path.replacement: \"x\" must begin with '/'");
  EXPECT_NE(error("rewrite", "{path: {replacement: \"/a b\"}}"), "");
  EXPECT_NE(error("rewrite", "{path: {replacement: \"/a\r\nb\"}}"), "");
  EXPECT_NE(error("rewrite", "{host: \"a/b\"}"), "");
  EXPECT_EQ(error("rewrite", "{paths: {}}"), "paths: unknown field; did you mean path?");
}

}  // namespace
}  // namespace sluice::plugins
