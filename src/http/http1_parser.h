#pragma once
// HTTP/1 message parsing (RFC 9112), strict: what two implementations could read differently is an error, never
// guessed.
//
// Refused: bare LF or CR, obs-fold, whitespace around a field name, empty or non-token names, control bytes in values,
// missing or several Host fields, Content-Length with Transfer-Encoding, several or malformed Content-Lengths, any
// Transfer-Encoding but a single `chunked`, Transfer-Encoding in HTTP/1.0, versions other than 1.0 and 1.1.
//
// Heads are parsed in place once they are complete: names are lower-cased in the buffer and fields refer to it.

#include <cstdint>
#include <string_view>

#include "base/slice_queue.h"
#include "http/headers.h"

namespace sluice::http {

// Finds the end of a head in bytes that arrive in pieces; each byte is looked at once.
class HeadScanner {
 public:
  enum class Result : uint8_t { kNeedMore, kComplete, kBareLineFeed };
  // `data` holds everything since the start of the head. On kComplete, length() is the head's length with its final
  // CRLF.
  Result scan(const char* data, size_t size);
  size_t length() const { return offset_; }
  void reset() { offset_ = line_start_ = 0; }

 private:
  size_t offset_ = 0;
  size_t line_start_ = 0;
};

// How the body of a message is delimited.
struct Framing {
  enum class Body : uint8_t { kNone, kLength, kChunked, kUntilClose } body = Body::kNone;
  uint64_t length = 0;
  bool keep_alive = true;
  int status = 400;  // of a refused request; 0: it is no HTTP/1 at all, an answer would mean nothing
};

// Parses a complete request head. On failure returns a description (static text) and sets framing.status; on success an
// empty view. `head.headers` must have an arena. Hop-by-hop fields are taken out: Connection and what it nominates,
// Keep-Alive, Proxy-Connection, TE (other than `trailers`), Upgrade (moved to head.upgrade, if acceptable),
// Transfer-Encoding, Content-Length (moved to head.content_length), Host (moved to head.authority), Expect.
std::string_view parse_request_head(char* data, size_t size, uint32_t max_fields, RequestHead& head, Framing& framing);

// Parses a complete response head. `request_method` decides about bodies (HEAD, CONNECT); `upgrade_requested`, whether
// a 101 is acceptable.
std::string_view parse_response_head(char* data, size_t size, uint32_t max_fields, Method request_method,
                                     bool upgrade_requested, ResponseHead& head, Framing& framing);

// Decodes a chunked body (RFC 9112 §7.1) incrementally.
class ChunkedDecoder {
 public:
  enum class Event : uint8_t {
    kNeedMore,
    kData,      // data() is a range of the input
    kTrailers,  // the last chunk has come; a trailer section of zero or more lines follows, to be fed to a HeadScanner
    kError,
  };
  // Consumes from `data`; sets `consumed`. On kData the payload is [data + offset(), +length()) and counts as consumed.
  Event decode(const char* data, size_t size, size_t& consumed);
  size_t offset() const { return payload_offset_; }
  size_t length() const { return payload_length_; }

 private:
  enum class State : uint8_t { kSize, kSizeDigits, kExtension, kSizeLf, kData, kDataCr, kDataLf };
  State state_ = State::kSize;
  uint8_t digits_ = 0;
  uint16_t extension_bytes_ = 0;
  uint64_t remaining_ = 0;
  size_t payload_offset_ = 0;
  size_t payload_length_ = 0;
};

// Parses a complete trailer section (lines and the final CRLF). Framing fields in it are an error.
std::string_view parse_trailers(char* data, size_t size, uint32_t max_fields, HeaderMap& trailers);

// Serialisation. Sizes are exact upper bounds of what the write functions produce; they return the end.
struct ResponseFraming {
  bool chunked = false;
  bool close = false;
  bool keep_alive = false;  // say so, to an HTTP/1.0 client
  bool no_length = false;   // state no length (204, 304 without one, 1xx, until close)
};
Slice write_response_head(const ResponseHead& head, const ResponseFraming& framing);
// `proxy_connection`: nothing. `chunked`: the body has no stated length.
Slice write_request_head(const RequestHead& head, bool chunked);
// The trailer section after the last chunk, with "0\r\n" in front.
Slice write_trailers(const HeaderMap& trailers);
// "<hex>\r\n" into `out` (at least 18 bytes); returns its length.
size_t write_chunk_header(char* out, uint64_t size);

}  // namespace sluice::http
