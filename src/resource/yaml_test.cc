#include "resource/yaml.h"

#include <gtest/gtest.h>

#include <random>

namespace sluice::resource {
namespace {

// The documents of a text in a compact notation, or "line:column: message".
std::string show(const Node& node) {
  std::string out;
  switch (node.kind()) {
    case Node::Kind::kNull:
      return "~";
    case Node::Kind::kScalar:
      return node.is_quoted() ? "'" + std::string(node.text()) + "'" : std::string(node.text());
    case Node::Kind::kSequence:
      for (const Node& item : node.items()) out += (out.empty() ? "" : ",") + show(item);
      return "[" + out + "]";
    case Node::Kind::kMapping:
      for (const Member& member : node.members()) {
        out += (out.empty() ? "" : ",") + std::string(member.key) + ":" + show(member.value);
      }
      return "{" + out + "}";
  }
  return "?";
}

std::string parse(std::string_view text, const Limits& limits = {}) {
  YamlStream stream(text, limits);
  std::string out;
  for (;;) {
    switch (stream.next()) {
      case YamlStream::Next::kEnd:
        return out;
      case YamlStream::Next::kError:
        return std::to_string(stream.error().mark.line) + ":" + std::to_string(stream.error().mark.column) + ": " +
               stream.error().message;
      case YamlStream::Next::kDocument:
        out += (out.empty() ? "" : "|") + show(stream.document());
    }
  }
}

TEST(Yaml, Values) {
  struct Case {
    const char* text;
    const char* want;
  } cases[] = {
      {"", ""},
      {"# only a comment\n", ""},
      {"a: 1", "{a:1}"},
      {"a: '1'", "{a:'1'}"},
      {"a: \"1\"", "{a:'1'}"},
      {"a:\nb: ~\nc: null", "{a:~,b:~,c:~}"},
      {"- 1\n- [2, 3]\n- {x: y}", "[1,[2,3],{x:y}]"},
      {"a: |\n  x\n  y\n", "{a:'x\ny\n'}"},
      {"a: >-\n  x\n  y\n", "{a:'x y'}"},
      {"a: !!str 12", "{a:'12'}"},
      {"--- 1\n---\n--- 2\n", "1|~|2"},
      {"a: 1\n...\n", "{a:1}"},
      {"\xEF\xBB\xBF"
       "a: 1",
       "{a:1}"},
      {"a: 1\r\nb: 2\r\n", "{a:1,b:2}"},
      {"{\"a\":1,\"b\":[true,null],\t\"c\":{}}", "{a:1,b:[true,~],c:{}}"},
      {"{\"a\": \"\\u00e9\\n\\/\"}", "{a:'\xC3\xA9\n/'}"},
      {"{\"a\": \"\\ud83d\\ude00\"}", "{a:'\xF0\x9F\x98\x80'}"},
      {"{\"a\": \"\\\\ud83d\"}", "{a:'\\ud83d'}"},
      {"a: &x [1, 2]\nb: *x", "{a:[1,2],b:[1,2]}"},
      {"a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3", "{a:{k:1,l:2},b:{l:3,k:1}}"},
      {"b:\n  <<: [{k: 1}, {k: 2, m: 3}]", "{b:{k:1,m:3}}"},
      {"&k a: 1\n", "{a:1}"},
  };
  for (const Case& c : cases) EXPECT_EQ(parse(c.text), c.want) << c.text;
}

TEST(Yaml, Errors) {
  struct Case {
    const char* text;
    const char* want;
  } cases[] = {
      {"a: [1",
       "2:1: syntax error: did not find expected ',' or ']' while parsing a flow sequence that "
       "begins at line 1"},
      {"a:\n\t- 1", "2:1: syntax error: a tab cannot be used for indentation; use spaces"},
      {"a: 1\nb: 2\na: 3", "3:1: the key \"a\" is here twice, first at line 1"},
      {"a: *x", "1:4: unknown alias *x"},
      {"a: &x [*x]", "1:8: unknown alias *x"},
      {"[a]: 1", "1:1: a key must be a string"},
      {"{a: 1}: 1", "1:1: a key must be a string"},
      {"a: b: c", "1:5: syntax error: mapping values are not allowed in this context"},
      {"b:\n  <<: [1]", "2:8: a merge key (<<) needs a mapping or a list of mappings"},
  };
  for (const Case& c : cases) EXPECT_EQ(parse(c.text), c.want) << c.text;
  EXPECT_NE(parse("a: \xff\xfe").find("1:4: syntax error: "), std::string::npos) << parse("a: \xff\xfe");
}

TEST(Yaml, ManyKeysAreCheckedForDuplicates) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "k" + std::to_string(i) + ": 1\n";
  EXPECT_EQ(parse(text + "k500: 2\n"), "1001:1: the key \"k500\" is here twice, first at line 501");
}

TEST(Yaml, Limits) {
  Limits limits;
  limits.max_text_bytes = 3u << 20;
  EXPECT_EQ(parse(std::string((3u << 20) + 1, '#'), limits), "1:1: the file is larger than 3 MiB");
  EXPECT_EQ(parse(std::string(65, '[') + std::string(65, ']')), "1:65: nested deeper than 64 levels");
  EXPECT_EQ(parse(std::string(64, '[') + std::string(64, ']')), std::string(64, '[') + std::string(64, ']'));
  limits.max_documents = 3;
  EXPECT_EQ(parse("--- 1\n--- 2\n--- 3\n", limits), "1|2|3");
  EXPECT_EQ(parse("--- 1\n--- 2\n--- 3\n--- 4\n", limits), "4:1: more than 3 documents in one file");
}

TEST(Yaml, BillionLaughs) {
  std::string text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 20; ++i) {
    std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int j = 0; j < 10; ++j) text += (j ? ", " : "") + before;
    text += "]\n";
  }
  EXPECT_NE(parse(text).find("the document holds more than 1000000 values (aliases expanded)"), std::string::npos);
}

TEST(Yaml, Marks) {
  YamlStream stream("a: 1\nb:\n  - x\n  - y: z\n");
  ASSERT_EQ(stream.next(), YamlStream::Next::kDocument);
  const Node* b = stream.document().find("b");
  ASSERT_TRUE(b);
  EXPECT_EQ(b->items()[1].find("y")->mark().line, 4u);
  EXPECT_EQ(b->items()[1].find("y")->mark().column, 8u);
}

TEST(Yaml, Scalars) {
  YamlStream stream(
      "{i: 12, n: -3, p: +4, f: 1.5, b: yes, s: text, q: '12', x: 0x10, e: 1e3, big: "
      "99999999999999999999}");
  ASSERT_EQ(stream.next(), YamlStream::Next::kDocument);
  const Node& d = stream.document();
  EXPECT_EQ(d.find("i")->integer(), 12);
  EXPECT_EQ(d.find("n")->integer(), -3);
  EXPECT_EQ(d.find("p")->integer(), 4);
  EXPECT_EQ(d.find("f")->number(), 1.5);
  EXPECT_EQ(d.find("b")->boolean(), true);
  EXPECT_TRUE(d.find("s")->is_string());
  EXPECT_TRUE(d.find("q")->is_string());
  EXPECT_FALSE(d.find("q")->integer());
  EXPECT_FALSE(d.find("x")->integer());
  EXPECT_EQ(d.find("e")->number(), 1000);
  EXPECT_FALSE(d.find("big")->integer());
}

// Whatever the bytes are, parsing ends with documents or with an error, and never reads out of
// bounds.
TEST(Yaml, RandomBytes) {
  std::mt19937 random(1);
  const std::string_view pieces[] = {"a",   ": ", "\n",    "- ",     "[",    "]",       "{",   "}",
                                     "&x ", "*x", "<<: ",  "'",      "\"",   "\\ud83d", "|\n", "  ",
                                     "\t",  "#",  "---\n", "!!str ", "\xff", "? ",      ",",   "\xEF\xBB\xBF"};
  for (int i = 0; i < 20000; ++i) {
    std::string text;
    for (size_t n = random() % 24; n > 0; --n) text += pieces[random() % std::size(pieces)];
    parse(text);
  }
}

}  // namespace
}  // namespace sluice::resource
