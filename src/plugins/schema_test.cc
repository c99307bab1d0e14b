#include "plugins/schema.h"

#include <gtest/gtest.h>

#include "plugins/testing/config_text.h"

namespace sluice::plugins {
namespace {

using testing::config;

enum class Unit { kSecond, kMinute };

struct Inner {
  std::string name;
  int64_t weight = 1;
};

struct Outer {
  int64_t requests = 10;
  Unit unit = Unit::kMinute;
  double share = 12.5;
  bool on = true;
  std::string host = "a";
  std::vector<std::string> words = {"x", "y"};
  Inner inner;
  std::vector<Inner> inners;
};

const Schema<Inner>& inner_schema() {
  static const Schema<Inner> kSchema = Schema<Inner>()
                                           .text("name", &Inner::name, "Name.", check_header_name)
                                           .required()
                                           .integer("weight", &Inner::weight, 0, 9, "Weight.", {{"MOST", 9}});
  return kSchema;
}

const Schema<Outer>& outer_schema() {
  static const Schema<Outer> kSchema =
      Schema<Outer>()
          .integer("requests_per_unit", &Outer::requests, 1, 1'000'000, "Requests.")
          .alias("requestsPerUnit")
          .choice("unit", &Outer::unit, {{"second", Unit::kSecond}, {"minute", Unit::kMinute}, {"m", Unit::kMinute}},
                  "Unit.")
          .number("share", &Outer::share, 0, 100, "A|B.")
          .boolean("on", &Outer::on, "On.")
          .text("host", &Outer::host, "Host.")
          .list("words", &Outer::words, "Words.")
          .object("inner", &Outer::inner, inner_schema(), "Inner.")
          .objects("inners", &Outer::inners, inner_schema(), "Inners.")
          .check([](const Outer& o) -> std::optional<Problem> {
            if (o.host == "bad") return Problem{"host", "is bad"};
            return std::nullopt;
          });
  return kSchema;
}

std::string error(std::string_view text) {
  auto result = outer_schema().parse(config(text));
  return result ? "" : result.error().message;
}

TEST(Schema, ReadsEveryKind) {
  auto out = outer_schema().parse(config(
      R"({requestsPerUnit: 7, unit: SECOND, share: 0.5, on: false, host: 5, words: [p, q], inner: {name: X-A, weight: most},
          inners: [{name: b}, {name: c, weight: 3}]})"));
  ASSERT_TRUE(out) << out.error().message;
  EXPECT_EQ(out->requests, 7);
  EXPECT_EQ(out->unit, Unit::kSecond);
  EXPECT_EQ(out->share, 0.5);
  EXPECT_FALSE(out->on);
  EXPECT_EQ(out->host, "5");
  EXPECT_EQ(out->words, (std::vector<std::string>{"p", "q"}));
  EXPECT_EQ(out->inner.name, "x-a");
  EXPECT_EQ(out->inner.weight, 9);
  ASSERT_EQ(out->inners.size(), 2u);
  EXPECT_EQ(out->inners[1].weight, 3);
}

TEST(Schema, KeepsDefaultsOfWhatIsAbsentOrNull) {
  for (const char* text : {"", "null", "{}", "{requests_per_unit: null, words: null}"}) {
    auto out = outer_schema().parse(config(text));
    ASSERT_TRUE(out) << out.error().message;
    EXPECT_EQ(out->requests, 10);
    EXPECT_EQ(out->words.size(), 2u);
  }
}

TEST(Schema, ReadsATextWithCommasAsList) {
  auto out = outer_schema().parse(config(R"({words: " a, b ,,c "})"));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->words, (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(outer_schema().parse(config("{words: []}"))->words.empty());
}

TEST(Schema, ErrorsNameTheFieldAndWhatWouldBeRight) {
  EXPECT_EQ(error("{requests_per_unit: 0}"), "requests_per_unit: 0 is not in 1..1000000");
  EXPECT_EQ(error("{requests_per_unit: 1000001}"), "requests_per_unit: 1000001 is not in 1..1000000");
  EXPECT_EQ(error("{requests_per_unit: 99999999999999999999}"),
            "requests_per_unit: 99999999999999999999 is not in 1..1000000");
  EXPECT_EQ(error("{requests_per_unit: 5s}"), "requests_per_unit: \"5s\" is not an integer");
  EXPECT_EQ(error("{requests_per_unit: 1.5}"), "requests_per_unit: \"1.5\" is not an integer");
  EXPECT_EQ(error("{requests_per_unit: \"5\"}"), "requests_per_unit: \"5\" is not an integer: it is in quotes");
  EXPECT_EQ(error("{requests_per_unit: []}"), "requests_per_unit: expected an integer, found a list");
  EXPECT_EQ(error("{unit: hour}"), "unit: \"hour\" is not one of second, minute");
  EXPECT_EQ(error("{unit: {}}"), "unit: expected one of second, minute, found a map");
  EXPECT_EQ(error("{share: 100.1}"), "share: 100.1 is not in 0..100");
  EXPECT_EQ(error("{share: nan}"), "share: \"nan\" is not a number");
  EXPECT_EQ(error("{share: x}"), "share: \"x\" is not a number");
  EXPECT_EQ(error("{on: yes}"), "on: \"yes\" is not true or false");
  EXPECT_EQ(error("{on: \"true\"}"), "on: \"true\" is not true or false");
  EXPECT_EQ(error("{host: {}}"), "host: expected text, found a map");
  EXPECT_EQ(error("{words: {}}"), "words: expected a list, found a map");
  EXPECT_EQ(error("{words: [a, []]}"), "words[1]: expected text, found a list");
  EXPECT_EQ(error("{inners: [{name: a}, {name: b, weight: 10}]}"), "inners[1].weight: 10 is not in 0..9");
  EXPECT_EQ(error("{inners: [{}]}"), "inners[0].name: is required");
  EXPECT_EQ(error("{inner: {name: \"a b\"}}"), "inner.name: \"a b\" is not the name of a header field");
  EXPECT_EQ(error("{inners: {}}"), "inners: expected a list, found a map");
  EXPECT_EQ(error("{host: bad}"), "host: is bad");
  EXPECT_EQ(error("[]"), "expected a map of fields, found a list");
  EXPECT_EQ(error("5"), "expected a map of fields, found a single value");
}

TEST(Schema, UnknownFieldsNameTheCloseMatch) {
  EXPECT_EQ(error("{request_per_unit: 5}"), "request_per_unit: unknown field; did you mean requests_per_unit?");
  EXPECT_EQ(error("{Requests-Per-Unit: 5}"), "Requests-Per-Unit: unknown field; did you mean requests_per_unit?");
  EXPECT_EQ(error("{inners: [{nmae: a}]}"), "inners[0].nmae: unknown field; did you mean name?");
  EXPECT_EQ(error("{inner: {zzzzzz: 1}}"), "inner.zzzzzz: unknown field; the fields here are name, weight");
  EXPECT_EQ(error("{unknown: null}").substr(0, 22), "unknown: unknown field");
}

TEST(Schema, AFieldUnderBothItsNamesIsAnError) {
  EXPECT_EQ(error("{requests_per_unit: 5, requestsPerUnit: 6}"),
            "requestsPerUnit: given twice: requestsPerUnit is another name of requests_per_unit");
}

TEST(Schema, PrintsItsFields) {
  EXPECT_EQ(outer_schema().markdown(),
            "| Field | Type | Default | Meaning |\n"
            "| --- | --- | --- | --- |\n"
            "| `requests_per_unit` | integer 1..1000000 | `10` | Requests. Also accepted as "
            "`requestsPerUnit`. |\n"
            "| `unit` | one of second, minute | `minute` | Unit. |\n"
            "| `share` | number 0..100 | `12.5` | A\\|B. |\n"
            "| `on` | bool | `true` | On. |\n"
            "| `host` | text | `a` | Host. |\n"
            "| `words` | list of text | `x, y` | Words. |\n"
            "| `inner` | object | none | Inner. |\n"
            "| `inner.name` | text | required | Name. |\n"
            "| `inner.weight` | integer 0..9, `MOST` | `1` | Weight. |\n"
            "| `inners` | list of objects | none | Inners. |\n"
            "| `inners[].name` | text | required | Name. |\n"
            "| `inners[].weight` | integer 0..9, `MOST` | `1` | Weight. |\n");
}

TEST(Schema, SharedChecks) {
  std::string text = " a\tb ";
  EXPECT_EQ(check_header_value(text), "");
  EXPECT_EQ(text, "a\tb");
  for (std::string bad : {std::string("a\nb"), std::string("a\rb"), std::string("a\0b", 3), std::string("a\x7f")}) {
    EXPECT_NE(check_header_value(bad), "");
  }
  for (std::string good : {"foo.bar", "foo:80", "[::1]:443", "a_b-c~"}) EXPECT_EQ(check_authority(good), "") << good;
  for (std::string bad : {"a b", "a/b", "a?b", "a\r\nb", "ü"}) EXPECT_NE(check_authority(bad), "") << bad;
}

TEST(Schema, LongTextsAreCutInMessages) { EXPECT_LT(in_quotes(std::string(1000, 'x')).size(), 100u); }

}  // namespace
}  // namespace sluice::plugins
