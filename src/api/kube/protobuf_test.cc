#include "api/kube/protobuf.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/protobuf.h"

namespace sluice::api::kube {
namespace {

using Writer = ProtobufWriter;

std::string envelope(const std::string& raw, std::string_view version = "v1", std::string_view kind = "ConfigMap") {
  std::string out("k8s\0", 4);
  Writer writer(out);
  writer.message(1, [&](Writer& type) {
    type.bytes(1, version);
    type.bytes(2, kind);
  });
  writer.bytes(2, raw);
  writer.bytes(3, "");
  writer.bytes(4, "");
  return out;
}

const KindInfo& kind(std::string_view name) {
  for (const KindInfo& info : kinds()) {
    if (info.kind == name) return info;
  }
  return kinds()[0];
}

TEST(Protobuf, LeavesOutWhatTheSenderLeftEmpty) {
  std::string raw;
  Writer writer(raw);
  writer.message(1, [](Writer& metadata) {
    metadata.bytes(1, "web");
    metadata.bytes(2, "");
    metadata.varint(7, 0);
    metadata.message(8, [](Writer&) {});
    metadata.message(11, [](Writer& entry) {
      entry.bytes(1, "app");
      entry.bytes(2, "a");
    });
  });
  writer.message(2, [](Writer& spec) {
    spec.message(1, [](Writer& port) {
      port.bytes(1, "http");
      port.varint(3, 80);
      port.message(4, [](Writer& target) {
        target.varint(1, 1);
        target.varint(2, 0);
        target.bytes(3, "web");
      });
      port.varint(5, 0);
    });
    spec.varint(13, 0);
    spec.varint(20, 0);  // a pointer: false is told
    spec.bytes(99, "of a later version");
  });
  writer.message(3, [](Writer& status) { status.message(1, [](Writer&) {}); });
  const auto object = object_from_protobuf(kind("Service"), envelope(raw, "v1", "Service"));
  ASSERT_TRUE(object.ok()) << object.error().message;
  EXPECT_EQ(*object, Json::parse(R"({"apiVersion": "v1", "kind": "Service",
      "metadata": {"name": "web", "labels": {"app": "a"}},
      "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "web"}],
               "allocateLoadBalancerNodePorts": false}})"));
}

TEST(Protobuf, BytesAreBase64AndTimesRfc3339) {
  std::string raw;
  Writer writer(raw);
  writer.message(1, [](Writer& metadata) { metadata.message(8, [](Writer& time) { time.varint(1, 86'400); }); });
  writer.message(2, [](Writer& entry) {
    entry.bytes(1, "k");
    entry.bytes(2, "\xff\x01");
  });
  const auto object = object_from_protobuf(kind("Secret"), envelope(raw, "v1", "Secret"));
  ASSERT_TRUE(object.ok());
  EXPECT_EQ((*object)["data"]["k"], "/wE=");
  EXPECT_EQ((*object)["metadata"]["creationTimestamp"], "1970-01-02T00:00:00Z");
}

TEST(Protobuf, RefusesWhatIsMalformed) {
  std::string good;
  Writer(good).message(1, [](Writer& metadata) { metadata.bytes(1, "a"); });
  const KindInfo& info = kind("ConfigMap");
  const std::string whole = envelope(good);
  ASSERT_TRUE(object_from_protobuf(info, whole).ok());
  EXPECT_FALSE(object_from_protobuf(info, "").ok());
  EXPECT_FALSE(object_from_protobuf(info, "{}").ok());
  EXPECT_FALSE(object_from_protobuf(info, whole.substr(4)).ok());
  for (size_t size = 5; size < whole.size(); ++size) {
    // Cut between two fields it is still a message, though without what was in the rest.
    const auto cut = object_from_protobuf(info, whole.substr(0, size));
    EXPECT_TRUE(!cut.ok() || !cut->contains("metadata") || size >= whole.size() - 4) << size;
  }
  std::string text;
  Writer(text).message(1, [](Writer& metadata) { metadata.bytes(1, "\xc0\x80"); });
  EXPECT_FALSE(object_from_protobuf(info, envelope(text)).ok());
  std::string number;
  Writer(number).message(1, [](Writer& metadata) { metadata.varint(1, 7); });
  EXPECT_FALSE(object_from_protobuf(info, envelope(number)).ok());
  std::string many;
  for (size_t i = 0; i <= kMaxProtobufValues; ++i) Writer(many).varint(4, 1);
  EXPECT_FALSE(object_from_protobuf(info, envelope(many)).ok());
  EXPECT_FALSE(object_from_protobuf(kind("McpBridge"), whole).ok());
}

TEST(Protobuf, DeleteOptions) {
  std::string raw;
  Writer writer(raw);
  writer.message(2, [](Writer& conditions) { conditions.bytes(1, "u"); });
  writer.bytes(5, "All");
  const auto options = delete_options_from_protobuf(envelope(raw, "v1", "DeleteOptions"));
  ASSERT_TRUE(options.ok());
  EXPECT_EQ((*options)["preconditions"]["uid"], "u");
  EXPECT_EQ((*options)["dryRun"], Json::array({"All"}));
}

}  // namespace
}  // namespace sluice::api::kube
