// An HTTP/1 request, read by us and by llhttp in its strict mode: what we accept, llhttp accepts too, with the same
// method, target, number of fields and body. What we refuse is not compared: we are stricter.
//
// Exceptions, where llhttp is narrower without a difference in framing:
//  - methods that it has no name for, or knows from other protocols (RTSP, ICE);
//  - bytes in the request target that it does not let into a URL, and its own reading of absolute URLs;
//  - chunk extensions that are no list of tokens and quoted strings.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "http1_messages.h"
#include "llhttp_oracle.h"

using namespace sluice;

namespace {

bool is_exception(const fuzz::OracleMessage& theirs, std::string_view body) {
  switch (theirs.error) {
    case HPE_INVALID_METHOD:
    case HPE_INVALID_URL:
    case HPE_PAUSED_H2_UPGRADE:
      return true;
    case HPE_INVALID_CONSTANT:  // "Invalid method for HTTP/x.x request", "Expected SOURCE method for ICE/x.x request" …
    case HPE_INVALID_VERSION:
      return theirs.reason.find("method") != std::string::npos;
    default:
      return theirs.head_complete && fuzz::has_chunk_extension(body);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  http::HeadScanner scanner;
  if (scanner.scan(input.data(), input.size()) != http::HeadScanner::Result::kComplete) return 0;
  const std::string_view text = input.substr(0, scanner.length());
  if (text.size() > 2 && text.substr(text.size() - 4) != "\r\n\r\n") std::abort();

  Arena arena;
  http::RequestHead head;
  head.headers = http::HeaderMap(&arena);
  http::Framing framing;
  std::vector<char> bytes(text.begin(), text.end());
  const std::string_view error = http::parse_request_head(bytes.data(), bytes.size(), 100, head, framing);
  if (!error.empty()) return 0;
  fuzz::check_fields(head.headers);
  if (head.version == http::Protocol::kHttp10 && framing.body == http::Framing::Body::kChunked) std::abort();
  if (framing.body == http::Framing::Body::kUntilClose) std::abort();

  const std::string_view rest = input.substr(text.size());
  const fuzz::Body body = fuzz::read_body(rest, framing);
  if (body.failed) return 0;

  const fuzz::OracleMessage theirs = fuzz::Oracle::parse(input, HTTP_REQUEST);
  if (theirs.error != HPE_OK && theirs.error != HPE_PAUSED && theirs.error != HPE_PAUSED_UPGRADE) {
    if (is_exception(theirs, rest)) return 0;
    // A trailer section that is not complete: we have not looked at it yet.
    if (theirs.head_complete && !body.complete) return 0;
    fuzz::disagree("refused", text, llhttp_errno_name(theirs.error) + (": " + theirs.reason));
  }
  if (!theirs.head_complete) fuzz::disagree("head", text, "incomplete");
  if (theirs.method != head.method_text) fuzz::disagree("method", head.method_text, theirs.method);
  const size_t target_at = head.method_text.size() + 1;
  const std::string_view target = text.substr(target_at, text.find(' ', target_at) - target_at);
  if (theirs.url != target) fuzz::disagree("target", target, theirs.url);
  if (head.method != http::Method::kConnect && target.front() == '/' && target != head.path) std::abort();
  if (theirs.minor != (head.version == http::Protocol::kHttp11 ? 1 : 0)) std::abort();
  if (theirs.fields != fuzz::count_lines(text)) fuzz::disagree("fields", text, std::to_string(theirs.fields));
  // What a CONNECT carries is not a body to llhttp.
  if (head.method == http::Method::kConnect) return 0;
  if (theirs.chunked != (framing.body == http::Framing::Body::kChunked)) fuzz::disagree("chunked", text, "differs");
  if (!theirs.chunked && theirs.content_length != framing.length) fuzz::disagree("length", text, "differs");
  if (theirs.complete != body.complete) fuzz::disagree("completeness", body.bytes, theirs.body);
  if (theirs.body != body.bytes) fuzz::disagree("body", body.bytes, theirs.body);
  return 0;
}
