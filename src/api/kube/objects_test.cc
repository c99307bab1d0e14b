// Selectors, texts and files, and the store that is fed with them.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "api/kube/file_writer.h"
#include "api/kube/object_store.h"
#include "source/files.h"

namespace sluice::api::kube {
namespace {

TEST(LabelSelector, Matches) {
  const Labels labels = {{"app", "web"}, {"tier", "front"}};
  const auto matches = [&](const char* text) {
    const auto selector = LabelSelector::parse(text);
    EXPECT_TRUE(selector.ok()) << text;
    return selector.ok() && selector->matches(labels);
  };
  for (const char* text : {"", "app=web", "app==web", "app", "!other", "app!=db", "app in (db, web)", "other notin (a)",
                           "app=web,tier in (front),!x", "x!=y"}) {
    EXPECT_TRUE(matches(text)) << text;
  }
  for (const char* text : {"app=db", "!app", "app!=web", "app notin (web,db)", "other", "other in (a)", "app=web,x"}) {
    EXPECT_FALSE(matches(text)) << text;
  }
  for (const char* text : {"=a", "app in web", "app in (web", "app,", "app web", ",", "a=b=c"}) {
    EXPECT_FALSE(LabelSelector::parse(text).ok()) << text;
  }
}

TEST(FieldSelector, Matches) {
  EXPECT_TRUE(FieldSelector::parse("metadata.name=a,metadata.namespace!=c")->matches("b", "a"));
  EXPECT_FALSE(FieldSelector::parse("metadata.name==a,metadata.namespace!=b")->matches("b", "a"));
  EXPECT_FALSE(FieldSelector::parse("spec.foo=a").ok());
  EXPECT_FALSE(FieldSelector::parse("metadata.name").ok());
}

TEST(Yaml, ReadsBackAsWritten) {
  const Json value = {
      {"words",
       {"yes", "no", "null", "~", "1e3", "0x10", "12", "1.5", "", " a", "a ", "-", "a: b", "# c", "e1", "on", "x=y"}},
      {"texts",
       {"a\nb\n", "a\nb", "a\n\nb\n\n", "\na", "  a\nb", "tab\tin\nlines", "nel\xc2\x85x", "\x7f", "\u4e2d\u6587\nx",
        "a\r\nb", "trailing \nspace", "---\nx\n", "\xf0\x9f\x98\x80", "\xe2\x80\xa8"}},
      {"deep", {{{"a", {{"b", Json::array()}, {"c", Json::object()}}}}, Json::array({Json::array({1, 2}), nullptr})}},
      {"123", true},
      {"key: x", -7},
      {"big", 9007199254740993}};
  const auto back = parse_yaml(to_yaml(value));
  ASSERT_TRUE(back.ok()) << back.error().message << "\n" << to_yaml(value);
  EXPECT_EQ(*back, value) << to_yaml(value);
}

constexpr const char* kText =
    "# licence\n"
    "apiVersion: v1\nkind: Service\nmetadata: {name: a}   # inline\nspec: {ports: [{port: 80}]}\n"
    "--- # second\n"
    "# about b\n"
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata: {k: v} # gone when changed\n"
    "---\n"
    "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}}\n"
    "- {apiVersion: v1, kind: ConfigMap, metadata: {name: d}}\n";

TEST(ManifestText, ChangesOneDocument) {
  const auto text = ManifestText::parse(kText, false);
  ASSERT_TRUE(text.ok());
  ASSERT_EQ(text->size(), 4u);
  Json object = text->object(1);
  object["data"]["k"] = "w";
  const std::string all = kText;
  const size_t second = all.find("---"), third = all.find("---", second + 3);
  const std::string changed = *text->replaced(1, object);
  EXPECT_TRUE(changed.starts_with(all.substr(0, second) + "---\n# about b\napiVersion: v1\ndata:\n  k: w\n"))
      << changed;
  EXPECT_TRUE(changed.ends_with(all.substr(third))) << changed;
  EXPECT_EQ(*text->removed(1), all.substr(0, second) + all.substr(third));
}

TEST(ManifestText, ChangesAnItemOfAList) {
  const auto text = ManifestText::parse(kText, false);
  Json object = text->object(3);
  object["data"]["x"] = "y";
  const auto again = ManifestText::parse(*text->replaced(3, object), false);
  ASSERT_TRUE(again.ok());
  ASSERT_EQ(again->size(), 4u);
  EXPECT_EQ(again->object(3), object);
  EXPECT_EQ(again->object(2), text->object(2));
  const auto one = ManifestText::parse(*text->removed(3), false);
  ASSERT_EQ(one->size(), 3u);
  const auto none = ManifestText::parse(*one->removed(2), false);
  ASSERT_EQ(none->size(), 2u);
  EXPECT_EQ(*none->removed(1), std::string(kText).substr(0, std::string(kText).find("---")));
  EXPECT_EQ(ManifestText::parse(*none->removed(1), false)->removed(0).value(), "");
}

TEST(ManifestText, RefusesWhatItCannotTellApart) {
  const auto text = ManifestText::parse("%YAML 1.1\n---\napiVersion: v1\nkind: A\n", false);
  ASSERT_TRUE(text.ok());
  ASSERT_EQ(text->size(), 1u);
  EXPECT_FALSE(text->replaced(0, {}).ok());
  EXPECT_FALSE(ManifestText::parse("a: [\n", false).ok());
  const auto json = ManifestText::parse(R"({"apiVersion":"v1","kind":"A"})", true);
  EXPECT_TRUE(json->replaced(0, json->object(0))->starts_with("{\n"));
  EXPECT_FALSE(json->appended({}).ok());
}

class FileWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/sluice-files-XXXXXX";
    root_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  std::string read(const std::string& path) { return source::read_file(path, 1000).value(); }
  std::string root_;
};

TEST_F(FileWriterTest, ChangesWhatIsAsExpected) {
  const std::string path = root_ + "/secrets/ns/a.yaml";
  EXPECT_EQ(change_file(root_, {path, "old", "x", true}).outcome, FileResult::Outcome::kStale);
  EXPECT_EQ(change_file(root_, {path, std::nullopt, "one", true}).outcome, FileResult::Outcome::kDone);
  EXPECT_EQ(std::filesystem::status(path).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(change_file(root_, {path, std::nullopt, "two", true}).outcome, FileResult::Outcome::kStale);
  EXPECT_EQ(change_file(root_, {path, "other", "two", true}).outcome, FileResult::Outcome::kStale);
  EXPECT_EQ(read(path), "one");
  EXPECT_EQ(change_file(root_, {path, "one", "two", true}).outcome, FileResult::Outcome::kDone);
  EXPECT_EQ(read(path), "two");
  EXPECT_EQ(change_file(root_, {path, "two", std::nullopt, true}).outcome, FileResult::Outcome::kDone);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(FileWriterTest, LeavesLinksAlone) {
  std::ofstream(root_ + "/target") << "x";
  ::symlink("target", (root_ + "/link.yaml").c_str());
  const FileResult result = change_file(root_, {root_ + "/link.yaml", "x", "y", false});
  EXPECT_EQ(result.outcome, FileResult::Outcome::kFailed);
  EXPECT_EQ(result.error, root_ + "/link.yaml is not a regular file; it is not replaced");
  EXPECT_EQ(read(root_ + "/target"), "x");
}

TEST_F(FileWriterTest, RemovesLeftovers) {
  std::filesystem::create_directories(root_ + "/secrets");
  std::ofstream(root_ + "/secrets/.a.yaml.sluice-tmp") << "half";
  std::ofstream(root_ + "/secrets/a.yaml") << "whole";
  remove_leftovers(root_);
  EXPECT_FALSE(std::filesystem::exists(root_ + "/secrets/.a.yaml.sluice-tmp"));
  EXPECT_TRUE(std::filesystem::exists(root_ + "/secrets/a.yaml"));
}

class ObjectStoreTest : public testing::Test {
 protected:
  ObjectStoreTest() : store_(1000, {"default"}) {
    store_.set_listener([this](const ObjectEvent& event) {
      static constexpr const char* kTypes[] = {"+", "~", "-"};
      events_ += kTypes[static_cast<size_t>(event.type)] + event.key.ns + "/" + event.key.name + " ";
    });
  }
  void put(const char* file, const std::string& text) { store_.absorb(file, *ManifestText::parse(text, false)); }
  static std::string map(const char* name, const char* value, const char* ns = "default") {
    return std::string("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ") + name + ", namespace: " + ns +
           "}\ndata: {k: " + value + "}\n---\n";
  }
  std::string events() { return std::exchange(events_, {}); }
  const StoredObject* find(const char* name) {
    return store_.find({find_kind("", "v1", "configmaps"), "default", name});
  }

  ObjectStore store_;
  std::string events_;
};

TEST_F(ObjectStoreTest, TellsChangesOnce) {
  put("a.yaml", map("x", "v") + map("y", "v"));
  EXPECT_EQ(events(), "+default/x +default/y ");
  put("a.yaml", "# a comment\n" + map("x", "v") + map("y", "w"));
  EXPECT_EQ(events(), "~default/y ");
  put("a.yaml", map("y", "w"));
  EXPECT_EQ(events(), "-default/x ");
  store_.remove("a.yaml");
  EXPECT_EQ(events(), "-default/y ");
  put("a.yaml", map("x", "v", "other"));
  EXPECT_EQ(events(), "+other/x +/other ");
}

TEST_F(ObjectStoreTest, FirstFileByNameWins) {
  put("b.yaml", map("x", "b"));
  put("a.yaml", map("x", "a"));
  EXPECT_EQ(find("x")->file, "a.yaml");
  EXPECT_EQ(events(), "+default/x ~default/x ");
  put("c.yaml", map("x", "c"));
  EXPECT_EQ(events(), "");
  store_.remove("a.yaml");
  EXPECT_EQ(find("x")->file, "b.yaml");
  EXPECT_EQ(events(), "~default/x ");
}

TEST_F(ObjectStoreTest, VersionsGrowPastThoseInFiles) {
  put("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, resourceVersion: \"5000\"}\n");
  EXPECT_GT(find("x")->version, 5000u);
  const uint64_t before = find("x")->version;
  put("a.yaml", map("x", "v"));
  EXPECT_GT(find("x")->version, before);
  size_t told = 0;
  EXPECT_TRUE(store_.replay(before, [&](const ObjectEvent&) { ++told; }));
  EXPECT_EQ(told, 1u);
  EXPECT_FALSE(store_.replay(1, [&](const ObjectEvent&) {}));
  EXPECT_FALSE(store_.replay(store_.version() + 1, [&](const ObjectEvent&) {}));
}

TEST_F(ObjectStoreTest, NormalizesObjects) {
  Json ingress =
      Json::parse(R"({"apiVersion":"extensions/v1beta1","kind":"Ingress","metadata":{"name":"i","annotations":{"n":1}},
    "spec":{"rules":[{"http":{"paths":[{"path":"/","backend":{"serviceName":"s","servicePort":80}}]}}]}})");
  ObjectKey key;
  ASSERT_TRUE(normalize(ingress, key));
  EXPECT_EQ(ingress["apiVersion"], "networking.k8s.io/v1");
  EXPECT_EQ(ingress["metadata"]["annotations"]["n"], "1");
  EXPECT_EQ(ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"],
            Json::parse(R"({"service":{"name":"s","port":{"number":80}}})"));
  Json secret = Json::parse(R"({"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"stringData":{"a":"b"}})");
  ASSERT_TRUE(normalize(secret, key));
  EXPECT_EQ(secret["data"]["a"], "Yg==");
  EXPECT_FALSE(secret.contains("stringData"));
  EXPECT_EQ(Json::parse(with_version(*key.kind, text_of_object(*key.kind, secret), 7))["metadata"]["resourceVersion"],
            "7");
  Json other = Json::parse(R"({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"s"}})");
  EXPECT_FALSE(normalize(other, key));
}

}  // namespace
}  // namespace sluice::api::kube
