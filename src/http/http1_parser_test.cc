#include "http/http1_parser.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace sluice::http {
namespace {

// A head in a buffer of exactly its size, so that a sanitizer sees every byte read too many.
struct Parsed {
  Arena arena;
  std::vector<char> bytes;
  RequestHead request;
  ResponseHead response;
  Framing framing;
  std::string error;
};

std::unique_ptr<Parsed> parse_request(std::string_view text, uint32_t max_fields = 100) {
  auto parsed = std::make_unique<Parsed>();
  parsed->bytes.assign(text.begin(), text.end());
  parsed->request.headers = HeaderMap(&parsed->arena);
  parsed->error =
      parse_request_head(parsed->bytes.data(), parsed->bytes.size(), max_fields, parsed->request, parsed->framing);
  return parsed;
}

std::unique_ptr<Parsed> parse_response(std::string_view text, Method method = Method::kGet, bool upgrade = false,
                                       uint32_t max_fields = 100) {
  auto parsed = std::make_unique<Parsed>();
  parsed->bytes.assign(text.begin(), text.end());
  parsed->response.headers = HeaderMap(&parsed->arena);
  parsed->error = parse_response_head(parsed->bytes.data(), parsed->bytes.size(), max_fields, method, upgrade,
                                      parsed->response, parsed->framing);
  return parsed;
}

std::string show(const HeaderMap& map) {
  std::string out;
  for (const HeaderField& field : map) out += std::string(field.name()) + "=" + std::string(field.value()) + ";";
  return out;
}

std::string describe(Framing::Body body) {
  switch (body) {
    case Framing::Body::kNone:
      return "none";
    case Framing::Body::kLength:
      return "length";
    case Framing::Body::kChunked:
      return "chunked";
    case Framing::Body::kUntilClose:
      return "until-close";
  }
  return "?";
}

// --- HeadScanner ---

struct Scan {
  HeadScanner::Result result;
  size_t length;
  size_t after;  // bytes seen when the result came
};

// Feeds `text` in pieces that end at the given positions.
Scan scan(std::string_view text, const std::vector<size_t>& ends) {
  HeadScanner scanner;
  for (size_t end : ends) {
    // A fresh copy each time: the scanner must not remember pointers.
    const std::vector<char> bytes(text.begin(), text.begin() + static_cast<ptrdiff_t>(end));
    const HeadScanner::Result result = scanner.scan(bytes.data(), bytes.size());
    if (result != HeadScanner::Result::kNeedMore) return {result, scanner.length(), end};
  }
  return {HeadScanner::Result::kNeedMore, scanner.length(), text.size()};
}

TEST(HeadScanner, FindsTheSameEndHoweverTheBytesArrive) {
  const struct {
    std::string text;
    HeadScanner::Result result;
    size_t length;
  } cases[] = {
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", HeadScanner::Result::kComplete, 27},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\nrest\r\n\r\n", HeadScanner::Result::kComplete, 27},
      {"\r\n", HeadScanner::Result::kComplete, 2},
      {"a: b\r\n\r\n", HeadScanner::Result::kComplete, 8},
      {"GET / HTTP/1.1\r\nhost: a\r\n", HeadScanner::Result::kNeedMore, 0},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r", HeadScanner::Result::kNeedMore, 0},
      {"GET / HTTP/1.1\n\n", HeadScanner::Result::kBareLineFeed, 0},
      {"GET / HTTP/1.1\r\na: b\n\r\n", HeadScanner::Result::kBareLineFeed, 0},
      {"GET / HTTP/1.1\r\n\n", HeadScanner::Result::kBareLineFeed, 0},
      {"\n", HeadScanner::Result::kBareLineFeed, 0},
      // A bare CR is not a line end; the parser refuses it.
      {"a\rb: c\r\n\r\n", HeadScanner::Result::kComplete, 10},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    const size_t n = c.text.size();
    std::vector<size_t> one_by_one;
    for (size_t i = 1; i <= n; ++i) one_by_one.push_back(i);
    std::vector<std::vector<size_t>> ways = {{n}, one_by_one};
    for (size_t i = 1; i < n; ++i) ways.push_back({i, n});
    for (const auto& ends : ways) {
      const Scan found = scan(c.text, ends);
      ASSERT_EQ(found.result, c.result);
      if (c.result == HeadScanner::Result::kComplete) {
        ASSERT_EQ(found.length, c.length);
      }
    }
    if (c.result == HeadScanner::Result::kComplete) EXPECT_EQ(scan(c.text, one_by_one).after, c.length);
  }
}

// --- Request heads ---

TEST(RequestHead, IsRead) {
  auto p = parse_request(
      "POST /a/b?c=d HTTP/1.1\r\nHost: Example.com:8080\r\nX-Own:  spaced \t\r\nContent-Length: 12\r\n"
      "User-Agent: x\r\nEMPTY:\r\nAccept: a\r\naccept: b\r\n\r\n");
  ASSERT_EQ(p->error, "");
  EXPECT_EQ(p->request.method, Method::kPost);
  EXPECT_EQ(p->request.method_text, "POST");
  EXPECT_EQ(p->request.path, "/a/b?c=d");
  EXPECT_EQ(p->request.authority, "Example.com:8080");
  EXPECT_EQ(p->request.version, Protocol::kHttp11);
  EXPECT_EQ(p->request.content_length, 12);
  EXPECT_EQ(p->framing.body, Framing::Body::kLength);
  EXPECT_EQ(p->framing.length, 12u);
  EXPECT_TRUE(p->framing.keep_alive);
  EXPECT_EQ(show(p->request.headers), "x-own=spaced;user-agent=x;empty=;accept=a;accept=b;");
  EXPECT_EQ(p->request.headers.find("user-agent")->id, HeaderId::kUserAgent);
}

TEST(RequestHead, Accepted) {
  const struct {
    const char* text;
    const char* method;
    const char* authority;
    const char* path;
    const char* body;
    bool keep_alive;
    const char* headers;
  } cases[] = {
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "a", "/", "none", true, ""},
      {"GET / HTTP/1.1\r\nHOST:\r\n\r\n", "GET", "", "/", "none", true, ""},
      {"GET / HTTP/1.0\r\n\r\n", "GET", "", "/", "none", false, ""},
      {"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", "GET", "", "/", "none", true, ""},
      {"GET / HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n", "GET", "", "/", "none", false, ""},
      {"GET / HTTP/1.1\r\nhost: a\r\nconnection: Close\r\n\r\n", "GET", "a", "/", "none", false, ""},
      {"PROPFIND / HTTP/1.1\r\nhost: a\r\n\r\n", "PROPFIND", "a", "/", "none", true, ""},
      {"M-SEARCH /x HTTP/1.1\r\nhost: a\r\n\r\n", "M-SEARCH", "a", "/x", "none", true, ""},
      {"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "OPTIONS", "a", "*", "none", true, ""},
      {"CONNECT a.b:443 HTTP/1.1\r\nhost: a.b\r\n\r\n", "CONNECT", "a.b:443", "", "none", true, ""},
      {"CONNECT [::1]:443 HTTP/1.1\r\nhost: [::1]:443\r\n\r\n", "CONNECT", "[::1]:443", "", "none", true, ""},
      // absolute-form wins over Host (RFC 9112 §3.2.2)
      {"GET http://x.y/p?q HTTP/1.1\r\nhost: other\r\n\r\n", "GET", "x.y", "/p?q", "none", true, ""},
      {"GET HTTPS://x.y:1 HTTP/1.1\r\nhost: other\r\n\r\n", "GET", "x.y:1", "/", "none", true, ""},
      {"GET http://x.y?q HTTP/1.1\r\nhost: other\r\n\r\n", "GET", "x.y", "/?q", "none", true, ""},
      {"GET http://[::1]:80/a HTTP/1.1\r\nhost: other\r\n\r\n", "GET", "[::1]:80", "/a", "none", true, ""},
      // bodies
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", "POST", "a", "/", "none", true, ""},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 007\r\n\r\n", "POST", "a", "/", "length", true, ""},
      {"POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n", "POST", "a", "/", "chunked", true, ""},
      {"GET / HTTP/1.0\r\ncontent-length: 3\r\n\r\n", "GET", "", "/", "length", false, ""},
      // hop-by-hop fields are taken out, and what Connection names
      {"GET / HTTP/1.1\r\nhost: a\r\nconnection: X-Mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 5\r\n"
       "proxy-connection: x\r\nte: gzip\r\nhttp2-settings: z\r\nx-stays: 2\r\n\r\n",
       "GET", "a", "/", "none", true, "x-stays=2;"},
      {"GET / HTTP/1.1\r\nhost: a\r\nte: gzip, trailers\r\n\r\n", "GET", "a", "/", "none", true, "te=gzip, trailers;"},
      // Connection must not take out what frames or routes the message
      {"POST / HTTP/1.1\r\nhost: a\r\nconnection: content-length, host\r\ncontent-length: 3\r\n\r\n", "POST", "a", "/",
       "length", true, ""},
      // upgrade that is not asked for in Connection is dropped
      {"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n", "GET", "a", "/", "none", true, ""},
      // bytes above 0x7f in values and in the target
      {"GET /\xc3\xa4 HTTP/1.1\r\nhost: a\r\nx: \xff\xfe\r\n\r\n", "GET", "a", "/\xc3\xa4", "none", true,
       "x=\xff\xfe;"},
      {"GET // HTTP/1.1\r\nhost: a\r\n\r\n", "GET", "a", "//", "none", true, ""},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    auto p = parse_request(c.text);
    ASSERT_EQ(p->error, "");
    EXPECT_EQ(p->request.method_text, c.method);
    EXPECT_EQ(p->request.authority, c.authority);
    EXPECT_EQ(p->request.path, c.path);
    EXPECT_EQ(describe(p->framing.body), c.body);
    EXPECT_EQ(p->framing.keep_alive, c.keep_alive);
    EXPECT_EQ(show(p->request.headers), c.headers);
    EXPECT_EQ(p->request.upgrade, "");
  }
}

TEST(RequestHead, Refused) {
  const std::string host = "host: a\r\n";
  const std::string start = "POST / HTTP/1.1\r\n" + host;
  const struct {
    std::string text;
    int status;
  } cases[] = {
      // request line
      {"\r\n", 400},
      {" GET / HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET /  HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET /\tHTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
      {"GET /a b HTTP/1.1\r\n" + host + "\r\n", 400},
      {"G(T / HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET /#f HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET /\x7f HTTP/1.1\r\n" + host + "\r\n", 400},
      {std::string("GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", 28), 400},
      {"GET /\rx HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET /\r\n\r\n", 400},
      {"USER a b\r\n\r\n", 0},  // no HTTP at all
      {"GET / HTTP/1.2\r\n" + host + "\r\n", 400},
      {"GET / HTTP/2.0\r\n" + host + "\r\n", 400},
      {"GET / http/1.1\r\n" + host + "\r\n", 400},
      {"GET / HTTP/1.1x\r\n" + host + "\r\n", 400},
      {"GET / HTTP/11\r\n" + host + "\r\n", 400},
      {"GET a HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET http:///p HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET http://u@a/ HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET http:// HTTP/1.1\r\n" + host + "\r\n", 400},
      {"CONNECT a HTTP/1.1\r\n" + host + "\r\n", 400},
      {"CONNECT /a:1 HTTP/1.1\r\n" + host + "\r\n", 400},
      {"CONNECT a:x HTTP/1.1\r\n" + host + "\r\n", 400},
      // Host
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a:8o\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a:123456\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: ::1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: a\\b\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nhost: \xc3\xa4\r\n\r\n", 400},
      // field lines
      {start + "x : 1\r\n\r\n", 400},
      {start + " x: 1\r\n\r\n", 400},
      {start + "x: 1\r\n folded\r\n\r\n", 400},
      {start + "x: 1\r\n\tfolded\r\n\r\n", 400},
      {start + ": 1\r\n\r\n", 400},
      {start + "x\r\n\r\n", 400},
      {start + "x(y): 1\r\n\r\n", 400},
      {start + "x y: 1\r\n\r\n", 400},
      {start + "\xc3\xa4: 1\r\n\r\n", 400},
      {start + "x: a\rb\r\n\r\n", 400},
      {start + "x: a\x01\r\n\r\n", 400},
      {start + "x: a\x7f\r\n\r\n", 400},
      {start + "x: a\r\r\n\r\n", 400},
      {start + std::string("x: a\0b\r\n\r\n", 10), 400},
      {start + std::string("x\0: a\r\n\r\n", 9), 400},
      {start + std::string("x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x0b\r\n\r\n"), 400},
      // Content-Length
      {start + "content-length: 1\r\ncontent-length: 1\r\n\r\n", 400},
      {start + "content-length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {start + "content-length: 1, 1\r\n\r\n", 400},
      {start + "content-length:\r\n\r\n", 400},
      {start + "content-length: -1\r\n\r\n", 400},
      {start + "content-length: +1\r\n\r\n", 400},
      {start + "content-length: 1 2\r\n\r\n", 400},
      {start + "content-length: 0x10\r\n\r\n", 400},
      {start + "content-length: 1.0\r\n\r\n", 400},
      {start + "content-length: 1e3\r\n\r\n", 400},
      {start + "content-length: 18446744073709551617\r\n\r\n", 400},
      {start + "content-length: 9999999999999999999\r\n\r\n", 400},
      // Transfer-Encoding
      {start + "transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", 400},
      {start + "content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n", 400},
      {start + "content-length: x\r\ntransfer-encoding: chunked\r\n\r\n", 400},
      {start + "transfer-encoding: gzip\r\n\r\n", 400},
      {start + "transfer-encoding: gzip, chunked\r\n\r\n", 400},
      {start + "transfer-encoding: chunked, chunked\r\n\r\n", 400},
      {start + "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", 400},
      {start + "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n", 400},
      {start + "transfer-encoding: xchunked\r\n\r\n", 400},
      {start + "transfer-encoding: chunked\t\r\n\r\n", 400},
      {start + "content-length:\t1\r\n\r\n", 400},
      {start + "transfer-encoding: \"chunked\"\r\n\r\n", 400},
      {start + "transfer-encoding: chunked;a=b\r\n\r\n", 400},
      {start + "transfer-encoding:\r\n\r\n", 400},
      {start + "transfer-encoding: \x0b"
               "chunked\r\n\r\n",
       400},
      {"POST / HTTP/1.0\r\n" + host + "transfer-encoding: chunked\r\n\r\n", 400},
      // others
      {start + "expect: 200-ok\r\n\r\n", 417},
  };
  for (const auto& c : cases) {
    auto p = parse_request(c.text);
    EXPECT_NE(p->error, "") << c.text;
    EXPECT_EQ(p->framing.status, c.status) << c.text;
  }
}

TEST(RequestHead, BoundsTheFields) {
  std::string text = "GET / HTTP/1.1\r\nhost: a\r\n";
  for (int i = 0; i < 9; ++i) text += "x: y\r\n";
  EXPECT_EQ(parse_request(text + "\r\n", 10)->error, "");
  auto p = parse_request(text + "x: y\r\n\r\n", 10);
  EXPECT_NE(p->error, "");
  EXPECT_EQ(p->framing.status, 431);
  EXPECT_NE(parse_request("GET / HTTP/1.1\r\nhost: a\r\n" + std::string(70'000, 'n') + ": v\r\n\r\n")->error, "");
}

TEST(RequestHead, UpgradesAndExpectations) {
  const std::string start = "GET / HTTP/1.1\r\nhost: a\r\n";
  const struct {
    std::string fields;
    const char* upgrade;
  } cases[] = {
      {"connection: upgrade\r\nupgrade: websocket\r\n", "websocket"},
      {"connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n", "WebSocket"},
      {"connection: upgrade\r\nupgrade: foo\r\n", "foo"},
      {"connection: upgrade\r\nupgrade: h2c\r\n", ""},
      {"connection: upgrade\r\nupgrade: H2C\r\n", ""},
      {"connection: upgrade\r\nupgrade: a, b\r\n", ""},
      {"connection: upgrade\r\nupgrade: a\r\nupgrade: b\r\n", ""},
      {"connection: upgrade\r\nupgrade:\r\n", ""},
      {"connection: upgrade\r\n", ""},
      {"connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 3\r\n", ""},
  };
  for (const auto& c : cases) {
    auto p = parse_request(start + c.fields + "\r\n");
    EXPECT_EQ(p->error, "") << c.fields;
    EXPECT_EQ(p->request.upgrade, c.upgrade) << c.fields;
    EXPECT_EQ(show(p->request.headers), "") << c.fields;
  }
  EXPECT_EQ(parse_request("GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")->request.upgrade, "");

  EXPECT_TRUE(parse_request(start + "expect: 100-Continue\r\ncontent-length: 3\r\n\r\n")->request.expect_continue);
  EXPECT_FALSE(parse_request(start + "expect: 100-continue\r\n\r\n")->request.expect_continue) << "no body";
  EXPECT_FALSE(
      parse_request("PUT / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")->request.expect_continue);
}

// Every prefix of a good head is refused or incomplete, never read beyond.
TEST(RequestHead, TruncationIsHarmless) {
  const std::string text =
      "POST http://a.b/c HTTP/1.1\r\nhost: a\r\nconnection: x\r\nx: y\r\ncontent-length: 5\r\n\r\n";
  for (size_t n = 0; n < text.size(); ++n) EXPECT_NE(parse_request(text.substr(0, n))->error, "") << n;
}

// --- Response heads ---

TEST(ResponseHead, Accepted) {
  const struct {
    const char* text;
    Method method;
    int status;
    const char* body;
    int64_t length;
    bool keep_alive;
    const char* headers;
  } cases[] = {
      {"HTTP/1.1 200 OK\r\n\r\n", Method::kGet, 200, "until-close", -1, false, ""},
      {"HTTP/1.1 200\r\nA: b\r\n\r\n", Method::kGet, 200, "until-close", -1, false, "a=b;"},
      {"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n", Method::kGet, 200, "length", 5, true, ""},
      {"HTTP/1.1 200 \xc3\xa4 (x)\r\ncontent-length: 0\r\n\r\n", Method::kGet, 200, "none", 0, true, ""},
      {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n", Method::kGet, 200, "length", 5, true, ""},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Method::kGet, 200, "chunked", -1, true, ""},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n", Method::kGet, 200, "chunked", -1,
       false, ""},
      {"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\n", Method::kGet, 200, "length", 1, false, ""},
      {"HTTP/1.0 200 OK\r\ncontent-length: 1\r\nconnection: keep-alive\r\n\r\n", Method::kGet, 200, "length", 1, true,
       ""},
      // no body whatever the fields say
      {"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Method::kHead, 200, "none", 5, true, ""},
      {"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Method::kHead, 200, "none", -1, true, ""},
      {"HTTP/1.1 204 No Content\r\n\r\n", Method::kGet, 204, "none", -1, true, ""},
      {"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", Method::kGet, 304, "none", 9, true, ""},
      {"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", Method::kGet, 103, "none", -1, true, "link=x;"},
      {"HTTP/1.1 599 x\r\ncontent-length: 0\r\nconnection: x-a\r\nx-a: 1\r\nserver: s\r\n\r\n", Method::kGet, 599,
       "none", 0, true, "server=s;"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    auto p = parse_response(c.text, c.method);
    ASSERT_EQ(p->error, "");
    EXPECT_EQ(p->response.status, c.status);
    EXPECT_EQ(describe(p->framing.body), c.body);
    EXPECT_EQ(p->response.content_length, c.length);
    EXPECT_EQ(p->framing.keep_alive, c.keep_alive);
    EXPECT_EQ(show(p->response.headers), c.headers);
    EXPECT_FALSE(p->response.upgrade);
  }
}

TEST(ResponseHead, Refused) {
  const std::string start = "HTTP/1.1 200 OK\r\n";
  const std::string cases[] = {
      "\r\n",
      "HTTP/1.1\r\n\r\n",
      "HTTP/1.1 20\r\n\r\n",
      "HTTP/1.1 2000\r\n\r\n",
      "HTTP/1.1 20x OK\r\n\r\n",
      "HTTP/1.1 099 OK\r\n\r\n",
      "HTTP/1.1 600 OK\r\n\r\n",
      "HTTP/1.1  200 OK\r\n\r\n",
      "HTTP/1.1\t200 OK\r\n\r\n",
      "HTTP/2.0 200 OK\r\n\r\n",
      "HTTP/1.2 200 OK\r\n\r\n",
      "http/1.1 200 OK\r\n\r\n",
      "ICY 200 OK\r\n\r\n",
      "HTTP/1.1 200 a\rb\r\n\r\n",
      "HTTP/1.1 200 a\x01\r\n\r\n",
      start + "x : 1\r\n\r\n",
      start + "x: 1\r\n y\r\n\r\n",
      start + ": 1\r\n\r\n",
      start + "x: \x7f\r\n\r\n",
      start + "content-length: 1\r\ncontent-length: 2\r\n\r\n",
      start + "content-length: x\r\n\r\n",
      start + "content-length: 1,1\r\n\r\n",
      start + "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
      start + "transfer-encoding: gzip, chunked\r\n\r\n",
      start + "transfer-encoding: identity\r\n\r\n",
      start + "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
      "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
      "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
  };
  for (const std::string& text : cases) EXPECT_NE(parse_response(text)->error, "") << text;
  const std::string good = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: y\r\n\r\n";
  for (size_t n = 0; n < good.size(); ++n) EXPECT_NE(parse_response(good.substr(0, n))->error, "") << n;
  EXPECT_NE(parse_response(start + "a: 1\r\nb: 2\r\nc: 3\r\n\r\n", Method::kGet, false, 2)->error, "");
}

TEST(ResponseHead, Switches) {
  auto p = parse_response("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\nx: y\r\n\r\n",
                          Method::kGet, true);
  ASSERT_EQ(p->error, "");
  EXPECT_TRUE(p->response.upgrade);
  EXPECT_EQ(p->response.headers.get("upgrade"), "websocket");
  EXPECT_EQ(p->framing.body, Framing::Body::kUntilClose);
  EXPECT_FALSE(p->framing.keep_alive);
}

// --- Chunked bodies ---

struct Decoded {
  std::string body;
  std::string rest;  // what follows the last chunk
  bool ended = false, failed = false;
};

Decoded decode(std::string_view text, const std::vector<size_t>& ends) {
  Decoded out;
  ChunkedDecoder decoder;
  size_t begin = 0;
  for (size_t end : ends) {
    const std::vector<char> piece(text.begin() + static_cast<ptrdiff_t>(begin),
                                  text.begin() + static_cast<ptrdiff_t>(end));
    begin = end;
    size_t at = 0;
    while (at < piece.size() && !out.ended && !out.failed) {
      size_t consumed = 0;
      switch (decoder.decode(piece.data() + at, piece.size() - at, consumed)) {
        case ChunkedDecoder::Event::kNeedMore:
          EXPECT_EQ(consumed, piece.size() - at);
          break;
        case ChunkedDecoder::Event::kData:
          EXPECT_GT(decoder.length(), 0u);
          EXPECT_EQ(decoder.offset() + decoder.length(), consumed);
          out.body.append(piece.data() + at + decoder.offset(), decoder.length());
          break;
        case ChunkedDecoder::Event::kTrailers:
          out.ended = true;
          break;
        case ChunkedDecoder::Event::kError:
          out.failed = true;
          break;
      }
      at += consumed;
      if (testing::Test::HasFailure()) return out;
    }
    if (out.failed) return out;
    if (out.ended) out.rest.append(piece.begin() + static_cast<ptrdiff_t>(at), piece.end());
  }
  return out;
}

TEST(ChunkedDecoder, DecodesTheSameHoweverTheBytesArrive) {
  const struct {
    std::string text, body, rest;
    bool ended, failed;
  } cases[] = {
      {"5\r\nhello\r\n0\r\n\r\n", "hello", "\r\n", true, false},
      {"5\r\nhello\r\n6\r\n world\r\n0\r\nx: y\r\n\r\nGET", "hello world", "x: y\r\n\r\nGET", true, false},
      {"a;name=value; q=\"x\"\r\n0123456789\r\n0;last\r\n\r\n", "0123456789", "\r\n", true, false},
      {"0005\r\nhello\r\n000\r\n\r\n", "hello", "\r\n", true, false},
      {"0A\r\n0123456789\r\n0\r\n\r\n", "0123456789", "\r\n", true, false},
      {"0\r\n\r\n", "", "\r\n", true, false},
      {"3\r\n\r\n\r\r\n0\r\n\r\n", "\r\n\r", "\r\n", true, false},
      {"5\r\nhel", "hel", "", false, false},
      {"", "", "", false, false},
      {"\r\n", "", "", false, true},
      {"g\r\n", "", "", false, true},
      {"-5\r\n", "", "", false, true},
      {"+5\r\nhello\r\n", "", "", false, true},
      {"0x5\r\nhello\r\n", "", "", false, true},
      {" 5\r\nhello\r\n", "", "", false, true},
      {"5 \r\nhello\r\n", "", "", false, true},
      {"5\nhello\n0\n\n", "", "", false, true},
      {"5\rhello", "", "", false, true},
      {"5\r\nhelloX\r\n", "hello", "", false, true},
      {"5\r\nhello\n0\r\n\r\n", "hello", "", false, true},
      {"5\r\nhello\rX", "hello", "", false, true},
      {"5\r\nhello0\r\n\r\n", "hello", "", false, true},
      {"5;a\nb\r\nhello\r\n", "", "", false, true},
      {std::string("5;a\0b\r\nhello\r\n", 14), "", "", false, true},
      {"ffffffffffffffff\r\n", "", "", false, true},
      {"0000000000000000\r\n\r\n", "", "", false, true},
      {"5;" + std::string(2000, 'x') + "\r\nhello\r\n", "", "", false, true},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.text);
    const size_t n = c.text.size();
    std::vector<size_t> one_by_one;
    for (size_t i = 1; i <= n; ++i) one_by_one.push_back(i);
    std::vector<std::vector<size_t>> ways = {{n}, one_by_one};
    for (size_t i = 1; i < std::min<size_t>(n, 60); ++i) ways.push_back({i, n});
    for (const auto& ends : ways) {
      const Decoded got = decode(c.text, ends);
      ASSERT_EQ(got.body, c.body);
      ASSERT_EQ(got.ended, c.ended);
      ASSERT_EQ(got.failed, c.failed);
      if (c.ended) ASSERT_EQ(got.rest, c.rest);
    }
  }
}

TEST(ChunkedDecoder, TakesTheLargestSize) {
  ChunkedDecoder decoder;
  size_t consumed = 0;
  const std::string text = "fffffffffffffff\r\nx";
  EXPECT_EQ(decoder.decode(text.data(), text.size(), consumed), ChunkedDecoder::Event::kData);
  EXPECT_EQ(decoder.length(), 1u);
}

// --- Trailers ---

std::string trailers_of(std::string text, uint32_t max_fields = 10) {
  Arena arena;
  HeaderMap map(&arena);
  std::vector<char> bytes(text.begin(), text.end());
  const std::string_view error = parse_trailers(bytes.data(), bytes.size(), max_fields, map);
  return error.empty() ? show(map) : "error";
}

TEST(Trailers, AreFieldsThatFrameNothing) {
  EXPECT_EQ(trailers_of("\r\n"), "");
  EXPECT_EQ(trailers_of("Grpc-Status: 0\r\nx: y\r\n\r\n"), "grpc-status=0;x=y;");
  EXPECT_EQ(trailers_of("keep-alive: 1\r\nx: y\r\n\r\n"), "x=y;");
  for (const char* name : {"content-length", "Transfer-Encoding", "host", "connection", "upgrade", "te", "trailer"}) {
    EXPECT_EQ(trailers_of(std::string(name) + ": 1\r\n\r\n"), "error") << name;
  }
  for (const char* text :
       {"x : 1\r\n\r\n", " x: 1\r\n\r\n", "x\r\n\r\n", "x: a\rb\r\n\r\n", "x: 1\r\n", ": a\r\n\r\n"}) {
    EXPECT_EQ(trailers_of(text), "error") << text;
  }
  EXPECT_EQ(trailers_of("a: 1\r\nb: 2\r\nc: 3\r\n\r\n", 2), "error");
}

// --- Serialisers ---

TEST(Serialiser, RequestsRoundTrip) {
  Arena arena;
  RequestHead head;
  head.headers = HeaderMap(&arena);
  head.method_text = "POST";
  head.method = Method::kPost;
  head.path = "/p?q";
  head.authority = "a.b:80";
  head.content_length = 42;
  head.headers.add("x-own", "v");
  head.headers.add("empty", "");
  head.headers.add(HeaderId::kTe, "trailers");
  EXPECT_EQ(write_request_head(head, false).view(),
            "POST /p?q HTTP/1.1\r\nhost: a.b:80\r\nx-own: v\r\nempty: \r\ncontent-length: 42\r\n\r\n");
  auto p = parse_request(write_request_head(head, false).view());
  EXPECT_EQ(p->error, "");
  EXPECT_EQ(p->request.content_length, 42);
  EXPECT_EQ(show(p->request.headers), "x-own=v;empty=;");
  p = parse_request(write_request_head(head, true).view());
  EXPECT_EQ(p->error, "");
  EXPECT_EQ(describe(p->framing.body), "chunked");
  head.content_length = INT64_MAX / 100;
  EXPECT_EQ(parse_request(write_request_head(head, false).view())->request.content_length, INT64_MAX / 100);

  head.content_length = -1;
  head.upgrade = "websocket";
  head.method_text = "GET";
  const std::string text(write_request_head(head, false).view());
  EXPECT_NE(text.find("connection: upgrade\r\nupgrade: websocket\r\n"), std::string::npos);
  EXPECT_NE(text.find("sec-websocket-key: "), std::string::npos) << "an extended CONNECT brings no key";
  EXPECT_EQ(parse_request(text)->request.upgrade, "websocket");
  head.headers.add(HeaderId::kSecWebsocketKey, "theirs");
  const std::string with_key(write_request_head(head, false).view());
  EXPECT_EQ(with_key.find("sec-websocket-key", with_key.find("sec-websocket-key") + 1), std::string::npos);
}

TEST(Serialiser, ResponsesRoundTrip) {
  Arena arena;
  ResponseHead head;
  head.headers = HeaderMap(&arena);
  head.status = 404;
  head.headers.add("x", std::string_view("y"));
  head.content_length = 3;
  EXPECT_EQ(write_response_head(head, {}).view(), "HTTP/1.1 404 Not Found\r\nx: y\r\ncontent-length: 3\r\n\r\n");
  EXPECT_EQ(write_response_head(head, {.close = true, .no_length = true}).view(),
            "HTTP/1.1 404 Not Found\r\nx: y\r\nconnection: close\r\n\r\n");
  EXPECT_EQ(write_response_head(head, {.chunked = true, .keep_alive = true}).view(),
            "HTTP/1.1 404 Not Found\r\nx: y\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n");
  head.status = 599;
  EXPECT_EQ(parse_response(write_response_head(head, {}).view())->response.status, 599);
  head.status = 101;
  head.upgrade = true;
  EXPECT_NE(write_response_head(head, {.no_length = true}).view().find("connection: upgrade\r\n\r\n"),
            std::string_view::npos);
  // Many large fields: the size that is computed is enough.
  ResponseHead big;
  big.headers = HeaderMap(&arena);
  big.status = 200;
  for (int i = 0; i < 300; ++i)
    big.headers.add(arena.copy("x-" + std::to_string(i)), arena.copy(std::string(i * 7, 'v')));
  auto p = parse_response(write_response_head(big, {.chunked = true, .close = true}).view(), Method::kGet, false, 500);
  EXPECT_EQ(p->error, "");
  EXPECT_EQ(p->response.headers.size(), 300u);
}

TEST(Serialiser, TrailersAndChunks) {
  Arena arena;
  HeaderMap map(&arena);
  EXPECT_EQ(write_trailers(map).view(), "0\r\n\r\n");
  map.add("grpc-status", "0");
  EXPECT_EQ(write_trailers(map).view(), "0\r\ngrpc-status: 0\r\n\r\n");
  for (uint64_t size : {uint64_t{1}, uint64_t{15}, uint64_t{16}, uint64_t{65536}, UINT64_MAX}) {
    char text[18];
    const size_t n = write_chunk_header(text, size);
    ASSERT_LE(n, sizeof(text));
    ASSERT_EQ(std::string_view(text + n - 2, 2), "\r\n");
    EXPECT_EQ(std::stoull(std::string(text, n - 2), nullptr, 16), size);
  }
}

}  // namespace
}  // namespace sluice::http
