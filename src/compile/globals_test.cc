#include "compile/globals.h"

#include <gtest/gtest.h>

#include "compile/test_support.h"

namespace sluice::compile {
namespace {

using namespace test;

std::string map(const std::string& yaml, const std::string& ns = "higress-system") {
  std::string out =
      "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: higress-config, namespace: " + ns + "}\ndata:\n  higress: |\n";
  std::string line;
  for (char c : yaml + "\n") {
    if (c == '\n') {
      out += "    " + line + "\n";
      line.clear();
    } else {
      line += c;
    }
  }
  return out;
}

const config::Globals& globals(World& world) {
  world.snapshot = world.control.snapshot();
  return *world.snapshot->globals;
}

TEST(Globals, ValuesAndDefaults) {
  World world;
  EXPECT_EQ(globals(world).downstream_idle_timeout.count(), 180000);
  EXPECT_EQ(world.put("f", map("downstream:\n  idleTimeout: 7\n  maxRequestHeadersKb: 100\n  "
                               "connectionBufferLimits: 1000\n  routeTimeout: 9\n"
                               "  http2: {maxConcurrentStreams: 5, initialStreamWindowSize: 70000, "
                               "initialConnectionWindowSize: 80000}\n"
                               "upstream: {idleTimeout: 3, connectionBufferLimits: 4}\naddXRealIpHeader: true\n"
                               "disableXEnvoyHeaders: true\ngzip: {enable: false}\nunknown: 1")),
            "");
  const config::Globals& g = globals(world);
  EXPECT_EQ(g.downstream_idle_timeout.count(), 7000);
  EXPECT_EQ(g.max_request_headers_bytes, 102400u);
  EXPECT_EQ(g.downstream_buffer_limit, 1000u);
  EXPECT_EQ(g.route_timeout.count(), 9000);
  EXPECT_EQ(g.h2_max_concurrent_streams, 5u);
  EXPECT_EQ(g.h2_initial_stream_window, 70000u);
  EXPECT_EQ(g.h2_initial_connection_window, 80000u);
  EXPECT_EQ(g.upstream_idle_timeout.count(), 3000);
  EXPECT_EQ(g.upstream_buffer_limit, 4u);
  EXPECT_TRUE(g.add_x_real_ip);
  EXPECT_TRUE(g.disable_x_envoy_headers);
  EXPECT_TRUE(g.filters.empty());
  world.put("f", map("downstream: {http2: {maxConcurrentStreams: 6}}\ngzip: {enable: false}"));
  EXPECT_EQ(globals(world).h2_initial_stream_window, 65535u) << "absent keys have their defaults at any depth";
  EXPECT_EQ(globals(world).downstream_idle_timeout.count(), 180000);
}

TEST(Globals, Gzip) {
  World world;
  EXPECT_EQ(world.put("f", map("gzip: {enable: true, minContentLength: 10, contentType: "
                               "[text/html], compressionLevel: BEST_SPEED, "
                               "compressionStrategy: RLE}")),
            "");
  ASSERT_EQ(globals(world).filters.size(), 1u);
  EXPECT_EQ(globals(world).filters[0]->name(), "compression");
  world.put("f", map("upstream: {}"));
  EXPECT_EQ(globals(world).filters.size(), 1u) << "on unless it is switched off";
  world.put("f", map("gzip: {enable: false}"));
  EXPECT_TRUE(globals(world).filters.empty());
}

TEST(Globals, OneErrorRefusesTheVersion) {
  struct Case {
    const char* yaml;
    const char* want;
  } cases[] = {
      {"downstream: {idleTimeout: -1}",
       "f:6:27: ConfigMap higress-system/higress-config: data.higress: downstream.idleTimeout: -1 "
       "is not within 0 to 31536000; the previous options stay in force\n"},
      {"downstream: {maxRequestHeadersKb: 9000}", "downstream.maxRequestHeadersKb: 9000 is not within 1 to 8192"},
      {"downstream: {http2: {maxConcurrentStreams: 0}}",
       "downstream.http2.maxConcurrentStreams: 0 is not within 1 to 2147483647"},
      {"downstream: {http2: {initialStreamWindowSize: 1}}",
       "downstream.http2.initialStreamWindowSize: 1 is not within 65535 to 2147483647"},
      {"downstream: {http2: {initialConnectionWindowSize: 1}}",
       "downstream.http2.initialConnectionWindowSize: 1 is not within 65535 to 2147483647"},
      {"downstream: 5", "downstream: expected a mapping, found a number (\"5\")"},
      {"addXRealIpHeader: 5", "addXRealIpHeader: expected true or false, found a number (\"5\")"},
      {"upstream: {idleTimeout: x}", "upstream.idleTimeout: expected a whole number, found a string (\"x\")"},
      {"gzip: {minContentLength: 0}", "gzip.minContentLength: 0 is not within 1 to 2147483647"},
      {"gzip: {contentType: []}", "gzip.contentType: must not be empty"},
      {"gzip: {memoryLevel: 10}", "gzip.memoryLevel: 10 is not within 1 to 9"},
      {"gzip: {windowBits: 8}", "gzip.windowBits: 8 is not within 9 to 15"},
      {"gzip: {chunkSize: 0}", "gzip.chunkSize: 0 is not within 1 to 2147483647"},
      {"gzip: {compressionLevel: BEST}",
       "gzip.compressionLevel: \"BEST\" is not one of BEST_COMPRESSION, BEST_SPEED, "
       "DEFAULT_COMPRESSION, COMPRESSION_LEVEL_1 to _9"},
      {"gzip: {compressionStrategy: X}",
       "gzip.compressionStrategy: \"X\" is not one of DEFAULT_STRATEGY, FILTERED, HUFFMAN_ONLY, "
       "RLE, FIXED"},
      {"a: [", "data.higress: syntax error"},
      {"[]", "data.higress: expected a mapping, found a list"},
  };
  for (const Case& c : cases) {
    World world;
    world.put("f", map("upstream: {idleTimeout: 77}\ngzip: {enable: false}"));
    std::string got = world.put("f", map(c.yaml));
    EXPECT_NE(got.find(c.want), std::string::npos) << c.yaml << "\n" << got;
    EXPECT_EQ(globals(world).upstream_idle_timeout.count(), 77000) << c.yaml;
  }
}

TEST(Globals, WhatKeepsThePrevious) {
  World world;
  world.put("f", map("upstream: {idleTimeout: 77}"));
  world.put("f",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: higress-config, namespace: "
            "higress-system}\ndata: {other: x}\n");
  EXPECT_EQ(globals(world).upstream_idle_timeout.count(), 77000) << "the key is missing";
  world.remove("f");
  EXPECT_EQ(globals(world).upstream_idle_timeout.count(), 77000) << "the object is deleted";
  world.put("f", map("upstream: {idleTimeout: 5}", "default"));
  EXPECT_EQ(globals(world).upstream_idle_timeout.count(), 77000) << "another namespace";
}

TEST(Globals, UpstreamIdleTimeoutReachesClusters) {
  World world;
  world.put("i", ingress("a", "h", path("/")) + service("svc"));
  const std::string name = "outbound|80||svc.default.svc.cluster.local";
  EXPECT_EQ(world.cluster(name)->idle_timeout.count(), 10000);
  world.put("f", map("upstream: {idleTimeout: 5}"));
  EXPECT_EQ(world.cluster(name)->idle_timeout.count(), 5000);
}

TEST(Globals, MeshPathsAndClientCertificates) {
  using enum config::PathNormalization;
  using enum config::ClientCertDetails;
  World world;
  const auto mesh = [&](const std::string& yaml) {
    return world.put("f",
                     "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: higress-config, namespace: higress-system}\n"
                     "data: {mesh: '" +
                         yaml + "'}\n");
  };
  EXPECT_EQ(globals(world).path_normalization, kBase);
  EXPECT_EQ(globals(world).client_cert_details, kSanitizeSet);
  const std::pair<const char*, config::PathNormalization> paths[] = {
      {"NONE", kNone},
      {"BASE", kBase},
      {"MERGE_SLASHES", kMergeSlashes},
      {"DECODE_AND_MERGE_SLASHES", kDecodeAndMergeSlashes},
      {"DEFAULT", kBase},
  };
  for (const auto& [word, want] : paths) {
    EXPECT_EQ(mesh("pathNormalization: {normalization: " + std::string(word) + "}"), "");
    EXPECT_EQ(globals(world).path_normalization, want) << word;
  }
  const std::pair<const char*, config::ClientCertDetails> details[] = {
      {"SANITIZE", kSanitize},
      {"FORWARD_ONLY", kForwardOnly},
      {"APPEND_FORWARD", kAppendForward},
      {"ALWAYS_FORWARD_ONLY", kAlwaysForwardOnly},
      {"SANITIZE_SET", kSanitizeSet},
      {"UNDEFINED", kSanitizeSet},
  };
  for (const auto& [word, want] : details) {
    EXPECT_EQ(mesh("defaultConfig: {gatewayTopology: {forwardClientCertDetails: " + std::string(word) + "}}"), "");
    EXPECT_EQ(globals(world).client_cert_details, want) << word;
  }
  EXPECT_NE(mesh("pathNormalization: {normalization: SOME}").find("\"SOME\" is not one of DEFAULT, NONE"),
            std::string::npos);
}

}  // namespace
}  // namespace sluice::compile
