#include "net/proxy_protocol.h"

#include <gtest/gtest.h>

#include <random>

namespace sluice::net {
namespace {

using Status = ProxyProtocolResult::Status;

Address at(const char* text) { return *Address::parse(text); }

constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);

// A v2 header from its parts; the length is filled in.
std::string v2(uint8_t version_command, uint8_t family, std::string body) {
  std::string header(kSignature);
  header += static_cast<char>(version_command);
  header += static_cast<char>(family);
  header += static_cast<char>(body.size() >> 8);
  header += static_cast<char>(body.size());
  return header + body;
}

std::string tlv(uint8_t type, std::string value) {
  std::string text(1, static_cast<char>(type));
  text += static_cast<char>(value.size() >> 8);
  text += static_cast<char>(value.size());
  return text + value;
}

const std::string kFour("\x01\x02\x03\x04\x05\x06\x07\x08\x00\x50\x01\xbb", 12);

void expect_invalid(std::string_view bytes, std::string_view why) {
  ProxyProtocolResult result = parse_proxy_protocol(bytes);
  EXPECT_EQ(result.status, Status::kInvalid) << why;
  EXPECT_NE(std::string_view(result.error).find(why), std::string_view::npos) << result.error;
}

// Every proper prefix of a valid header asks for more.
void expect_incremental(std::string_view header) {
  for (size_t n = 0; n < header.size(); ++n) {
    EXPECT_EQ(parse_proxy_protocol(header.substr(0, n)).status, Status::kNeedMore) << n;
  }
  std::string more = std::string(header) + "GET / HTTP/1.1\r\n";
  ProxyProtocolResult result = parse_proxy_protocol(more);
  EXPECT_EQ(result.status, Status::kDone) << result.error;
  EXPECT_EQ(result.consumed, header.size());
}

TEST(ProxyProtocol, OtherBytesAreNotProxy) {
  for (std::string_view bytes :
       {"GET / HTTP/1.1\r\n", "P0", "PROXX ", "\r\n\r\n\r", "\x16\x03\x01", "PRI * HTTP/2.0"}) {
    EXPECT_EQ(parse_proxy_protocol(bytes).status, Status::kNotProxy) << bytes;
  }
}

TEST(ProxyProtocol, V1) {
  std::string header = "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
  expect_incremental(header);
  ProxyProtocolResult result = parse_proxy_protocol(header);
  EXPECT_EQ(result.header.version, 1);
  EXPECT_FALSE(result.header.local);
  EXPECT_EQ(result.header.source, at("192.168.0.1:56324"));
  EXPECT_EQ(result.header.destination, at("192.168.0.11:443"));

  header = "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n";
  expect_incremental(header);
  result = parse_proxy_protocol(header);
  EXPECT_EQ(result.header.source, at("[2001:db8::1]:1"));
  EXPECT_EQ(result.header.destination, at("[2001:db8::2]:65535"));

  for (std::string_view unknown : {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 whatever 65536 x\r\n"}) {
    expect_incremental(unknown);
    result = parse_proxy_protocol(unknown);
    EXPECT_TRUE(result.header.local);
    EXPECT_TRUE(result.header.source.is_none());
  }
}

TEST(ProxyProtocol, V1LongestLine) {
  std::string header =
      "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
  EXPECT_EQ(header.size(), kProxyProtocolV1Max);
  expect_incremental(header);
  expect_invalid(header.substr(0, header.size() - 2) + "0\r\n", "longer than 107");
  expect_invalid("PROXY " + std::string(101, 'x'), "longer than 107");
  EXPECT_EQ(parse_proxy_protocol("PROXY " + std::string(100, 'x')).status, Status::kNeedMore);
}

TEST(ProxyProtocol, V1RefusesMalformedLines) {
  expect_invalid("PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "CR LF");
  expect_invalid("PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n", "family");
  expect_invalid("PROXY \r\n", "family");
  expect_invalid("PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n", "family");
  expect_invalid("PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n", "family");
  expect_invalid("PROXY TCP4 1.2.3.4  5.6.7.8 1 2\r\n", "address");
  expect_invalid("PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n", "address");
  expect_invalid("PROXY TCP4 ::1 5.6.7.8 1 2\r\n", "address");
  expect_invalid("PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n", "address");
  expect_invalid("PROXY TCP6 fe80::1%1 ::1 1 2\r\n", "address");
  for (std::string_view ports : {"", "1", "1 ", "1 2 ", "1 2 3", "01 2", "1 65536", "-1 2", "+1 2", "1 2x", "0x1 2"}) {
    expect_invalid("PROXY TCP4 1.2.3.4 5.6.7.8 " + std::string(ports) + "\r\n", "port");
  }
}

TEST(ProxyProtocol, V2Addresses) {
  std::string header = v2(0x21, 0x11, kFour);
  expect_incremental(header);
  ProxyProtocolResult result = parse_proxy_protocol(header);
  EXPECT_EQ(result.header.version, 2);
  EXPECT_EQ(result.header.source, at("1.2.3.4:80"));
  EXPECT_EQ(result.header.destination, at("5.6.7.8:443"));
  EXPECT_FALSE(result.header.datagram);
  EXPECT_TRUE(parse_proxy_protocol(v2(0x21, 0x12, kFour)).header.datagram);

  std::string six =
      std::string(15, '\0') + "\x01" + std::string(15, '\0') + "\x02" + std::string("\x00\x50\x01\xbb", 4);
  header = v2(0x21, 0x21, six);
  expect_incremental(header);
  result = parse_proxy_protocol(header);
  EXPECT_EQ(result.header.source, at("[::1]:80"));
  EXPECT_EQ(result.header.destination, at("[::2]:443"));

  std::string a = "/run/a.sock", b = std::string("\0abstract", 9);
  a.resize(108);
  b.resize(108);
  header = v2(0x21, 0x31, a + b);
  expect_incremental(header);
  result = parse_proxy_protocol(header);
  EXPECT_EQ(result.header.source.to_string(), "unix:/run/a.sock");
  EXPECT_EQ(result.header.destination.to_string(), "unix:@abstract");
  EXPECT_TRUE(parse_proxy_protocol(v2(0x21, 0x31, std::string(216, '\0'))).header.source.is_unix());
  EXPECT_EQ(parse_proxy_protocol(v2(0x21, 0x31, std::string(216, 'x'))).header.source.path().size(), 108u);
}

TEST(ProxyProtocol, V2WithoutAddresses) {
  for (std::string header : {v2(0x20, 0x00, ""), v2(0x20, 0x11, kFour), v2(0x20, 0xff, "whatever is here is skipped"),
                             v2(0x21, 0x00, ""), v2(0x21, 0x00, tlv(0x02, "host")), v2(0x21, 0x10, kFour)}) {
    expect_incremental(header);
    ProxyProtocolResult result = parse_proxy_protocol(header);
    EXPECT_TRUE(result.header.local);
    EXPECT_TRUE(result.header.source.is_none());
  }
  EXPECT_EQ(parse_proxy_protocol(v2(0x21, 0x00, tlv(0x02, "host"))).header.tlvs.authority, "host");
}

TEST(ProxyProtocol, V2Tlvs) {
  std::string ssl = std::string("\x05\x00\x00\x00\x00", 5) + tlv(0x21, "TLSv1.3") + tlv(0x22, "client");
  std::string header = v2(0x21, 0x11,
                          kFour + tlv(0x01, "h2") + tlv(0x02, "a.example") + tlv(0x04, "padding") + tlv(0x05, "id-1") +
                              tlv(0x30, "ns") + tlv(0xea, "custom") + tlv(0x20, ssl));
  expect_incremental(header);
  ProxyProtocolTlvs tlvs = parse_proxy_protocol(header).header.tlvs;
  EXPECT_EQ(tlvs.alpn, "h2");
  EXPECT_EQ(tlvs.authority, "a.example");
  EXPECT_EQ(tlvs.unique_id, "id-1");
  EXPECT_EQ(tlvs.netns, "ns");
  EXPECT_TRUE(tlvs.ssl);
  EXPECT_TRUE(tlvs.ssl_client_verified);
  EXPECT_EQ(tlvs.ssl_version, "TLSv1.3");
  EXPECT_EQ(tlvs.ssl_client_cn, "client");

  std::string unverified = v2(0x21, 0x11, kFour + tlv(0x20, std::string("\x05\x00\x00\x00\x01", 5)));
  EXPECT_FALSE(parse_proxy_protocol(unverified).header.tlvs.ssl_client_verified);
  std::string no_certificate = v2(0x21, 0x11, kFour + tlv(0x20, std::string("\x01\x00\x00\x00\x00", 5)));
  EXPECT_TRUE(parse_proxy_protocol(no_certificate).header.tlvs.ssl);
  EXPECT_FALSE(parse_proxy_protocol(no_certificate).header.tlvs.ssl_client_verified);
}

TEST(ProxyProtocol, V2RefusesMalformedHeaders) {
  expect_invalid(v2(0x11, 0x11, kFour), "version");
  expect_invalid(v2(0x22, 0x11, kFour), "command");
  expect_invalid(v2(0x21, 0x41, kFour), "family or transport");
  expect_invalid(v2(0x21, 0x13, kFour), "family or transport");
  expect_invalid(v2(0x21, 0x11, kFour.substr(0, 11)), "too short");
  expect_invalid(v2(0x21, 0x21, kFour), "too short");
  expect_invalid(v2(0x21, 0x31, std::string(215, 'x')), "too short");
  expect_invalid(v2(0x21, 0x11, kFour + "x"), "TLV is cut short");
  expect_invalid(v2(0x21, 0x11, kFour + std::string("\x01\x00\x05xx", 5)), "TLV is cut short");
  expect_invalid(v2(0x21, 0x11, kFour + tlv(0x05, std::string(129, 'x'))), "unique id");
  expect_invalid(v2(0x21, 0x11, kFour + tlv(0x03, "abc")), "four bytes");
  expect_invalid(v2(0x21, 0x11, kFour + tlv(0x03, "abcd")), "checksum is wrong");
  expect_invalid(v2(0x21, 0x11, kFour + tlv(0x20, "abc")), "SSL TLV is cut short");
  expect_invalid(v2(0x21, 0x11, kFour + tlv(0x20, std::string("\0\0\0\0\0\x21\x00\x09x", 9))), "inside the SSL TLV");
  // Refused before the bytes that it announces have come.
  expect_invalid(v2(0x21, 0x11, kFour + tlv(0x04, std::string(5000, '\0'))).substr(0, 16), "4112");
}

TEST(ProxyProtocol, V2LargestHeader) {
  std::string header = v2(0x21, 0x11, kFour + tlv(0x04, std::string(4096 - 12 - 3, '\0')));
  EXPECT_EQ(header.size(), kProxyProtocolV2Max);
  EXPECT_EQ(parse_proxy_protocol(header).status, Status::kDone);
}

TEST(ProxyProtocol, WritesV1) {
  EXPECT_EQ(write_proxy_protocol_v1(at("1.2.3.4:80"), at("5.6.7.8:443")), "PROXY TCP4 1.2.3.4 5.6.7.8 80 443\r\n");
  EXPECT_EQ(write_proxy_protocol_v1(at("[::1]:80"), at("[fe80::1%1]:443")), "PROXY TCP6 ::1 fe80::1 80 443\r\n");
  EXPECT_EQ(write_proxy_protocol_v1(at("1.2.3.4:80"), at("[::1]:443")), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(write_proxy_protocol_v1(at("unix:/a"), at("unix:/b")), "PROXY UNKNOWN\r\n");
  EXPECT_EQ(write_proxy_protocol_v1({}, {}), "PROXY UNKNOWN\r\n");
}

TEST(ProxyProtocol, ReadsWhatItWrites) {
  std::pair<Address, Address> pairs[] = {
      {at("1.2.3.4:80"), at("5.6.7.8:443")}, {at("[2001:db8::1]:80"), at("[::2]:443")}, {at("unix:/a"), at("unix:@b")}};
  for (const auto& [source, destination] : pairs) {
    for (bool checksum : {false, true}) {
      std::string header = write_proxy_protocol_v2(
          source, destination, {.alpn = "h2", .authority = "a.example", .unique_id = "u", .checksum = checksum});
      expect_incremental(header);
      ProxyProtocolResult result = parse_proxy_protocol(header);
      EXPECT_EQ(result.header.source, source);
      EXPECT_EQ(result.header.destination, destination);
      EXPECT_EQ(result.header.tlvs.alpn, "h2");
      EXPECT_EQ(result.header.tlvs.authority, "a.example");
      EXPECT_EQ(result.header.tlvs.unique_id, "u");
      if (!checksum) continue;
      header[20] ^= 1;
      expect_invalid(header, "checksum is wrong");
    }
    std::string line = write_proxy_protocol_v1(source, destination);
    EXPECT_EQ(parse_proxy_protocol(line).status, Status::kDone);
  }
  std::string local = write_proxy_protocol_v2({}, {}, {.checksum = true});
  EXPECT_TRUE(parse_proxy_protocol(local).header.local);
}

// Against a plain bit-by-bit computation.
TEST(ProxyProtocol, ChecksumIsCrc32c) {
  std::string header = write_proxy_protocol_v2(at("1.2.3.4:80"), at("5.6.7.8:443"), {.checksum = true});
  std::string zeroed = header.substr(0, header.size() - 4) + std::string(4, '\0');
  uint32_t crc = ~0u;
  for (unsigned char byte : zeroed) {
    crc ^= byte;
    for (int i = 0; i < 8; ++i) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
  }
  crc = ~crc;
  std::string stored = header.substr(header.size() - 4);
  EXPECT_EQ(static_cast<uint8_t>(stored[0]), crc >> 24);
  EXPECT_EQ(static_cast<uint8_t>(stored[3]), crc & 0xff);
}

TEST(ProxyProtocol, SurvivesRandomBytes) {
  std::mt19937 random(1);
  std::string base = write_proxy_protocol_v2(at("1.2.3.4:80"), at("5.6.7.8:443"), {.alpn = "h2", .authority = "a"});
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = i % 2 ? base : "PROXY TCP4 1.2.3.4 5.6.7.8 80 443\r\n";
    for (int flips = random() % 4; flips >= 0; --flips) bytes[random() % bytes.size()] = static_cast<char>(random());
    bytes.resize(random() % (bytes.size() + 1));
    ProxyProtocolResult result = parse_proxy_protocol(bytes);
    if (result.status == Status::kDone) {
      EXPECT_LE(result.consumed, bytes.size());
    }
  }
}

}  // namespace
}  // namespace sluice::net
