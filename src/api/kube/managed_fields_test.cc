#include "api/kube/managed_fields.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/kube/patch.h"

namespace sluice::api::kube {
namespace {

Json json(const char* text) { return Json::parse(text); }

// An object and what is done to it.
struct Live {
  explicit Live(const char* kind) : kind(kind) {}

  std::vector<std::string> conflicts(const char* manager, const char* configuration) const {
    std::vector<std::string> out;
    for (const auto& one : ManagedFields(metadata, kind).conflicts(manager, object, json(configuration))) {
      out.push_back(one.owner + " " + one.field);
    }
    return out;
  }
  void apply(const char* manager, const char* configuration) {
    ManagedFields managed(metadata, kind);
    Json next = object;
    ASSERT_TRUE(apply_configuration(next, json(configuration), kind).ok());
    ASSERT_TRUE(managed.apply(manager, "v1", "t", object, json(configuration), next));
    managed.store(metadata);
    object = next;
  }
  void update(const char* manager, const char* whole) {
    ManagedFields managed(metadata, kind);
    managed.update(manager, "v1", "t", object, json(whole));
    managed.store(metadata);
    object = json(whole);
  }
  // What one of the managers owns; null: nothing.
  Json owned(const std::string& manager) const {
    const Json* list = find(metadata, "managedFields");
    for (const Json& entry : list ? *list : Json::array()) {
      if (text_of(entry, "manager") == manager) return *find(entry, "fieldsV1");
    }
    return nullptr;
  }

  const char* kind;
  Json metadata = Json::object();
  Json object = Json::object();
};

TEST(ManagedFields, WhatIsNotAppliedAnyMoreGoes) {
  Live live("ConfigMap");
  live.object = json(R"({"data": {"own": "1"}})");
  live.apply("a", R"({"data": {"x": "1", "y": "1"}})");
  live.apply("b", R"({"data": {"y": "1", "z": "1"}})");
  live.apply("a", R"({"data": {"q": "1"}})");
  EXPECT_EQ(live.object, json(R"({"data": {"own": "1", "q": "1", "y": "1", "z": "1"}})")) << "y is b's too";
  live.apply("a", R"({})");
  live.apply("b", R"({})");
  EXPECT_EQ(live.object, json(R"({"data": {"own": "1"}})")) << "nobody owns it, so it stays";
  EXPECT_FALSE(live.metadata.contains("managedFields"));
  live.apply("a", R"({"spec": {"deep": {"x": 1}}})");
  live.apply("a", R"({})");
  EXPECT_EQ(live.object, json(R"({"data": {"own": "1"}})")) << "no empty objects are left";
}

TEST(ManagedFields, Conflicts) {
  Live live("ConfigMap");
  live.object = json(R"({"data": {"own": "1"}})");
  EXPECT_TRUE(live.conflicts("a", R"({"data": {"own": "2"}})").empty()) << "nobody owns it";
  live.apply("a", R"({"data": {"x": "1"}, "list": [1]})");
  EXPECT_TRUE(live.conflicts("a", R"({"data": {"x": "2"}})").empty()) << "one's own";
  EXPECT_TRUE(live.conflicts("b", R"({"data": {"x": "1", "y": "2"}})").empty()) << "the same value";
  const std::vector<std::string> want = {"\"a\" .data.x", "\"a\" .list"};
  EXPECT_EQ(live.conflicts("b", R"({"data": {"x": "2"}, "list": [2]})"), want);
  live.apply("b", R"({"data": {"x": "2"}})");  // by force
  EXPECT_EQ(live.owned("a"), json(R"({"f:list": {}})"));
  EXPECT_EQ(live.owned("b"), json(R"({"f:data": {"f:x": {}}})"));
  live.update("hand", R"({"data": {"own": "1", "x": "3"}, "list": [1]})");
  EXPECT_EQ(live.owned("b"), nullptr);
  const std::vector<std::string> by_hand = {"\"hand\" using v1 .data.x"};
  EXPECT_EQ(live.conflicts("b", R"({"data": {"x": "2"}})"), by_hand);
  live.update("hand", R"({"list": [1]})");
  EXPECT_EQ(live.owned("hand"), nullptr) << "what is gone is nobody's";
}

TEST(ManagedFields, WithoutApplyNobodyOwns) {
  Live live("ConfigMap");
  live.update("hand", R"({"data": {"x": "3"}})");
  EXPECT_FALSE(live.metadata.contains("managedFields"));
}

TEST(ManagedFields, ItemsWithKeys) {
  Live live("Service");
  live.apply("a", R"({"spec": {"ports": [{"port": 80, "name": "x"}, {"port": 81}]}})");
  live.apply("b", R"({"spec": {"ports": [{"port": 82}, {"port": 81, "name": "y"}]}})");
  EXPECT_EQ(live.owned("b"), json(R"({"f:spec": {"f:ports": {
      "k:{\"port\":82}": {".": {}, "f:port": {}}, "k:{\"port\":81}": {".": {}, "f:port": {}, "f:name": {}}}}})"));
  const std::vector<std::string> want = {"\"a\" .spec.ports[port=80].name"};
  EXPECT_EQ(live.conflicts("b", R"({"spec": {"ports": [{"port": 80, "name": "z"}]}})"), want);
  live.apply("a", R"({"spec": {"type": "ClusterIP"}})");
  EXPECT_EQ(live.object,
            json(R"({"spec": {"type": "ClusterIP", "ports": [{"port": 81, "name": "y"}, {"port": 82}]}})"));
}

TEST(ManagedFields, HostileEntries) {
  for (const char* text :
       {R"({"managedFields": 1})",
        R"({"managedFields": [{"manager": "a", "fieldsV1": {"f:spec": 7, "f:x": {"f:y": [null]}}}]})",
        R"({"managedFields": [1, {}, {"manager": "a", "fieldsV1": 3}]})",
        R"({"managedFields": [{"manager": "a", "operation": "Apply", "fieldsV1":
                              {"": {}, "f:": {}, "k:": {"x": {}}, "k:[": {}, "v:{": {}, "f:spec": {"f:ports": {"k:{}": {}}}}}]})"}) {
    Live live("Service");
    live.metadata = json(text);
    live.object = json(R"({"spec": {"ports": [{"port": 80}]}})");
    live.conflicts("b", R"({"spec": {"ports": [{"port": 81}]}})");
    live.apply("a", R"({"spec": {"ports": [{"port": 81}]}})");
    live.update("c", R"({"spec": {"ports": 7}})");
  }
}

}  // namespace
}  // namespace sluice::api::kube
