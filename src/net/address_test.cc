#include "net/address.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <unordered_set>

namespace sluice::net {
namespace {

std::string round_trip(std::string_view text) {
  Result<Address> address = Address::parse(text);
  return address ? address->to_string() : "error: " + address.error().message;
}

TEST(Address, ParsesWhatItPrints) {
  for (const char* text : {"1.2.3.4:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80", "[2001:db8::1]:443",
                           "[::]:1", "unix:/run/x.sock", "unix:@abstract", "[fe80::1%1]:9"}) {
    EXPECT_EQ(round_trip(text), text);
  }
}

TEST(Address, RefusesWhatIsNoAddress) {
  for (const char* text : {"",
                           ":",
                           ":80",
                           "1.2.3.4",
                           "1.2.3.4:",
                           "1.2.3.4:65536",
                           "1.2.3.4:-1",
                           "1.2.3.4: 80",
                           "1.2.3.4:+80",
                           "1.2.3:80",
                           "01.2.3.4:80",
                           "example.com:80",
                           "::1:80",
                           "[::1]",
                           "[::1",
                           "[::1]80",
                           "[1.2.3.4.5]:80",
                           "unix:",
                           "[fe80::1%]:9",
                           "[fe80::1%nosuchif0]:9",
                           "1.2.3.4:99999999999999999999"}) {
    EXPECT_FALSE(Address::parse(text)) << text;
  }
  EXPECT_FALSE(Address::parse(std::string_view("1.2.3.4\0x:80", 12)));
  EXPECT_FALSE(Address::parse("unix:/" + std::string(107, 'a')));
  EXPECT_TRUE(Address::parse("unix:/" + std::string(106, 'a')));
}

TEST(Address, DefaultPort) {
  EXPECT_EQ(Address::parse("1.2.3.4", 53)->to_string(), "1.2.3.4:53");
  EXPECT_EQ(Address::parse("::1", 53)->to_string(), "[::1]:53");
  EXPECT_EQ(Address::parse("[::1]", 53)->to_string(), "[::1]:53");
  EXPECT_EQ(Address::parse("[::1]:54", 53)->to_string(), "[::1]:54");
  EXPECT_FALSE(Address::parse("example.com", 53));
}

TEST(Address, MappedIpv4BecomesIpv4) {
  EXPECT_EQ(round_trip("[::ffff:1.2.3.4]:80"), "1.2.3.4:80");
  sockaddr_in6 in6 = {};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(7);
  in6.sin6_addr.s6_addr[10] = in6.sin6_addr.s6_addr[11] = 0xff;
  in6.sin6_addr.s6_addr[15] = 9;
  Address address = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&in6), sizeof(in6));
  EXPECT_EQ(address, Address::ipv4(0, 0, 0, 9, 7));
}

TEST(Address, SockaddrRoundTrip) {
  for (const char* text : {"1.2.3.4:80", "[2001:db8::1]:443", "[fe80::1%1]:9", "unix:/run/x.sock", "unix:@abstract"}) {
    sockaddr_storage storage;
    socklen_t length = Address::parse(text)->to_sockaddr(&storage);
    ASSERT_GT(length, 0u);
    EXPECT_EQ(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), length).to_string(), text);
  }
  sockaddr_storage storage;
  EXPECT_EQ(Address().to_sockaddr(&storage), 0u);
  EXPECT_EQ(Address::unix_path("/" + std::string(200, 'a')).to_sockaddr(&storage), 0u);
}

TEST(Address, FromShortOrForeignSockaddr) {
  sockaddr_storage storage = {};
  storage.ss_family = AF_INET;
  EXPECT_TRUE(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), 4).is_none());
  EXPECT_TRUE(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), 0).is_none());
  EXPECT_TRUE(Address::from_sockaddr(nullptr, 0).is_none());
  storage.ss_family = AF_PACKET;
  EXPECT_TRUE(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), sizeof(storage)).is_none());
  storage.ss_family = AF_UNIX;
  Address unnamed = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&storage), sizeof(sa_family_t));
  EXPECT_TRUE(unnamed.is_unix());
  EXPECT_EQ(unnamed.to_string(), "unix:");
}

TEST(Address, CopiesAndMovesOfAllFamilies) {
  Address unix_address = Address::unix_path("/run/a.sock");
  Address ip = Address::ipv4(10, 0, 0, 1, 80);
  Address a = unix_address;
  Address b = std::move(a);
  EXPECT_EQ(b.path(), "/run/a.sock");
  a = ip;
  EXPECT_EQ(a, ip);
  b = a;
  EXPECT_EQ(b, ip);
  b = unix_address;
  b = std::move(ip);
  EXPECT_EQ(b.to_string(), "10.0.0.1:80");
  Address& self = b;
  b = self;
  EXPECT_EQ(b.to_string(), "10.0.0.1:80");
  EXPECT_EQ(Address().to_string(), "-");
}

TEST(Address, Classes) {
  auto ip = [](const char* text) { return *Address::parse_ip(text); };
  EXPECT_TRUE(ip("127.1.2.3").is_loopback());
  EXPECT_TRUE(ip("::1").is_loopback());
  EXPECT_FALSE(ip("::2").is_loopback());
  for (const char* text : {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fdff::1"}) {
    EXPECT_TRUE(ip(text).is_private()) << text;
  }
  for (const char* text : {"11.0.0.1", "172.15.0.1", "172.32.0.1", "192.169.1.1", "fe00::1", "8.8.8.8"}) {
    EXPECT_FALSE(ip(text).is_private()) << text;
  }
  EXPECT_TRUE(ip("169.254.1.1").is_link_local());
  EXPECT_TRUE(ip("fe80::1").is_link_local());
  EXPECT_TRUE(ip("0.0.0.0").is_any());
  EXPECT_TRUE(ip("::").is_any());
  EXPECT_FALSE(Address().is_any());
}

TEST(Address, OrderAndHash) {
  Address a = Address::ipv4(10, 0, 0, 1, 80);
  Address b = Address::ipv4(10, 0, 0, 1, 81);
  Address c = Address::ipv4(10, 0, 0, 2, 80);
  EXPECT_LT(a, b);
  EXPECT_LT(b, c);
  EXPECT_LT(c, *Address::parse("[::1]:1"));
  EXPECT_TRUE(a.same_host(b));
  EXPECT_FALSE(a.same_host(c));
  EXPECT_EQ(a.ip_hash(), b.ip_hash());
  std::unordered_set<Address> set = {a, b, c, a, Address::unix_path("/x"), Address::unix_path("/x")};
  EXPECT_EQ(set.size(), 4u);
  EXPECT_EQ(a.with_port(81), b);
}

TEST(Address, LongestTextFits) {
  Address longest = *Address::parse_ip("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535);
  std::span<const uint8_t> bytes = longest.ip_bytes();
  longest = Address::ipv6(bytes.first<16>(), 65535, 0xffffffffu);
  char text[Address::kMaxIpText];
  EXPECT_LT(longest.format(text), sizeof(text));
}

TEST(Cidr, ParsesAndContains) {
  Cidr ten = *Cidr::parse("10.1.2.3/8");
  EXPECT_EQ(ten.to_string(), "10.0.0.0/8");
  EXPECT_TRUE(ten.contains(Address::ipv4(10, 255, 0, 1, 80)));
  EXPECT_FALSE(ten.contains(Address::ipv4(11, 0, 0, 1, 80)));
  EXPECT_FALSE(ten.contains(*Address::parse_ip("::1")));
  EXPECT_FALSE(ten.contains(Address::unix_path("/x")));
  EXPECT_FALSE(ten.contains(Address()));
  EXPECT_FALSE(Cidr().contains(Address()));

  Cidr odd = *Cidr::parse("192.168.128.0/17");
  EXPECT_TRUE(odd.contains(Address::ipv4(192, 168, 200, 1, 0)));
  EXPECT_FALSE(odd.contains(Address::ipv4(192, 168, 127, 1, 0)));

  EXPECT_TRUE(Cidr::parse("0.0.0.0/0")->contains(Address::ipv4(1, 2, 3, 4, 0)));
  EXPECT_EQ(Cidr::parse("10.1.2.3")->to_string(), "10.1.2.3/32");
  EXPECT_TRUE(Cidr::parse("10.1.2.3")->contains(Address::ipv4(10, 1, 2, 3, 0)));

  Cidr six = *Cidr::parse("2001:db8::/33");
  EXPECT_TRUE(six.contains(*Address::parse_ip("2001:db8:7fff::1")));
  EXPECT_FALSE(six.contains(*Address::parse_ip("2001:db8:8000::1")));

  for (const char* text :
       {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0/8", "x/8", "10.0.0.0/8/8"}) {
    EXPECT_FALSE(Cidr::parse(text)) << text;
  }
}

}  // namespace
}  // namespace sluice::net
