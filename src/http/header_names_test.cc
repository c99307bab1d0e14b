#include "http/header_names.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace sluice::http {
namespace {

TEST(HeaderNames, EveryNameIsFound) {
  std::set<std::string_view> seen;
  for (int i = 0; i < kHeaderIdCount; ++i) {
    const auto id = static_cast<HeaderId>(i);
    const std::string name(header_name(id));  // other bytes than the table's
    EXPECT_TRUE(seen.insert(header_name(id)).second) << name << " is listed twice";
    EXPECT_EQ(find_header_id(name), id) << name;
    for (char c : name) EXPECT_TRUE((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-') << name;
  }
}

TEST(HeaderNames, NothingElseIs) {
  std::set<std::string> known;
  for (int i = 0; i < kHeaderIdCount; ++i) known.emplace(header_name(static_cast<HeaderId>(i)));
  for (const std::string& name : known) {
    for (size_t at = 0; at < name.size(); ++at) {
      std::string other = name;
      other[at] = other[at] == 'q' ? 'z' : 'q';
      EXPECT_EQ(find_header_id(other), HeaderId::kOther) << other;
      other = name;
      other.erase(at, 1);
      if (!known.count(other)) EXPECT_EQ(find_header_id(other), HeaderId::kOther) << other;
      other = name;
      other.insert(at, 1, '-');
      if (!known.count(other)) EXPECT_EQ(find_header_id(other), HeaderId::kOther) << other;
    }
    EXPECT_EQ(find_header_id(name + std::string(1, '\0')), HeaderId::kOther);
  }
  for (const char* name : {"", "a", "Host", "HOST", "x-", "-", "x-unknown", "x-higress-llm-model"}) {
    EXPECT_EQ(find_header_id(name), HeaderId::kOther) << name;
  }
  EXPECT_EQ(find_header_id(std::string(70'000, 'a')), HeaderId::kOther);
}

TEST(HeaderNames, TheMostAskedForHaveAPresenceBit) {
  for (HeaderId id : {HeaderId::kHost, HeaderId::kConnection, HeaderId::kContentLength, HeaderId::kXForwardedFor,
                      HeaderId::kXRequestId, HeaderId::kCookie, HeaderId::kGrpcTimeout}) {
    EXPECT_LT(static_cast<int>(id), 64) << header_name(id);
  }
}

}  // namespace
}  // namespace sluice::http
