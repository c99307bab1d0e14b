#pragma once
// Between HPACK field lists and the message model: reading request and response heads (RFC 9113
// §8), writing them as nghttp2 name-value lists.

#include <nghttp2/nghttp2.h>

#include <string_view>
#include <vector>

#include "http/headers.h"
#include "http/http2_settings.h"

namespace sluice::http {

enum class HeadError : uint8_t {
  kNone,
  kTooLarge,   // over the header list limits
  kHostile,    // so far over them that the connection must end
  kMalformed,  // RFC 9113 §8.1.1
};

// Takes in the fields of one header block, in order, copying each into the head's arena once.
// nghttp2 has checked names, values, the order and presence of pseudo-header fields,
// connection-specific fields and content-length's syntax; what it leaves open is checked here.
class Http2HeadReader {
 public:
  explicit Http2HeadReader(const Http2Settings& settings) : settings_(&settings) {}

  // kTooLarge: the field was dropped, and all that follow are.
  HeadError add_request_field(RequestHead& head, std::string_view name, std::string_view value);
  HeadError add_response_field(ResponseHead& head, std::string_view name, std::string_view value);
  HeadError add_trailer(HeaderMap& trailers, std::string_view name, std::string_view value);

  // After the last field: joins cookies (§8.2.3), settles authority, turns an extended CONNECT (RFC
  // 8441) into the upgrade that it is, so that `head` looks like the HTTP/1.1 request of the same
  // meaning: method GET, `upgrade` set.
  HeadError finish_request(RequestHead& head);

  bool too_large() const { return too_large_; }
  bool extended_connect() const { return !protocol_.empty(); }
  // Ready for the next block.
  void reset() { *this = Http2HeadReader(*settings_); }

 private:
  HeadError count(std::string_view name, std::string_view value);

  const Http2Settings* settings_;
  uint64_t bytes_ = 0;
  uint32_t count_ = 0;
  uint32_t cookies_ = 0;
  uint32_t cookie_bytes_ = 0;
  bool too_large_ = false;
  std::string_view protocol_;
  std::string_view host_;
};

// A name-value list for nghttp2, which copies it: valid until the next one is made on this thread.
class Http2FieldList {
 public:
  // An answer to an extended CONNECT (`tunnel`) has the status 200 in place of 101.
  static Http2FieldList response(const ResponseHead& head, bool tunnel);
  // head.upgrade makes it an extended CONNECT.
  static Http2FieldList request(const RequestHead& head);
  static Http2FieldList trailers(const HeaderMap& trailers);

  const nghttp2_nv* data() const { return list_->data(); }
  size_t size() const { return list_->size(); }
  bool empty() const { return list_->empty(); }

 private:
  Http2FieldList();
  void add(std::string_view static_name, std::string_view value);
  void add_fields(const HeaderMap& headers, bool tunnel);
  void add_length(int64_t length);
  void add_status(int status);

  std::vector<nghttp2_nv>* list_;
};

}  // namespace sluice::http
