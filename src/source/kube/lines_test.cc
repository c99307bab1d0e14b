#include "source/kube/lines.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice::source::kube {
namespace {

std::vector<std::string> split(LineSplitter& lines, std::string_view text, size_t piece) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size(); at += piece) {
    EXPECT_TRUE(lines.feed(text.substr(at, piece), [&](std::string_view line) {
      out.emplace_back(line);
      return true;
    }));
  }
  return out;
}

TEST(LineSplitter, DoesNotCareWhereThePiecesEnd) {
  const std::string text = "one\n\ntwo two\nthree\n{\"a\":1}\nrest";
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    LineSplitter lines(100);
    EXPECT_EQ(split(lines, text, piece), (std::vector<std::string>{"one", "two two", "three", "{\"a\":1}"})) << piece;
    EXPECT_EQ(lines.partial(), 4u);
    lines.reset();
    EXPECT_EQ(lines.partial(), 0u);
  }
}

TEST(LineSplitter, StopsAtTheLimit) {
  LineSplitter lines(5);
  const auto any = [](std::string_view) { return true; };
  EXPECT_TRUE(lines.feed("12345\n123", any));
  EXPECT_TRUE(lines.feed("45", any));
  EXPECT_FALSE(lines.feed("6", any));
  lines.reset();
  EXPECT_FALSE(lines.feed("123456\n", any));
}

TEST(LineSplitter, StopsWhenTold) {
  LineSplitter lines(100);
  int calls = 0;
  EXPECT_FALSE(lines.feed("a\nb\nc\n", [&](std::string_view) { return ++calls < 2; }));
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace sluice::source::kube
