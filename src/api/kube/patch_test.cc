#include "api/kube/patch.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace sluice::api::kube {
namespace {

Json json(const char* text) { return Json::parse(text); }

struct Case {
  const char* target;
  const char* patch;
  const char* result;  // null: an error
};

// RFC 6902, appendix A.
TEST(JsonPatch, Rfc6902) {
  constexpr Case kCases[] = {
      {R"({"foo":"bar"})", R"([{"op":"add","path":"/baz","value":"qux"}])", R"({"baz":"qux","foo":"bar"})"},
      {R"({"foo":["bar","baz"]})", R"([{"op":"add","path":"/foo/1","value":"qux"}])", R"({"foo":["bar","qux","baz"]})"},
      {R"({"baz":"qux","foo":"bar"})", R"([{"op":"remove","path":"/baz"}])", R"({"foo":"bar"})"},
      {R"({"foo":["bar","qux","baz"]})", R"([{"op":"remove","path":"/foo/1"}])", R"({"foo":["bar","baz"]})"},
      {R"({"baz":"qux","foo":"bar"})", R"([{"op":"replace","path":"/baz","value":"boo"}])",
       R"({"baz":"boo","foo":"bar"})"},
      {R"({"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}})",
       R"([{"op":"move","from":"/foo/waldo","path":"/qux/thud"}])",
       R"({"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}})"},
      {R"({"foo":["all","grass","cows","eat"]})", R"([{"op":"move","from":"/foo/1","path":"/foo/3"}])",
       R"({"foo":["all","cows","eat","grass"]})"},
      {R"({"baz":"qux","foo":["a",2,"c"]})",
       R"([{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}])",
       R"({"baz":"qux","foo":["a",2,"c"]})"},
      {R"({"baz":"qux"})", R"([{"op":"test","path":"/baz","value":"bar"}])", nullptr},
      {R"({"foo":"bar"})", R"([{"op":"add","path":"/child","value":{"grandchild":{}}}])",
       R"({"foo":"bar","child":{"grandchild":{}}})"},
      {R"({"foo":"bar"})", R"([{"op":"add","path":"/baz","value":"qux","xyz":123}])", R"({"foo":"bar","baz":"qux"})"},
      {R"({"foo":"bar"})", R"([{"op":"add","path":"/baz/bat","value":"qux"}])", nullptr},
      {R"({"/":9,"~1":10})", R"([{"op":"test","path":"/~01","value":10}])", R"({"/":9,"~1":10})"},
      {R"({"/":9,"~1":10})", R"([{"op":"test","path":"/~01","value":"10"}])", nullptr},
      {R"({"foo":["bar"]})", R"([{"op":"add","path":"/foo/-","value":["abc","def"]}])",
       R"({"foo":["bar",["abc","def"]]})"},
      // Beyond the appendix.
      {R"({"a":1})", R"([{"op":"copy","from":"/a","path":"/b"}])", R"({"a":1,"b":1})"},
      {R"({"a":1})", R"([{"op":"replace","path":"","value":[1]}])", "[1]"},
      {R"({"a":[1]})", R"([{"op":"add","path":"/a/2","value":1}])", nullptr},
      {R"({"a":[1]})", R"([{"op":"replace","path":"/a/-","value":1}])", nullptr},
      {R"({"a":[1]})", R"([{"op":"remove","path":"/a/01"}])", nullptr},
      {R"({"a":{}})", R"([{"op":"move","from":"/a","path":"/a/b"}])", nullptr},
      {R"({"a":1})", R"([{"op":"remove","path":"a"}])", nullptr},
      {R"({"a":1})", R"([{"op":"remove","path":"/~2"}])", nullptr},
      {R"({"a":1})", R"([{"op":"jump","path":"/a"}])", nullptr},
      {R"({"a":1})", R"([{"path":"/a"}])", nullptr},
      {R"({"a":1})", R"({"a":2})", nullptr},
  };
  for (const Case& c : kCases) {
    Json target = json(c.target);
    const Status done = apply_json_patch(target, json(c.patch));
    EXPECT_EQ(done.ok(), c.result != nullptr) << c.target << c.patch;
    if (c.result && done.ok()) EXPECT_EQ(target, json(c.result)) << c.patch;
  }
}

TEST(JsonPatch, IsBounded) {
  Json target = json(R"({"a":[1,2,3,4,5,6,7,8]})");
  Json doubling = Json::array();
  for (int i = 0; i < 60; ++i) doubling.push_back({{"op", "copy"}, {"from", ""}, {"path", "/a/-"}});
  EXPECT_FALSE(apply_json_patch(target, doubling).ok());
  Json wide = json(R"({"a":[]})");
  Json copies = Json::array({{{"op", "add"}, {"path", "/a"}, {"value", std::vector<int>(1000)}}});
  for (int i = 0; i < 1100; ++i) copies.push_back({{"op", "copy"}, {"from", "/a"}, {"path", "/b" + std::to_string(i)}});
  EXPECT_FALSE(apply_json_patch(wide, copies).ok());
}

// RFC 7386, appendix A.
TEST(MergePatch, Rfc7386) {
  constexpr Case kCases[] = {
      {R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"b"})", R"({"b":"c"})", R"({"a":"b","b":"c"})"},
      {R"({"a":"b"})", R"({"a":null})", "{}"},
      {R"({"a":"b","b":"c"})", R"({"a":null})", R"({"b":"c"})"},
      {R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"c"})", R"({"a":["b"]})", R"({"a":["b"]})"},
      {R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})", R"({"a":{"b":"d"}})"},
      {R"({"a":[{"b":"c"}]})", R"({"a":[1]})", R"({"a":[1]})"},
      {R"(["a","b"])", R"(["c","d"])", R"(["c","d"])"},
      {R"({"a":"b"})", R"(["c"])", R"(["c"])"},
      {R"({"a":"foo"})", "null", "null"},
      {R"({"a":"foo"})", R"("bar")", R"("bar")"},
      {R"({"e":null})", R"({"a":1})", R"({"e":null,"a":1})"},
      {"[1,2]", R"({"a":"b","c":null})", R"({"a":"b"})"},
      {"{}", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
  };
  for (const Case& c : kCases) {
    Json target = json(c.target);
    ASSERT_TRUE(apply_merge_patch(target, json(c.patch)).ok());
    EXPECT_EQ(target, json(c.result)) << c.patch;
  }
}

TEST(StrategicMerge, ServicePortsByPort) {
  constexpr const char* kService =
      R"({"spec":{"ports":[{"port":80,"name":"a"},{"port":443,"name":"b"}],"type":"ClusterIP"}})";
  constexpr Case kCases[] = {
      {kService, R"({"spec":{"ports":[{"port":80,"targetPort":8080}]}})",
       R"({"spec":{"ports":[{"port":80,"name":"a","targetPort":8080},{"port":443,"name":"b"}],"type":"ClusterIP"}})"},
      {kService, R"({"spec":{"ports":[{"port":80,"$patch":"delete"}],"type":null}})",
       R"({"spec":{"ports":[{"port":443,"name":"b"}]}})"},
      {kService, R"({"spec":{"ports":[{"port":8443},{"$patch":"replace"}]}})",
       R"({"spec":{"ports":[{"port":8443}],"type":"ClusterIP"}})"},
      {kService, R"({"spec":{"$setElementOrder/ports":[{"port":443},{"port":90},{"port":80}],"ports":[{"port":90}]}})",
       R"({"spec":{"ports":[{"port":443,"name":"b"},{"port":90},{"port":80,"name":"a"}],"type":"ClusterIP"}})"},
      {kService, R"({"spec":{"$patch":"replace","type":"NodePort"}})", R"({"spec":{"type":"NodePort"}})"},
      {kService, R"({"spec":{"$retainKeys":["type"]}})", R"({"spec":{"type":"ClusterIP"}})"},
      {kService, R"({"spec":{"ports":[{"name":"x"}]}})", nullptr},
      {kService, R"({"spec":{"$patch":"turn"}})", nullptr},
      {R"({"metadata":{"finalizers":["a","b"]}})",
       R"({"metadata":{"finalizers":["b","c"],"$deleteFromPrimitiveList/finalizers":["a"]}})",
       R"({"metadata":{"finalizers":["b","c"]}})"},
      // A list without a merge key is replaced.
      {R"({"spec":{"externalIPs":["1.1.1.1"]}})", R"({"spec":{"externalIPs":["2.2.2.2"]}})",
       R"({"spec":{"externalIPs":["2.2.2.2"]}})"},
  };
  for (const Case& c : kCases) {
    Json target = json(c.target);
    const Status done = apply_strategic_patch(target, json(c.patch), "Service");
    EXPECT_EQ(done.ok(), c.result != nullptr) << c.patch;
    if (c.result && done.ok()) EXPECT_EQ(target, json(c.result)) << c.patch;
  }
}

TEST(StrategicMerge, IngressListsAreReplaced) {
  Json target = json(R"({"spec":{"rules":[{"host":"a"},{"host":"b"}],"tls":[{"secretName":"x"}]}})");
  ASSERT_TRUE(apply_strategic_patch(target, json(R"({"spec":{"rules":[{"host":"c"}]}})"), "Ingress").ok());
  EXPECT_EQ(target, json(R"({"spec":{"rules":[{"host":"c"}],"tls":[{"secretName":"x"}]}})"));
}

TEST(ApplyConfiguration, TakesNullAndDollarAsTheyAre) {
  Json target = json(R"({"data":{"a":"1"}})");
  ASSERT_TRUE(apply_configuration(target, json(R"({"data":{"$patch":"delete","b":"2"}})"), "ConfigMap").ok());
  EXPECT_EQ(target, json(R"({"data":{"a":"1","b":"2","$patch":"delete"}})"));
}

}  // namespace
}  // namespace sluice::api::kube
