// The documentation says what the schemas say. To write it anew: SLUICE_WRITE_DOCS=1 plugins_test
// --gtest_filter='Docs.*'

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "plugins/registry.h"
#include "plugins/schema.h"

namespace sluice::plugins {
namespace {

std::filesystem::path plugins_dir() { return std::filesystem::path(SLUICE_SOURCE_DIR) / "src/plugins"; }
bool writing() { return std::getenv("SLUICE_WRITE_DOCS") != nullptr; }

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

void write_file(const std::filesystem::path& path, const std::string& text) { std::ofstream(path) << text; }

std::string directory_of(std::string_view plugin) {
  std::string out(plugin);
  std::replace(out.begin(), out.end(), '-', '_');
  return out;
}

// Where the field table of a README begins and ends.
std::pair<size_t, size_t> table_of(const std::string& text) {
  const size_t begin = text.find("| Field | Type | Default | Meaning |");
  if (begin == std::string::npos) return {text.size(), text.size()};
  const size_t end = text.find("\n\n", begin);
  return {begin, end == std::string::npos ? text.size() : end + 1};
}

TEST(Docs, FieldTableOfEachReadmeIsTheSchemas) {
  for (const Plugin& plugin : all()) {
    ASSERT_NE(plugin.schema, nullptr) << plugin.name;
    const auto path = plugins_dir() / directory_of(plugin.name) / "README.md";
    std::string text = read_file(path);
    auto [begin, end] = table_of(text);
    ASSERT_LT(begin, end) << path << " has no field table";
    const std::string table = plugin.schema().markdown();
    if (writing())
      write_file(path, text.replace(begin, end - begin, table));
    else
      EXPECT_EQ(text.substr(begin, end - begin), table) << path;
    EXPECT_EQ(text.find("# " + std::string(plugin.name) + "\n"), 0u) << path;
    EXPECT_NE(text.find("## Example"), std::string::npos) << path;
  }
}

TEST(Docs, ReferenceListsAllPlugins) {
  std::string expected =
      "# Plugins\n\nThe native plugins and their configuration. How each behaves is told in the "
      "README beside its code.\n\n"
      "| Plugin | |\n| --- | --- |\n";
  for (const Plugin& plugin : all()) {
    expected += "| [" + std::string(plugin.name) + "](#" + std::string(plugin.name) + ") | " +
                std::string(plugin.summary) + " |\n";
  }
  for (const Plugin& plugin : all()) {
    expected += "\n## " + std::string(plugin.name) + "\n\n" + std::string(plugin.summary) +
                " [Details and an example](../../src/plugins/" + directory_of(plugin.name) + "/README.md)\n\n" +
                plugin.schema().markdown();
  }
  const auto path = plugins_dir() / "../../docs/plugins/README.md";
  if (writing()) {
    std::filesystem::create_directories(path.parent_path());
    write_file(path, expected);
  } else {
    EXPECT_EQ(read_file(path), expected);
  }
}

TEST(Docs, EveryFieldIsDescribed) {
  for (const Plugin& plugin : all()) {
    for (const FieldInfo& field : plugin.schema().fields()) {
      EXPECT_FALSE(field.description.empty()) << plugin.name << " " << field.path;
      EXPECT_FALSE(field.type.empty()) << plugin.name << " " << field.path;
    }
  }
}

TEST(Registry, FindsByName) {
  EXPECT_EQ(find("cors")->name, "cors");
  EXPECT_EQ(find("corS"), nullptr);
  EXPECT_EQ(find(""), nullptr);
  EXPECT_EQ(all().size(), 18u);
}

}  // namespace
}  // namespace sluice::plugins
