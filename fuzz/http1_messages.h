#pragma once
// For the HTTP/1 fuzz targets: a body decoded by the gateway's own decoders.

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "http/http1_parser.h"

namespace sluice::fuzz {

struct Body {
  std::string bytes;
  size_t consumed = 0;
  bool complete = false;
  bool failed = false;
};

inline Body read_body(std::string_view input, const http::Framing& framing) {
  Body body;
  switch (framing.body) {
    case http::Framing::Body::kNone:
      body.complete = true;
      return body;
    case http::Framing::Body::kUntilClose:
      body.bytes = input;
      body.consumed = input.size();
      return body;
    case http::Framing::Body::kLength:
      body.consumed = std::min<uint64_t>(framing.length, input.size());
      body.bytes = input.substr(0, body.consumed);
      body.complete = body.consumed == framing.length;
      return body;
    case http::Framing::Body::kChunked:
      break;
  }
  http::ChunkedDecoder decoder;
  while (body.consumed < input.size()) {
    size_t consumed = 0;
    const char* data = input.data() + body.consumed;
    const auto event = decoder.decode(data, input.size() - body.consumed, consumed);
    if (consumed > input.size() - body.consumed) std::abort();
    if (event == http::ChunkedDecoder::Event::kError) {
      body.failed = true;
      return body;
    }
    if (event == http::ChunkedDecoder::Event::kData) body.bytes.append(data + decoder.offset(), decoder.length());
    body.consumed += consumed;
    if (event != http::ChunkedDecoder::Event::kTrailers) continue;
    http::HeadScanner scanner;
    const std::string_view rest = input.substr(body.consumed);
    const auto scanned = scanner.scan(rest.data(), rest.size());
    if (scanned == http::HeadScanner::Result::kBareLineFeed) body.failed = true;
    if (scanned != http::HeadScanner::Result::kComplete) return body;
    Arena arena;
    http::HeaderMap trailers(&arena);
    std::vector<char> section(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(scanner.length()));
    if (!http::parse_trailers(section.data(), section.size(), 100, trailers).empty()) {
      body.failed = true;
      return body;
    }
    body.consumed += scanner.length();
    body.complete = true;
    return body;
  }
  return body;
}

// What a map must be whatever came in.
inline void check_fields(const http::HeaderMap& headers) {
  for (const http::HeaderField& field : headers) {
    if (!http::is_token(field.name()) || !http::is_field_value(field.value())) std::abort();
    if (http::find_header_id(field.name()) != field.id) std::abort();
    for (char c : field.name()) {
      if (c >= 'A' && c <= 'Z') std::abort();
    }
    switch (field.id) {
      case http::HeaderId::kContentLength:
      case http::HeaderId::kTransferEncoding:
      case http::HeaderId::kConnection:
      case http::HeaderId::kKeepAlive:
        std::abort();
      default:
        break;
    }
  }
}

// The number of field lines of a head.
inline size_t count_lines(std::string_view head) {
  return static_cast<size_t>(std::count(head.begin(), head.end(), '\n')) - 2;
}

[[noreturn]] inline void disagree(const char* what, std::string_view ours, std::string_view theirs) {
  std::fprintf(stderr, "%s: ours \"%.*s\", llhttp \"%.*s\"\n", what, static_cast<int>(ours.size()), ours.data(),
               static_cast<int>(theirs.size()), theirs.data());
  std::abort();
}

}  // namespace sluice::fuzz
