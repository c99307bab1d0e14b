#include "resource/json.h"

#include <gtest/gtest.h>

namespace sluice::resource {
namespace {

std::string round_trip(std::string_view text) {
  JsonParser parser;
  const Node* root = parser.parse(text);
  if (!root) return "refused: " + parser.error();
  std::string out;
  write_json(*root, out);
  return out;
}

TEST(Json, KeepsWhatItReads) {
  for (const char* text : {"{}", "[]", "null", "true", "false", "0", "-1.50e+3", "\"\"", "\"a b\"",
                           R"({"a":[1,2,{"b":null}],"c":"\"\\"})", R"([12345678901234567,0.1,1E5])", R"({"":1})"}) {
    EXPECT_EQ(round_trip(text), text);
  }
  EXPECT_EQ(round_trip(" { \"a\" : [ 1 , 2 ] } \n"), R"({"a":[1,2]})");
  EXPECT_EQ(round_trip(R"("\u0041\ud83d\ude00\n\t")"), "\"A\xF0\x9F\x98\x80\\n\\u0009\"");
}

TEST(Json, TellsStringsFromNumbersAndBooleans) {
  JsonParser parser;
  const Node* root = parser.parse(R"({"s":"1","n":1,"b":true,"t":"true","x":null})");
  ASSERT_TRUE(root);
  EXPECT_TRUE(root->find("s")->is_string());
  EXPECT_FALSE(root->find("s")->integer());
  EXPECT_EQ(root->find("n")->integer(), 1);
  EXPECT_EQ(root->find("b")->boolean(), true);
  EXPECT_TRUE(root->find("t")->is_string());
  EXPECT_TRUE(root->find("x")->is_null());
  EXPECT_EQ(root->find("none"), nullptr);
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text :
       {"",    " ",        "{",       "[1,",      "{\"a\"}", "{\"a\":1,}", "[1 2]", "01",         "1.",
        "+1",  ".5",       "tru",     "truex",    "nul",     "nullx",      "'a'",   "{} {}",      "1 2",
        "\"a", "\"\x01\"", "\"\\x\"", "\"\xff\"", "{a:1}",   "[1]]",       "1e999", "\"\\ud800\""}) {
    const std::string result = round_trip(text);
    EXPECT_TRUE(result.starts_with("refused: is not JSON")) << text << " → " << result;
  }
}

TEST(Json, RefusesAKeyTwice) {
  EXPECT_EQ(round_trip(R"({"a":1,"a":2})"), "refused: has a key twice in one object");
  EXPECT_EQ(round_trip(R"({"a":1,"\u0061":2})"), "refused: has a key twice in one object");
  std::string many = "{";
  for (int i = 0; i < 40; ++i) many += "\"k" + std::to_string(i) + "\":1,";
  EXPECT_TRUE(round_trip(many + "\"k40\":1}").starts_with('{'));
  EXPECT_EQ(round_trip(many + "\"k7\":1}"), "refused: has a key twice in one object");
}

TEST(Json, HoldsItsLimits) {
  Limits limits;
  limits.max_depth = 3;
  limits.max_values = 5;
  limits.max_text_bytes = 1 << 20;
  JsonParser parser(limits);
  EXPECT_TRUE(parser.parse("[[[1]]]"));
  EXPECT_FALSE(parser.parse("[[[[1]]]]"));
  EXPECT_EQ(parser.error(), "is nested deeper than 3 levels");
  EXPECT_TRUE(parser.parse("[1,2,3,4]"));
  EXPECT_FALSE(parser.parse("[1,2,3,4,5]"));
  EXPECT_FALSE(parser.parse(std::string((1 << 20) + 1, ' ')));
  EXPECT_EQ(parser.error(), "is larger than 1 MiB");
  EXPECT_FALSE(parser.parse(std::string(100'000, '[')));
  EXPECT_TRUE(parser.parse("1")) << "usable again";
}

TEST(Json, WritesPlainYamlScalarsAsWhatTheyStandFor) {
  YamlStream stream("[yes, 007, +5, .5, 1.5, text, \"1\", ~, 1_0]");
  ASSERT_EQ(stream.next(), YamlStream::Next::kDocument);
  std::string out;
  write_json(stream.document(), out);
  EXPECT_EQ(out, R"([true,7,5,0.5,1.5,"text","1",null,"1_0"])");
}

}  // namespace
}  // namespace sluice::resource
