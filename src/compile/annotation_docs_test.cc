// The guide's tables are the program's, and the tables are complete.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "compile/annotations.h"

namespace sluice::compile {
namespace {

TEST(AnnotationDocs, GuideHasTheTables) {
  const auto path = std::filesystem::path(SLUICE_SOURCE_DIR) / "docs/guide/annotations.md";
  std::ifstream in(path);
  std::stringstream content;
  content << in.rdbuf();
  std::string text = content.str();
  const std::string mark = "--gtest_filter='AnnotationDocs.*' -->\n\n";
  const size_t begin = text.find(mark);
  ASSERT_NE(begin, std::string::npos);
  text.resize(begin + mark.size());
  if (std::getenv("SLUICE_WRITE_DOCS")) {
    std::ofstream(path) << text << annotations_documentation();
    return;
  }
  EXPECT_EQ(content.str(), text + annotations_documentation());
}

TEST(AnnotationDocs, NoKeyIsThereTwice) {
  std::set<std::string_view> keys;
  for (const AnnotationInfo& info : known_annotations()) EXPECT_TRUE(keys.insert(info.key).second) << info.key;
}

// All that Higress's code knows: 83 with each match family counted once, which are three rows here.
TEST(AnnotationDocs, HigressIsComplete) {
  size_t count = 0;
  for (const AnnotationInfo& info : known_annotations()) count += info.higress;
  EXPECT_GE(count, 83u + 6);
}

}  // namespace
}  // namespace sluice::compile
