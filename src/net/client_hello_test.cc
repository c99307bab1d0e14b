#include "net/client_hello.h"

#include <gtest/gtest.h>

#include <string>

namespace sluice::net {
namespace {

using Status = ClientHello::Status;

std::string number(size_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}
std::string vector(const std::string& text, int bytes) { return number(text.size(), bytes) + text; }

std::string extension(int type, const std::string& data) {
  return number(static_cast<size_t>(type), 2) + vector(data, 2);
}
std::string server_name(const std::string& name) { return extension(0, vector(number(0, 1) + vector(name, 2), 2)); }

std::string message(const std::string& extensions) {
  const std::string body = number(0x0303, 2) + std::string(32, 'r') + vector("session", 1) + vector("\x13\x01", 2) +
                           vector(std::string(1, '\0'), 1) + vector(extensions, 2);
  return "\x01" + vector(body, 3);
}

// The message in records of at most `piece` bytes.
std::string records(const std::string& message, size_t piece = 16384) {
  std::string out;
  for (size_t at = 0; at < message.size(); at += piece) {
    const std::string part = message.substr(at, piece);
    out += std::string("\x16\x03\x01") + vector(part, 2);
  }
  return out;
}

TEST(ClientHelloParser, NamesTheHost) {
  const auto hello = parse_client_hello(records(message(extension(43, "x") + server_name("Shop.Example.COM."))));
  EXPECT_EQ(hello.status, Status::kDone);
  EXPECT_EQ(hello.server_name, "shop.example.com");
}

TEST(ClientHelloParser, EveryPrefixNeedsMore) {
  for (const size_t piece : {16384u, 40u, 1u}) {
    const std::string bytes = records(message(extension(16, std::string(200, 'a')) + server_name("a.example")), piece);
    for (size_t n = 0; n < bytes.size(); ++n) {
      ASSERT_EQ(parse_client_hello(bytes.substr(0, n)).status, Status::kNeedMore) << piece << " " << n;
    }
    EXPECT_EQ(parse_client_hello(bytes).server_name, "a.example");
    EXPECT_EQ(parse_client_hello(bytes + "more").server_name, "a.example");
  }
}

TEST(ClientHelloParser, WithoutAName) {
  EXPECT_EQ(parse_client_hello(records(message(extension(43, "x")))).status, Status::kDone);
  EXPECT_EQ(parse_client_hello(records(message(""))).server_name, "");
  EXPECT_EQ(parse_client_hello(records(message(server_name("a b")))).server_name, "");
  EXPECT_EQ(parse_client_hello(records(message(server_name(std::string(300, 'a'))))).server_name, "");
}

TEST(ClientHelloParser, RefusesWhatIsNone) {
  EXPECT_EQ(parse_client_hello("GET / HTTP/1.1\r\n").status, Status::kInvalid);
  EXPECT_EQ(parse_client_hello(std::string("\x16\x02", 2)).status, Status::kInvalid);
  EXPECT_EQ(parse_client_hello(std::string("\x16\x03\x01\x00\x00", 5)).status, Status::kInvalid);
  EXPECT_EQ(parse_client_hello(records("\x02" + vector("x", 3))).status, Status::kInvalid);
  EXPECT_EQ(parse_client_hello(records("\x01" + vector("short", 3))).status, Status::kInvalid);
  EXPECT_EQ(parse_client_hello(records(message(extension(0, "\x7f\x7f")))).status, Status::kInvalid);
}

TEST(ClientHelloParser, IsBounded) {
  // One that announces more than is looked at, and one that is longer than that on the wire.
  EXPECT_EQ(parse_client_hello(records(std::string("\x01") + number(20000, 3))).status, Status::kInvalid);
  const std::string bytes = records(message(extension(21, std::string(15000, 'p')) + server_name("a.example")), 10);
  ASSERT_GT(bytes.size(), kClientHelloMax);
  EXPECT_EQ(parse_client_hello(bytes.substr(0, kClientHelloMax - 1)).status, Status::kNeedMore);
  EXPECT_EQ(parse_client_hello(bytes).status, Status::kInvalid);
}

}  // namespace
}  // namespace sluice::net
