#include "proxy/stats.h"

#include <gtest/gtest.h>
#include <re2/re2.h>

#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace sluice::proxy {
namespace {

TEST(Histogram, BucketsHoldTheirUpperBound) {
  const struct {
    uint64_t us;
    size_t bucket;
  } cases[] = {{0, 0},
               {500, 0},
               {501, 1},
               {1000, 1},
               {1001, 2},
               {10'000, 4},
               {1'800'000'000, 17},
               {1'800'000'001, 18},
               {UINT64_MAX / 4, 18}};
  for (const auto& c : cases) {
    Histogram h;
    h.record(c.us);
    for (size_t i = 0; i < h.counts.size(); ++i) EXPECT_EQ(h.counts[i], i == c.bucket ? 1u : 0u) << c.us;
    EXPECT_EQ(h.sum_us, c.us);
  }
}

TEST(ResponseStats, ClassesAndMerge) {
  ResponseStats a, b;
  for (int status : {0, 101, 200, 204, 301, 404, 503, 599, 999, -1}) a.record(status, 1000);
  EXPECT_EQ(a.by_class, (std::array<uint64_t, 6>{2, 1, 2, 1, 1, 3}));
  b.record(200, 5000);
  b.bytes_sent = 7;
  a.merge(b);
  EXPECT_EQ(a.by_class[2], 3u);
  EXPECT_EQ(a.bytes_sent, 7u);
  EXPECT_EQ(a.latency.sum_us, 10 * 1000u + 5000);
}

WorkerStats example(uint64_t n) {
  WorkerStats s;
  s.http.connections_total = n;
  s.http.connections_active = static_cast<int64_t>(n) - 1;
  s.http.connections_refused = n + 1;
  s.http.requests_http1 = n + 2;
  s.http.requests_http2 = n + 3;
  s.http.refused_requests = n + 4;
  s.https.tls_handshakes = n + 5;
  s.https.tls_failures = n + 6;
  s.active_exchanges = static_cast<int64_t>(n);
  s.access_log_dropped = n;
  s.block_bytes_in_use = n;
  s.block_bytes_free = n;
  s.routes.at(1).record(200, 700);
  s.routes.at(100).record(500, 10'000'000);
  ClusterStats& c = s.cluster("outbound|80||a");
  c.record(0, 1);
  c.retries = n;
  c.connect_failures = n;
  c.resets = n;
  c.timeouts = n;
  c.overflows = n;
  c.no_healthy = n;
  return s;
}

TEST(WorkerStats, MergeAddsEverything) {
  WorkerStats total;
  total.merge(example(10));
  total.merge(example(20));
  EXPECT_EQ(total.http.connections_total, 30u);
  EXPECT_EQ(total.http.connections_active, 28);
  EXPECT_EQ(total.http.connections_refused, 32u);
  EXPECT_EQ(total.http.requests_http1, 34u);
  EXPECT_EQ(total.http.requests_http2, 36u);
  EXPECT_EQ(total.http.refused_requests, 38u);
  EXPECT_EQ(total.https.tls_handshakes, 40u);
  EXPECT_EQ(total.https.tls_failures, 42u);
  EXPECT_EQ(total.active_exchanges, 30);
  EXPECT_EQ(total.access_log_dropped, 30u);
  EXPECT_EQ(total.block_bytes_in_use, 30u);
  EXPECT_EQ(total.routes.at(1).by_class[2], 2u);
  const ClusterStats& c = total.cluster("outbound|80||a");
  EXPECT_EQ(c.retries + c.connect_failures + c.resets + c.timeouts + c.overflows + c.no_healthy, 6 * 30u);
  EXPECT_EQ(c.by_class[0], 2u);
}

TEST(WorkerStats, NamesAreBounded) {
  WorkerStats s;
  for (size_t i = 0; i < WorkerStats::kMaxNames + 10; ++i) s.cluster(std::to_string(i)).record(200, 1);
  EXPECT_EQ(s.clusters.size(), WorkerStats::kMaxNames + 1);
  EXPECT_EQ(s.cluster("other").by_class[2], 10u);
  EXPECT_EQ(s.cluster("0").by_class[2], 1u);
}

// Text format 0.0.4: every line is a comment or `name{labels} value`; families are contiguous, typed once, before their
// samples; buckets rise and end in +Inf, which is the count.
TEST(Prometheus, TextIsWellFormed) {
  WorkerStats total = example(5);
  for (int i = 0; i < 100; ++i) total.routes.at(1).record(200, static_cast<uint64_t>(i) * 100'000);
  config::PersistentVector<std::string> names;
  names.set(1, std::make_shared<std::string>("default/a"));
  names.set(100, std::make_shared<std::string>("x\"y\\z\nw"));
  const std::string text = to_prometheus(total, names);
  ASSERT_EQ(text.back(), '\n');
  static const RE2 sample(R"(([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?[0-9.e+]+|NaN|\+Inf))");
  static const RE2 label(R"lit(([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$))lit");
  std::set<std::string> families;
  std::string family, type;
  std::map<std::string, std::vector<uint64_t>> buckets;
  std::map<std::string, uint64_t> counts;
  std::set<std::string> unique;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    ASSERT_FALSE(line.empty());
    if (line.rfind("# HELP ", 0) == 0) {
      family = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(families.insert(family).second) << family << " twice";
      continue;
    }
    if (line.rfind("# TYPE ", 0) == 0) {
      ASSERT_EQ(line.substr(7, family.size()), family);
      type = line.substr(8 + family.size());
      EXPECT_TRUE(type == "counter" || type == "gauge" || type == "histogram") << line;
      if (type == "counter") EXPECT_EQ(family.substr(family.size() - 6), "_total");
      continue;
    }
    std::string name, labels, value;
    ASSERT_TRUE(RE2::FullMatch(line, sample, &name, &labels, &value)) << line;
    EXPECT_TRUE(unique.insert(name + "{" + labels).second) << line << " twice";
    if (type == "histogram") {
      EXPECT_TRUE(name == family + "_bucket" || name == family + "_sum" || name == family + "_count") << line;
    } else {
      EXPECT_EQ(name, family);
    }
    re2::StringPiece rest(labels);
    std::string key, text_value, others, bound;
    while (RE2::Consume(&rest, label, &key, &text_value)) {
      if (key == "le") {
        bound = text_value;
      } else {
        others += key + "=" + text_value + ";";
      }
    }
    EXPECT_TRUE(rest.empty()) << "labels of " << line;
    if (name == family + "_bucket") {
      ASSERT_FALSE(bound.empty());
      auto& list = buckets[family + others];
      const uint64_t count = std::stoull(value);
      if (!list.empty()) EXPECT_GE(count, list.back()) << line;
      list.push_back(count);
      if (bound == "+Inf") EXPECT_EQ(list.size(), kLatencyBucketsMs.size() + 1);
    }
    if (name == family + "_count" && type == "histogram") counts[family + others] = std::stoull(value);
  }
  EXPECT_GE(buckets.size(), 3u);
  for (const auto& [key, list] : buckets) EXPECT_EQ(list.back(), counts[key]) << key;
  EXPECT_NE(text.find("sluice_route_requests_total{route=\"default/a\",response_code_class=\"2xx\"} 101\n"),
            std::string::npos);
  EXPECT_NE(text.find("route=\"x\\\"y\\\\z\\nw\""), std::string::npos);
  EXPECT_NE(text.find("le=\"0.0005\""), std::string::npos);
}

TEST(Prometheus, EmptyStatsAreFine) {
  const std::string text = to_prometheus(WorkerStats(), {});
  EXPECT_NE(text.find("sluice_exchanges_active 0\n"), std::string::npos);
}

}  // namespace
}  // namespace sluice::proxy
