#include "http/headers.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/random.h"

namespace sluice::http {
namespace {

std::string show(const HeaderMap& map) {
  std::string out;
  for (const HeaderField& field : map) out += std::string(field.name()) + "=" + std::string(field.value()) + ";";
  return out;
}

TEST(HeaderMap, KeepsOrderAndFindsTheFirst) {
  Arena arena;
  HeaderMap map(&arena);
  EXPECT_TRUE(map.empty());
  map.add(HeaderId::kAccept, "a");
  map.add("x-own", "1");
  map.add("accept", "b");
  map.add("x-own", "2");
  map.add(HeaderId::kAltSvc, "far");  // beyond the presence bits
  EXPECT_EQ(show(map), "accept=a;x-own=1;accept=b;x-own=2;alt-svc=far;");
  EXPECT_EQ(map.get(HeaderId::kAccept), "a");
  EXPECT_EQ(map.get("accept"), "a");
  EXPECT_EQ(map.get("x-own"), "1");
  EXPECT_EQ(map.get(HeaderId::kAltSvc), "far");
  EXPECT_TRUE(map.has("alt-svc"));
  EXPECT_FALSE(map.has(HeaderId::kHost));
  EXPECT_FALSE(map.has("x-none"));
  EXPECT_FALSE(map.has(HeaderId::kVia));
  EXPECT_EQ(map.get("x-none"), "");
  EXPECT_EQ(map.find("x-own")->id, HeaderId::kOther);
  EXPECT_EQ(map.find("accept")->id, HeaderId::kAccept);
}

TEST(HeaderMap, JoinsValues) {
  Arena arena;
  HeaderMap map(&arena);
  EXPECT_EQ(map.get_joined(HeaderId::kVia), "");
  map.add(HeaderId::kVia, "a");
  EXPECT_EQ(map.get_joined("via").data(), map.get(HeaderId::kVia).data()) << "one value is not copied";
  map.add("x-own", "1");
  map.add("via", "b, c");
  map.add("via", "");
  map.add("x-own", "2");
  EXPECT_EQ(map.get_joined(HeaderId::kVia), "a, b, c, ");
  EXPECT_EQ(map.get_joined("x-own"), "1, 2");
}

TEST(HeaderMap, SetReplacesTheFirstAndDropsTheOthers) {
  Arena arena;
  HeaderMap map(&arena);
  map.add("x-own", "1");
  map.add(HeaderId::kAccept, "a");
  map.add("x-other", "o");
  map.add("x-own", "2");
  map.add(HeaderId::kAccept, "b");
  map.set("x-own", "3");
  EXPECT_EQ(show(map), "x-own=3;accept=a;x-other=o;accept=b;");
  map.set(HeaderId::kAccept, "c");
  EXPECT_EQ(show(map), "x-own=3;accept=c;x-other=o;");
  map.set("accept", "d");
  map.set("x-new", "n");
  map.set(HeaderId::kVia, "v");
  EXPECT_EQ(show(map), "x-own=3;accept=d;x-other=o;x-new=n;via=v;");
}

TEST(HeaderMap, RemovesAll) {
  Arena arena;
  HeaderMap map(&arena);
  for (const char* name : {"accept", "x-own", "accept", "via", "x-own"}) map.add(name, "v");
  EXPECT_EQ(map.remove(HeaderId::kHost), 0u);
  EXPECT_EQ(map.remove("x-none"), 0u);
  EXPECT_EQ(map.remove("accept"), 2u);
  EXPECT_FALSE(map.has(HeaderId::kAccept));
  EXPECT_EQ(map.remove("x-own"), 2u);
  EXPECT_EQ(show(map), "via=v;");
  map.add(HeaderId::kAccept, "again");
  EXPECT_EQ(map.get("accept"), "again");
  EXPECT_EQ(map.remove_if([](const HeaderField& field) { return field.value() == "v"; }), 1u);
  EXPECT_EQ(show(map), "accept=again;");
  map.clear();
  EXPECT_FALSE(map.has(HeaderId::kAccept));
  EXPECT_TRUE(map.empty());
}

// Random operations against a vector of pairs: the presence bits must never hide a field or invent one.
TEST(HeaderMap, AgreesWithAList) {
  const char* names[] = {"accept", "host", "alt-svc", "x-a", "x-b", "via", "x-forwarded-for", "allow"};
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Random random(seed);
    Arena arena;
    HeaderMap map(&arena);
    std::vector<std::pair<std::string, std::string>> model;
    for (int step = 0; step < 200; ++step) {
      const std::string name = names[random.below(std::size(names))];
      const std::string_view value = arena.copy(std::to_string(step));
      const HeaderId id = find_header_id(name);
      const bool by_id = id != HeaderId::kOther && random.below(2);
      switch (random.below(4)) {
        case 0:
          by_id ? map.add(id, value) : map.add(arena.copy(name), value);
          model.emplace_back(name, value);
          break;
        case 1: {
          by_id ? map.set(id, value) : map.set(arena.copy(name), value);
          bool found = false;
          std::erase_if(model, [&](auto& pair) {
            if (pair.first != name) return false;
            if (found) return true;
            found = true;
            pair.second = value;
            return false;
          });
          if (!found) model.emplace_back(name, value);
          break;
        }
        case 2: {
          const size_t removed = std::erase_if(model, [&](auto& pair) { return pair.first == name; });
          ASSERT_EQ(by_id ? map.remove(id) : map.remove(name), removed);
          break;
        }
        default: {
          std::string joined;
          bool any = false;
          for (auto& [n, v] : model) {
            if (n == name) joined += (any ? ", " : "") + v, any = true;
          }
          ASSERT_EQ(by_id ? map.has(id) : map.has(name), any);
          ASSERT_EQ(by_id ? map.get_joined(id) : map.get_joined(name), joined);
        }
      }
      std::string expected;
      for (auto& [n, v] : model) expected += n + "=" + v + ";";
      ASSERT_EQ(show(map), expected) << "seed " << seed << " step " << step;
    }
  }
}

TEST(Methods, AreParsedExactly) {
  const struct {
    const char* text;
    Method method;
    bool idempotent;
  } cases[] = {
      {"GET", Method::kGet, true},         {"HEAD", Method::kHead, true},       {"POST", Method::kPost, false},
      {"PUT", Method::kPut, true},         {"DELETE", Method::kDelete, true},   {"CONNECT", Method::kConnect, false},
      {"OPTIONS", Method::kOptions, true}, {"TRACE", Method::kTrace, true},     {"PATCH", Method::kPatch, false},
      {"get", Method::kOther, false},      {"PROPFIND", Method::kOther, false}, {"", Method::kOther, false},
      {"GETS", Method::kOther, false},     {"XPATCH", Method::kOther, false}};
  for (const auto& c : cases) {
    EXPECT_EQ(parse_method(c.text), c.method) << c.text;
    EXPECT_EQ(is_idempotent(c.method), c.idempotent) << c.text;
  }
}

TEST(Texts, TokensAndValues) {
  for (const char* good : {"a", "X-Y", "!#$%&'*+-.^_`|~09azAZ"}) EXPECT_TRUE(is_token(good)) << good;
  for (const char* bad : {"", "a b", "a:", "\"a\"", "a\t", "(a)", "a,b", "\xc3\xa4", "a\x7f", "{}"}) {
    EXPECT_FALSE(is_token(bad)) << bad;
  }
  EXPECT_FALSE(is_token(std::string_view("a\0b", 3)));
  for (const char* good : {"", "a b\tc", "\xc3\xa4\xff", "{\"a\":1}"}) EXPECT_TRUE(is_field_value(good)) << good;
  for (const char* bad : {"\r", "\n", "a\x01", "\x7f", "\x1f"}) EXPECT_FALSE(is_field_value(bad));
  EXPECT_FALSE(is_field_value(std::string_view("\0", 1)));
}

TEST(Texts, ListsAndCase) {
  EXPECT_TRUE(iequals("ChUnKeD", "chunked"));
  EXPECT_FALSE(iequals("chunke", "chunked"));
  EXPECT_FALSE(iequals("[", "{"));  // differ only in the bit that case is
  EXPECT_TRUE(iequals("", ""));
  const struct {
    const char *list, *token;
    bool has;
  } cases[] = {{"close", "close", true},
               {"keep-alive, Close", "close", true},
               {" \tclose\t ,x", "close", true},
               {"closed", "close", false},
               {"xclose", "close", false},
               {"", "close", false},
               {",,close,", "close", true},
               {"clo se", "close", false},
               {"a;close", "close", false},
               {"close;q=1", "close", false},
               {"a,b,c", "b", true},
               {"a,b,c", "d", false}};
  for (const auto& c : cases) EXPECT_EQ(list_has_token(c.list, c.token), c.has) << c.list;
}

TEST(Status, HasAPhrase) {
  EXPECT_EQ(reason_phrase(200), "OK");
  EXPECT_EQ(reason_phrase(431), "Request Header Fields Too Large");
  for (int status : {0, 99, 299, 599, 1000, -1}) EXPECT_EQ(reason_phrase(status), "Unknown");
  for (int status = 100; status < 600; ++status) EXPECT_LT(reason_phrase(status).size(), 40u);
  EXPECT_EQ(protocol_name(Protocol::kHttp10), "HTTP/1.0");
  EXPECT_EQ(protocol_name(Protocol::kHttp11), "HTTP/1.1");
  EXPECT_EQ(protocol_name(Protocol::kHttp2), "HTTP/2");
}

}  // namespace
}  // namespace sluice::http
