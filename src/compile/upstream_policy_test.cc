#include "compile/upstream_policy.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "compile/annotation_values.h"

namespace sluice::compile {
namespace {

using Pointer = std::shared_ptr<const UpstreamPolicy>;

TEST(UpstreamPolicy, FillsTheCluster) {
  Pointer policy;
  std::string error;
  ASSERT_TRUE(
      parse_upstream("health_check: {type: http, path: /h, interval_ms: 100, timeout_ms: 50}\n"
                     "outlier_detection: {consecutive_5xx: 5, max_ejection_percent: 30}\n"
                     "circuit_breaker: {max_requests: 7}\n"
                     "load_balancing: maglev\nslow_start_ms: 3000\nsend_proxy_protocol: 2\n",
                     &policy, &error))
      << error;
  config::Cluster cluster;
  policy->apply(cluster);
  EXPECT_EQ(cluster.health_check.kind, config::HealthCheck::Kind::kHttp);
  EXPECT_EQ(cluster.health_check.path, "/h");
  EXPECT_EQ(cluster.health_check.interval.count(), 100);
  EXPECT_EQ(cluster.outlier.consecutive_5xx, 5u);
  EXPECT_EQ(cluster.outlier.max_ejection_percent, 30u);
  EXPECT_EQ(cluster.circuit_breaker.max_requests, 7u);
  EXPECT_EQ(cluster.circuit_breaker.max_pending, 10000u);
  EXPECT_EQ(cluster.load_balancing, config::LoadBalancing::kMaglev);
  EXPECT_EQ(cluster.slow_start.count(), 3000);
  EXPECT_EQ(cluster.send_proxy_protocol, 2);
}

TEST(UpstreamPolicy, ErrorsNameTheField) {
  const struct {
    const char* text;
    const char* error;
  } kCases[] = {
      {"[]", "expected a map"},
      {"health_check: {type: ping}", "health_check.type"},
      {"health_check: {type: http, path: h}", "must begin with a slash"},
      {"health_check: {interval_ms: 1}", "health_check.interval_ms: 1 is not in 10.."},
      {"circuit_breaker: {max_reqests: 1}", "did you mean max_requests"},
      {"send_proxy_protocol: 3", "send_proxy_protocol"},
      {"health_check: {expected_status_min: 300, expected_status_max: 200}", "greater than"},
      {"a: [", "syntax error"},
  };
  for (const auto& test : kCases) {
    Pointer policy;
    std::string error;
    EXPECT_FALSE(parse_upstream(test.text, &policy, &error)) << test.text;
    EXPECT_NE(error.find(test.error), std::string::npos) << test.text << ": " << error;
    EXPECT_EQ(policy, nullptr);
  }
}

// The guide's table is the schema's. SLUICE_WRITE_DOCS=1 rewrites it.
TEST(UpstreamPolicy, GuideHasTheSchemasTable) {
  const auto path = std::filesystem::path(SLUICE_SOURCE_DIR) / "docs/guide/upstream.md";
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  std::string text = content.str();
  const std::string begin_mark = "compile_test asserts it -->\n";
  const size_t begin = text.find(begin_mark) + begin_mark.size();
  const size_t end = text.find("<!-- end -->", begin);
  ASSERT_NE(end, std::string::npos);
  if (std::getenv("SLUICE_WRITE_DOCS")) {
    text.replace(begin, end - begin, UpstreamPolicy::documentation());
    std::ofstream(path) << text;
    return;
  }
  EXPECT_EQ(text.substr(begin, end - begin), UpstreamPolicy::documentation());
}

}  // namespace
}  // namespace sluice::compile
