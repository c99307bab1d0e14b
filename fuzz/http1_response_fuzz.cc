// An HTTP/1 response, read by us and by llhttp in its strict mode: what we accept, llhttp accepts too, with the same
// status, number of fields and body. The first byte says what was asked: a HEAD, an upgrade, or a GET.
//
// Exceptions: chunk extensions; identical repeated Content-Length fields, which RFC 9112 §6.3 lets pass; reason phrases
// without the space before them.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "http1_messages.h"
#include "llhttp_oracle.h"

using namespace sluice;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool is_head = (data[0] & 3) == 1;
  const bool upgrade = (data[0] & 3) == 2;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  http::HeadScanner scanner;
  if (scanner.scan(input.data(), input.size()) != http::HeadScanner::Result::kComplete) return 0;
  const std::string_view text = input.substr(0, scanner.length());

  Arena arena;
  http::ResponseHead head;
  head.headers = http::HeaderMap(&arena);
  http::Framing framing;
  std::vector<char> bytes(text.begin(), text.end());
  const std::string_view error = http::parse_response_head(
      bytes.data(), bytes.size(), 100, is_head ? http::Method::kHead : http::Method::kGet, upgrade, head, framing);
  if (!error.empty()) return 0;
  fuzz::check_fields(head.headers);
  if (head.status < 100 || head.status > 599) std::abort();
  if (head.upgrade && head.status != 101) std::abort();

  const std::string_view rest = input.substr(text.size());
  const fuzz::Body body = fuzz::read_body(rest, framing);
  if (body.failed) return 0;

  // llhttp reads a body after 1xx, 204 and 304 if a length is stated; RFC 9112 §6.3 says there is none.
  const bool bodiless = is_head || head.status < 200 || head.status == 204 || head.status == 304;
  const fuzz::OracleMessage theirs = fuzz::Oracle::parse(input, HTTP_RESPONSE, bodiless);
  if (theirs.error != HPE_OK && theirs.error != HPE_PAUSED && theirs.error != HPE_PAUSED_UPGRADE) {
    if (theirs.reason == "Content-Length already present" || theirs.reason == "Duplicate Content-Length") return 0;
    if (theirs.head_complete && fuzz::has_chunk_extension(rest)) return 0;
    // A trailer section that is not complete: we have not looked at it yet.
    if (theirs.head_complete && !body.complete) return 0;
    fuzz::disagree("refused", text, llhttp_errno_name(theirs.error) + (": " + theirs.reason));
  }
  if (!theirs.head_complete) fuzz::disagree("head", text, "incomplete");
  if (theirs.status != head.status) std::abort();
  if (theirs.minor != (head.version == http::Protocol::kHttp11 ? 1 : 0)) std::abort();
  if (theirs.fields != fuzz::count_lines(text)) fuzz::disagree("fields", text, std::to_string(theirs.fields));
  if (framing.body == http::Framing::Body::kNone) {
    // An interim response is a message to us; llhttp reads it so too.
    if (!theirs.complete || !theirs.body.empty()) fuzz::disagree("body", "none", theirs.body);
    return 0;
  }
  if (head.upgrade) return 0;
  if (theirs.chunked != (framing.body == http::Framing::Body::kChunked)) fuzz::disagree("chunked", text, "differs");
  if (theirs.needs_eof != (framing.body == http::Framing::Body::kUntilClose))
    fuzz::disagree("until close", text, "differs");
  if (theirs.complete != body.complete) fuzz::disagree("completeness", body.bytes, theirs.body);
  if (theirs.body != body.bytes) fuzz::disagree("body", body.bytes, theirs.body);
  return 0;
}
