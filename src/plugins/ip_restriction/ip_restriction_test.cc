#include <gtest/gtest.h>

#include "plugins/ip_restriction/address_set.h"
#include "plugins/testing/config_text.h"
#include "plugins/testing/fake_context.h"

namespace sluice::plugins {
namespace {

using ip_restriction::AddressSet;
using testing::error;
using testing::FakeContext;
using testing::make;

AddressSet set_of(std::initializer_list<const char*> entries) {
  AddressSet out;
  for (const char* entry : entries) {
    EXPECT_EQ(AddressSet::check(entry), "") << entry;
    out.add(entry);
  }
  out.seal();
  return out;
}
bool has(const AddressSet& set, const char* ip) { return set.contains(*net::Address::parse_ip(ip)); }

TEST(AddressSet, Networks) {
  const AddressSet set = set_of({"10.0.0.0/8", "192.168.1.7", "2001:db8::/33", "10.1.0.0/16"});
  EXPECT_EQ(set.range_count(), 3u) << "what lies inside another is no range of its own";
  for (const char* in : {"10.0.0.0", "10.255.255.255", "192.168.1.7", "2001:db8::", "2001:db8:7fff:ffff::1"}) {
    EXPECT_TRUE(has(set, in)) << in;
  }
  for (const char* out :
       {"9.255.255.255", "11.0.0.0", "192.168.1.6", "192.168.1.8", "2001:db8:8000::", "::1", "::10.0.0.1"}) {
    EXPECT_FALSE(has(set, out)) << out;
  }
  EXPECT_FALSE(set.contains(net::Address::unix_path("/x")));
  EXPECT_FALSE(has(AddressSet(), "10.0.0.1"));
}

TEST(AddressSet, BitsBelowThePrefixDoNotMatter) {
  const AddressSet set = set_of({"10.1.2.3/9", "2001:db8::ffff/48"});
  EXPECT_TRUE(has(set, "10.0.0.1"));
  EXPECT_TRUE(has(set, "10.127.0.0"));
  EXPECT_FALSE(has(set, "10.128.0.0"));
  EXPECT_TRUE(has(set, "2001:db8::1"));
}

TEST(AddressSet, EverythingOfAFamily) {
  EXPECT_TRUE(has(set_of({"0.0.0.0/0"}), "255.255.255.255"));
  EXPECT_FALSE(has(set_of({"0.0.0.0/0"}), "::1"));
  EXPECT_TRUE(has(set_of({"::/0"}), "::1"));
  EXPECT_TRUE(has(set_of({"::ffff:1.2.3.0/120"}), "1.2.3.4"));
  EXPECT_FALSE(has(set_of({"::ffff:1.2.3.0/120"}), "1.2.4.4"));
}

TEST(AddressSet, RefusesWhatIsNoAddress) {
  for (const char* bad : {"", "x", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/8x", "::1/129",
                          "fe80::1%1", "/8", "1.2.3.4:80"}) {
    EXPECT_NE(AddressSet::check(bad), "") << bad;
  }
}

int status_for(FakeContext& context, const std::string& config) {
  context.create(make("ip-restriction", config));
  return context.run_request() ? 200 : context.reply_status();
}

TEST(IpRestriction, AllowAndDeny) {
  struct Case {
    const char* config;
    const char* client;
    int want;
  } cases[] = {
      {"{allow: [10.0.0.0/8]}", "10.1.1.1:5", 200},
      {"{allow: [10.0.0.0/8]}", "11.1.1.1:5", 403},
      {"{deny: [10.0.0.0/8]}", "10.1.1.1:5", 403},
      {"{deny: [10.0.0.0/8]}", "11.1.1.1:5", 200},
      {"{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "10.1.1.1:5", 403},
      {"{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}", "10.2.1.1:5", 200},
      {"{deny: [10.0.0.0/8], status: 404}", "10.1.1.1:5", 404},
      {"{deny: [\"::1\"]}", "[::1]:5", 403},
      {"{deny: [10.0.0.0/8]}", "unix:/x", 403},
  };
  for (const Case& c : cases) {
    FakeContext context;
    EXPECT_EQ(status_for(context.client(c.client), c.config), c.want) << c.config << " " << c.client;
  }
}

TEST(IpRestriction, Header) {
  struct Case {
    const char* value;
    int want;
  } cases[] = {{"10.1.1.1", 200},
               {" 10.1.1.1 , 9.9.9.9", 200},
               {"9.9.9.9, 10.1.1.1", 403},
               {"10.1.1.1:80", 200},
               {"[2001:db8::1]:80", 200},
               {"2001:db8::1", 200},
               {"", 403},
               {"[", 403},
               {"x", 403}};
  for (const Case& c : cases) {
    FakeContext context;
    context.header("x-real-ip", c.value);
    EXPECT_EQ(status_for(context,
                         "{ip_source_type: header, ip_header_name: X-Real-IP, allow: [10.0.0.0/8, \"2001:db8::/32\"]}"),
              c.want)
        << c.value;
  }
}

TEST(IpRestriction, Reply) {
  FakeContext context;
  status_for(context.client("1.1.1.1:1"), "{deny: [1.1.1.1], message: \"a \\\"b\\\"\"}");
  EXPECT_EQ(context.reply_body(), "{\"message\":\"a \\\"b\\\"\"}");
  EXPECT_EQ(context.reply_details(), "key-auth.ip_denied");
  FakeContext plain;
  status_for(plain.client("1.1.1.1:1"), "{deny: [1.1.1.1], body: no}");
  EXPECT_EQ(plain.reply_body(), "no");
}

TEST(IpRestriction, Errors) {
  EXPECT_NE(error("ip-restriction", "{}").find("allow: is required, or deny"), std::string::npos);
  EXPECT_NE(error("ip-restriction", "{allow: [x]}").find("is not an IP address"), std::string::npos);
}

}  // namespace
}  // namespace sluice::plugins
