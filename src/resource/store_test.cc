#include "resource/store.h"

#include <gtest/gtest.h>

#include <random>

namespace sluice::resource {
namespace {

ParsedFile file(const std::string& name, std::string_view text) {
  return parse_manifests(text, std::make_shared<const std::string>(name));
}

std::string map(const std::string& name, const std::string& value) {
  return "---\n{kind: ConfigMap, apiVersion: v1, metadata: {name: " + name + "}, data: {k: '" + value + "'}}\n";
}
const std::string kBad = "---\n{kind: ConfigMap, apiVersion: v1, metadata: {name: a}, data: 5}\n";

struct Fixture : ::testing::Test {
  std::string apply(const std::string& name, const std::string& text) {
    Changes changes;
    store.apply(file(name, text), changes);
    return show(changes);
  }
  std::string remove(const std::string& name) {
    Changes changes;
    store.remove(name, changes);
    return show(changes);
  }
  static std::string value(const ObjectPtr& object) {
    return object ? as<ConfigMap>(object)->data.at(0).value : std::string("-");
  }
  static std::string show(const Changes& changes) {
    std::string out;
    for (const Change& c : changes)
      out += (out.empty() ? "" : " ") + c.key.name + ":" + value(c.before) + ">" + value(c.after);
    return out;
  }
  std::string get(const std::string& name) { return value(store.find({Kind::kConfigMap, "default", name})); }
  Store store;
};
using StoreTest = Fixture;

TEST_F(StoreTest, UpsertAndDelete) {
  EXPECT_EQ(apply("f", map("a", "1") + map("b", "1")), "a:->1 b:->1");
  EXPECT_EQ(apply("f", map("a", "1") + map("b", "1")), "");
  EXPECT_EQ(apply("f", map("a", "2") + map("b", "1")), "a:1>2");
  EXPECT_EQ(apply("f", map("a", "2")), "b:1>-");
  EXPECT_EQ(remove("f"), "a:2>-");
  EXPECT_EQ(store.size(), 0u);
}

TEST_F(StoreTest, BadObjectKeepsItsLastVersion) {
  apply("f", map("a", "1") + map("b", "1"));
  EXPECT_EQ(apply("f", kBad + map("b", "2")), "b:1>2");
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ(store.diagnostics("f").size(), 1u);
  EXPECT_EQ(apply("f", map("a", "3") + map("b", "2")), "a:1>3");
  EXPECT_TRUE(store.diagnostics("f").empty());
  EXPECT_EQ(apply("g", kBad), "");
}

TEST_F(StoreTest, SyntaxErrorKeepsTheFile) {
  apply("f", map("a", "1") + map("b", "1"));
  EXPECT_EQ(apply("f", map("a", "2") + "{"), "");
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ(store.diagnostics("f").size(), 1u);
  Changes changes;
  store.apply(unreadable_file(std::make_shared<std::string>("f"), "cannot be read: Permission denied"), changes);
  EXPECT_TRUE(changes.empty());
  EXPECT_EQ(store.diagnostics()[0].render(), "f: cannot be read: Permission denied");
  EXPECT_EQ(apply("f", map("a", "2")), "a:1>2 b:1>-");
}

TEST_F(StoreTest, UnidentifiedObjectKeepsWhatIsMissing) {
  apply("f", map("a", "1") + map("b", "1"));
  EXPECT_EQ(apply("f", map("a", "2") + "---\n{kind: ConfigMap, apiVersion: v1, metadata: {nmae: b}}"), "a:1>2");
  EXPECT_EQ(get("b"), "1");
}

TEST_F(StoreTest, DuplicatesAcrossFiles) {
  EXPECT_EQ(apply("m", map("a", "m")), "a:->m");
  EXPECT_EQ(apply("z", map("a", "z")), "");
  EXPECT_EQ(store.diagnostics("z")[0].render(),
            "z:2:1: ConfigMap default/a: is defined in m too; that one is in force, this one is ignored");
  EXPECT_TRUE(store.diagnostics("m").empty());
  EXPECT_EQ(apply("c", map("a", "c")), "a:m>c");
  EXPECT_EQ(apply("m", map("a", "m2")), "");
  EXPECT_EQ(remove("c"), "a:c>m2");
  EXPECT_EQ(remove("m"), "a:m2>z");
  EXPECT_TRUE(store.diagnostics().empty());
}

TEST_F(StoreTest, DuplicateInOneFile) {
  EXPECT_EQ(apply("f", map("a", "1") + map("a", "2")), "a:->1");
  EXPECT_EQ(store.diagnostics("f")[0].render(),
            "f:4:1: ConfigMap default/a: is defined earlier in this file; this one is ignored");
}

TEST_F(StoreTest, UnknownKindsAreToldOnce) {
  apply("f", "{kind: Pod, apiVersion: v1}\n---\n{kind: Pod, apiVersion: v1}\n");
  apply("g", "{kind: Pod, apiVersion: v1}\n---\n{kind: Job, apiVersion: batch/v1}\n");
  auto all = store.diagnostics();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].render(),
            "f:1:1: info: kind Pod (v1) is not read by this gateway; objects of this kind are skipped");
  EXPECT_EQ(all[1].severity, Severity::kInfo);
  EXPECT_EQ(count_errors(all), 0u);
}

TEST_F(StoreTest, RemoveUnder) {
  apply("d/a", map("a", "1"));
  apply("d/s/b", map("b", "1"));
  apply("d2/c", map("c", "1"));
  Changes changes;
  store.remove_under("d/", changes);
  EXPECT_EQ(show(changes), "a:1>- b:1>-");
  EXPECT_EQ(store.files(), std::vector<std::string>{"d2/c"});
}

// The store in force is always what a fresh store says that got the same files.
TEST_F(StoreTest, RandomChangesEqualFreshStore) {
  std::mt19937 random(7);
  std::map<std::string, std::string> files;
  std::map<std::string, std::string> in_force;
  for (int step = 0; step < 3000; ++step) {
    std::string name = std::string("f") + static_cast<char>('0' + random() % 5);
    Changes changes;
    if (random() % 4 == 0) {
      files.erase(name);
      store.remove(name, changes);
    } else {
      std::string text;
      for (size_t n = random() % 4; n > 0; --n) {
        text += map(std::string(1, static_cast<char>('a' + random() % 5)), std::to_string(random() % 3));
      }
      files[name] = text;
      store.apply(file(name, text), changes);
    }
    for (const Change& change : changes) {
      EXPECT_EQ(in_force.contains(change.key.name), change.before != nullptr);
      if (change.after) {
        in_force[change.key.name] = value(change.after);
      } else {
        in_force.erase(change.key.name);
      }
    }
    Store fresh;
    Changes ignored;
    for (const auto& [f, text] : files) fresh.apply(file(f, text), ignored);
    std::map<std::string, std::string> want;
    fresh.for_each([&](const ObjectPtr& object) { want[object->meta.name] = value(object); });
    ASSERT_EQ(in_force, want);
    ASSERT_EQ(store.size(), want.size());
  }
}

}  // namespace
}  // namespace sluice::resource
