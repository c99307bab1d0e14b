#include "http/http1_parser.h"

#include <array>
#include <charconv>
#include <cstring>

#include "http/websocket.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace sluice::http {
namespace {

// Lower-case form of a token character; 0 for anything else.
constexpr auto kTokenLower = [] {
  std::array<char, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[c] = static_cast<char>(c);
  for (int c = 'a'; c <= 'z'; ++c) table[c] = static_cast<char>(c);
  for (int c = 'A'; c <= 'Z'; ++c) table[c] = static_cast<char>(c + 32);
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = c;
  return table;
}();

// First byte in [p, end) that is a control byte other than HTAB (so also CR and LF), or DEL.
char* find_control(char* p, char* end) {
#if defined(__SSE2__)
  const __m128i space = _mm_set1_epi8(0x20);
  const __m128i tab = _mm_set1_epi8('\t');
  const __m128i del = _mm_set1_epi8(0x7f);
  while (end - p >= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    // Unsigned "less than 0x20": max(x, 0x20) != x.
    const __m128i not_control = _mm_cmpeq_epi8(_mm_max_epu8(bytes, space), bytes);
    const __m128i is_tab = _mm_cmpeq_epi8(bytes, tab);
    const __m128i is_del = _mm_cmpeq_epi8(bytes, del);
    const int good = _mm_movemask_epi8(_mm_andnot_si128(is_del, _mm_or_si128(not_control, is_tab)));
    if (good != 0xffff) return p + __builtin_ctz(~good & 0xffff);
    p += 16;
  }
#endif
  for (; p < end; ++p) {
    const auto c = static_cast<unsigned char>(*p);
    if ((c < 0x20 && c != '\t') || c == 0x7f) return p;
  }
  return end;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool parse_length(std::string_view text, uint64_t& out) {
  if (text.empty() || text.size() > 18) return false;
  out = 0;
  for (char c : text) {
    if (c < '0' || c > '9') return false;
    out = out * 10 + static_cast<uint64_t>(c - '0');
  }
  return true;
}

// uri-host [":" port] (RFC 9110 §7.2), loosely: none of the bytes that could end or split it.
bool is_authority(std::string_view text) {
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte >= 0x7f) return false;
    switch (c) {
      case '/':
      case '?':
      case '#':
      case '@':
      case ',':
      case '\\':
      case '"':
      case '<':
      case '>':
      case '{':
      case '}':
      case '|':
      case '^':
      case '`':
        return false;
      default:
        break;
    }
  }
  // Brackets enclose an IPv6 address at the start, or are not there at all.
  if (text.find_first_of("[]") != std::string_view::npos) {
    const size_t close = text.find(']');
    if (text.front() != '[' || close == std::string_view::npos || text.find('[', 1) != std::string_view::npos ||
        text.find(']', close + 1) != std::string_view::npos || (close + 1 < text.size() && text[close + 1] != ':')) {
      return false;
    }
  }
  // A port, where there is one, is digits.
  const size_t colon = text.rfind(':');
  const size_t bracket = text.rfind(']');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    const std::string_view port = text.substr(colon + 1);
    if (port.size() > 5) return false;
    for (char c : port) {
      if (c < '0' || c > '9') return false;
    }
    if (text.substr(0, colon).find(':') != std::string_view::npos && text.front() != '[') return false;
  }
  return true;
}

// Facts gathered from the fields that frame the message.
struct FieldFacts {
  int hosts = 0;
  int content_lengths = 0;
  int transfer_encodings = 0;
  bool chunked = false;
  bool bad_transfer_encoding = false;
  bool bad_length = false;
  uint64_t length = 0;
  bool has_connection = false;
  bool connection_close = false;
  bool connection_keep_alive = false;
  bool connection_upgrade = false;
  bool connection_nominates = false;
  std::string_view host;
  std::string_view upgrade;
  int upgrades = 0;
  std::string_view expect;
  bool has_expect = false;
};

void read_connection(std::string_view value, FieldFacts& facts) {
  facts.has_connection = true;
  while (true) {
    const size_t comma = value.find(',');
    const std::string_view token = trim(value.substr(0, comma));
    if (iequals(token, "close")) {
      facts.connection_close = true;
    } else if (iequals(token, "keep-alive")) {
      facts.connection_keep_alive = true;
    } else if (iequals(token, "upgrade")) {
      facts.connection_upgrade = true;
    } else if (!token.empty()) {
      facts.connection_nominates = true;
    }
    if (comma == std::string_view::npos) return;
    value.remove_prefix(comma + 1);
  }
}

// Takes framing and hop-by-hop fields out; returns true if the field stays in the map.
bool take_field(HeaderId id, std::string_view value, FieldFacts& facts) {
  switch (id) {
    case HeaderId::kHost:
      ++facts.hosts;
      facts.host = value;
      return false;
    case HeaderId::kContentLength:
      ++facts.content_lengths;
      if (!parse_length(value, facts.length)) facts.bad_length = true;
      return false;
    case HeaderId::kTransferEncoding:
      ++facts.transfer_encodings;
      if (iequals(value, "chunked")) {
        facts.chunked = true;
      } else {
        facts.bad_transfer_encoding = true;
      }
      return false;
    case HeaderId::kConnection:
      read_connection(value, facts);
      return true;  // needed for nominated fields; removed afterwards
    case HeaderId::kKeepAlive:
    case HeaderId::kProxyConnection:
    case HeaderId::kHttp2Settings:
      return false;
    case HeaderId::kUpgrade:
      ++facts.upgrades;
      facts.upgrade = value;
      return false;
    case HeaderId::kTe:
      return list_has_token(value, "trailers");
    default:
      return true;
  }
}

// Parses field lines in [p, end), where `end` is after the empty line. Returns an error text or an empty view.
template <typename Take>
std::string_view parse_fields(char* p, char* end, uint32_t max_fields, HeaderMap& headers, Take take) {
  uint32_t count = 0;
  while (true) {
    if (end - p >= 2 && p[0] == '\r' && p[1] == '\n') return {};
    char* name = p;
    while (p < end) {
      const char lower = kTokenLower[static_cast<unsigned char>(*p)];
      if (!lower) break;
      *p++ = lower;
    }
    if (p == end || *p != ':') return "malformed header field name";
    const std::string_view name_view(name, static_cast<size_t>(p - name));
    if (name_view.empty()) return "empty header field name";
    if (name_view.size() > 0xffff) return "header field name too long";
    ++p;
    char* value = p;
    p = find_control(p, end);
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return "forbidden byte in a header field value";
    const std::string_view line(value, static_cast<size_t>(p - value));
    const std::string_view value_view = trim(line);
    p += 2;
    if (++count > max_fields) return "too many header fields";
    const HeaderId id = find_header_id(name_view);
    // Allowed by RFC 9112 §5, but widespread parsers take the tab for a part of the value and frame the body otherwise.
    const bool frames = id == HeaderId::kContentLength || id == HeaderId::kTransferEncoding;
    if (frames && line.find('\t') != std::string_view::npos) return "tab around a field that frames the body";
    if (take(id, value_view)) headers.append(id, name_view, value_view);
  }
}

// Removes Connection and the fields it nominates.
void strip_connection(HeaderMap& headers, const FieldFacts& facts) {
  if (!facts.has_connection) return;
  if (facts.connection_nominates) {
    Arena& arena = *headers.arena();
    const std::string_view nominated = arena.copy(headers.get_joined(HeaderId::kConnection));
    headers.remove_if([&](const HeaderField& field) {
      return field.id == HeaderId::kConnection || list_has_token(nominated, field.name());
    });
    return;
  }
  headers.remove(HeaderId::kConnection);
}

std::string_view parse_request_line(char*& p, char* end, RequestHead& head, Framing& framing) {
  char* start = p;
  while (p < end && kTokenLower[static_cast<unsigned char>(*p)]) ++p;
  if (p == start || p == end || *p != ' ') return "malformed method";
  head.method_text = {start, static_cast<size_t>(p - start)};
  head.method = parse_method(head.method_text);

  start = ++p;
  while (p < end && static_cast<unsigned char>(*p) > 0x20 && *p != 0x7f) {
    if (*p == '#') return "fragment in the request target";
    ++p;
  }
  if (p == start || p == end || *p != ' ') return "malformed request target";
  std::string_view target(start, static_cast<size_t>(p - start));
  ++p;
  if (end - p < 10 || std::memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != '\r' ||
      p[9] != '\n') {
    const bool like_http = std::string_view(p, static_cast<size_t>(end - p)).substr(0, 5) == "HTTP/" ||
                           target.find_first_of("/:*") != std::string_view::npos;
    if (!like_http) framing.status = 0;
    return "unsupported protocol version";
  }
  head.version = p[7] == '1' ? Protocol::kHttp11 : Protocol::kHttp10;
  p += 10;

  if (head.method == Method::kConnect) {
    head.authority = target;
    if (!is_authority(target) || target.find(':') == std::string_view::npos) return "malformed CONNECT target";
    return {};
  }
  if (target.front() == '/') {
    head.path = target;
    return {};
  }
  if (target == "*") {
    if (head.method != Method::kOptions) return "asterisk-form target with a method other than OPTIONS";
    head.path = target;
    return {};
  }
  // absolute-form (RFC 9112 §3.2.2)
  size_t scheme = 0;
  if (target.size() > 7 && iequals(target.substr(0, 7), "http://")) scheme = 7;
  if (target.size() > 8 && iequals(target.substr(0, 8), "https://")) scheme = 8;
  if (!scheme) return "malformed request target";
  target.remove_prefix(scheme);
  const size_t slash = target.find_first_of("/?");
  head.authority = target.substr(0, slash);
  if (head.authority.empty() || !is_authority(head.authority)) return "malformed authority in the request target";
  if (slash == std::string_view::npos) {
    head.path = "/";
  } else if (target[slash] == '?') {
    head.path = head.headers.arena()->concat("/", target.substr(slash));
  } else {
    head.path = target.substr(slash);
  }
  return {};
}

}  // namespace

HeadScanner::Result HeadScanner::scan(const char* data, size_t size) {
  while (offset_ < size) {
    const void* found = std::memchr(data + offset_, '\n', size - offset_);
    if (!found) {
      offset_ = size;
      return Result::kNeedMore;
    }
    const size_t lf = static_cast<size_t>(static_cast<const char*>(found) - data);
    if (lf == line_start_ || data[lf - 1] != '\r') return Result::kBareLineFeed;
    offset_ = lf + 1;
    const bool empty_line = lf - line_start_ == 1;
    line_start_ = offset_;
    if (empty_line) return Result::kComplete;
  }
  return Result::kNeedMore;
}

std::string_view parse_request_head(char* data, size_t size, uint32_t max_fields, RequestHead& head, Framing& framing) {
  char* p = data;
  char* end = data + size;
  FieldFacts facts;
  std::string_view error = parse_request_line(p, end, head, framing);
  if (error.empty()) {
    error = parse_fields(p, end, max_fields, head.headers, [&](HeaderId id, std::string_view value) {
      if (id == HeaderId::kExpect) {
        facts.has_expect = true;
        facts.expect = value;
        return false;
      }
      return take_field(id, value, facts);
    });
  }
  if (error == "too many header fields") framing.status = 431;
  if (!error.empty()) return error;

  if (facts.hosts > 1) return "several Host fields";
  if (facts.hosts == 0 && head.version == Protocol::kHttp11) return "missing Host field";
  if (!is_authority(facts.host)) return "malformed Host field";
  if (head.authority.empty()) head.authority = facts.host;

  if (facts.content_lengths && facts.transfer_encodings) return "both Content-Length and Transfer-Encoding";
  if (facts.bad_length) return "malformed Content-Length";
  if (facts.content_lengths > 1) return "several Content-Length fields";
  if (facts.transfer_encodings) {
    if (facts.bad_transfer_encoding || facts.transfer_encodings > 1) return "unsupported Transfer-Encoding";
    if (head.version == Protocol::kHttp10) return "Transfer-Encoding in an HTTP/1.0 request";
    framing.body = Framing::Body::kChunked;
  } else if (facts.content_lengths) {
    framing.body = facts.length ? Framing::Body::kLength : Framing::Body::kNone;
    framing.length = facts.length;
    head.content_length = static_cast<int64_t>(facts.length);
  }
  if (facts.has_expect && head.version == Protocol::kHttp11) {
    if (!iequals(facts.expect, "100-continue")) {
      framing.status = 417;
      return "unknown expectation";
    }
    head.expect_continue = framing.body != Framing::Body::kNone;
  }

  strip_connection(head.headers, facts);
  framing.keep_alive = head.version == Protocol::kHttp11 ? !facts.connection_close
                                                         : facts.connection_keep_alive && !facts.connection_close;
  if (facts.connection_upgrade && facts.upgrades == 1 && head.version == Protocol::kHttp11 &&
      framing.body == Framing::Body::kNone && is_acceptable_upgrade(facts.upgrade)) {
    head.upgrade = facts.upgrade;
  }
  return {};
}

std::string_view parse_response_head(char* data, size_t size, uint32_t max_fields, Method request_method,
                                     bool upgrade_requested, ResponseHead& head, Framing& framing) {
  char* p = data;
  char* end = data + size;
  if (size < 14 || std::memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != ' ') {
    return "malformed status line";
  }
  head.version = p[7] == '1' ? Protocol::kHttp11 : Protocol::kHttp10;
  head.status = 0;
  for (int i = 9; i < 12; ++i) {
    if (p[i] < '0' || p[i] > '9') return "malformed status code";
    head.status = head.status * 10 + (p[i] - '0');
  }
  if (head.status < 100 || head.status > 599) return "status code out of range";
  if (p[12] != ' ' && p[12] != '\r') return "malformed status line";
  p = find_control(p + 12, end);
  if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return "malformed reason phrase";
  p += 2;

  FieldFacts facts;
  const std::string_view error =
      parse_fields(p, end, max_fields, head.headers, [&](HeaderId id, std::string_view value) {
        if (id == HeaderId::kHost) return true;
        // Identical repeated lengths are as good as one (RFC 9112 §6.3).
        if (id == HeaderId::kContentLength) {
          uint64_t length = 0;
          if (!parse_length(value, length)) facts.bad_length = true;
          if (facts.content_lengths && length != facts.length) facts.bad_length = true;
          facts.content_lengths = 1;
          facts.length = length;
          return false;
        }
        return take_field(id, value, facts);
      });
  if (!error.empty()) return error;
  if (facts.bad_length) return "malformed Content-Length";
  if (facts.content_lengths && facts.transfer_encodings) return "both Content-Length and Transfer-Encoding";
  if (facts.bad_transfer_encoding || facts.transfer_encodings > 1) return "unsupported Transfer-Encoding";

  strip_connection(head.headers, facts);
  framing.keep_alive = head.version == Protocol::kHttp11 ? !facts.connection_close
                                                         : facts.connection_keep_alive && !facts.connection_close;
  if (facts.content_lengths) head.content_length = static_cast<int64_t>(facts.length);

  if (head.status == 101) {
    if (!upgrade_requested) return "101 without a requested upgrade";
    head.upgrade = true;
    if (!facts.upgrade.empty()) head.headers.add(HeaderId::kUpgrade, facts.upgrade);
    framing.body = Framing::Body::kUntilClose;
    framing.keep_alive = false;
    return {};
  }
  if (head.status < 200 || head.status == 204 || head.status == 304 || request_method == Method::kHead) {
    framing.body = Framing::Body::kNone;
    return {};
  }
  if (facts.chunked) {
    if (head.version == Protocol::kHttp10) return "Transfer-Encoding in an HTTP/1.0 response";
    framing.body = Framing::Body::kChunked;
  } else if (facts.content_lengths) {
    framing.body = facts.length ? Framing::Body::kLength : Framing::Body::kNone;
    framing.length = facts.length;
  } else {
    framing.body = Framing::Body::kUntilClose;
    framing.keep_alive = false;
  }
  return {};
}

ChunkedDecoder::Event ChunkedDecoder::decode(const char* data, size_t size, size_t& consumed) {
  constexpr uint8_t kMaxDigits = 15;
  constexpr uint16_t kMaxExtension = 1024;
  size_t i = 0;
  while (i < size) {
    const char c = data[i];
    switch (state_) {
      case State::kSize:
      case State::kSizeDigits: {
        int digit = -1;
        if (c >= '0' && c <= '9') digit = c - '0';
        if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        if (digit >= 0) {
          if (++digits_ > kMaxDigits) return consumed = i, Event::kError;
          remaining_ = remaining_ * 16 + static_cast<uint64_t>(digit);
          state_ = State::kSizeDigits;
        } else if (state_ == State::kSize) {
          return consumed = i, Event::kError;
        } else if (c == '\r') {
          state_ = State::kSizeLf;
        } else if (c == ';') {
          state_ = State::kExtension;
          extension_bytes_ = 0;
        } else {
          return consumed = i, Event::kError;
        }
        ++i;
        break;
      }
      case State::kExtension:
        if (c == '\r') {
          state_ = State::kSizeLf;
        } else if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f ||
                   ++extension_bytes_ > kMaxExtension) {
          return consumed = i, Event::kError;
        }
        ++i;
        break;
      case State::kSizeLf:
        if (c != '\n') return consumed = i, Event::kError;
        ++i;
        digits_ = 0;
        if (remaining_ == 0) {
          state_ = State::kSize;
          consumed = i;
          return Event::kTrailers;
        }
        state_ = State::kData;
        break;
      case State::kData: {
        const size_t n = remaining_ < size - i ? static_cast<size_t>(remaining_) : size - i;
        payload_offset_ = i;
        payload_length_ = n;
        remaining_ -= n;
        if (remaining_ == 0) state_ = State::kDataCr;
        consumed = i + n;
        return Event::kData;
      }
      case State::kDataCr:
        if (c != '\r') return consumed = i, Event::kError;
        state_ = State::kDataLf;
        ++i;
        break;
      case State::kDataLf:
        if (c != '\n') return consumed = i, Event::kError;
        state_ = State::kSize;
        ++i;
        break;
    }
  }
  consumed = i;
  return Event::kNeedMore;
}

std::string_view parse_trailers(char* data, size_t size, uint32_t max_fields, HeaderMap& trailers) {
  bool forbidden = false;
  const std::string_view error =
      parse_fields(data, data + size, max_fields, trailers, [&](HeaderId id, std::string_view) {
        switch (id) {
          case HeaderId::kContentLength:
          case HeaderId::kTransferEncoding:
          case HeaderId::kHost:
          case HeaderId::kConnection:
          case HeaderId::kUpgrade:
          case HeaderId::kTe:
          case HeaderId::kTrailer:
            forbidden = true;
            return false;
          case HeaderId::kKeepAlive:
          case HeaderId::kProxyConnection:
            return false;
          default:
            return true;
        }
      });
  if (!error.empty()) return error;
  return forbidden ? std::string_view("framing field in a trailer section") : std::string_view();
}

namespace {

char* put(char* p, std::string_view text) {
  if (!text.empty()) std::memcpy(p, text.data(), text.size());
  return p + text.size();
}

size_t fields_size(const HeaderMap& headers) {
  size_t bytes = 0;
  for (const HeaderField& field : headers) bytes += field.name_size + field.value_size + 4u;
  return bytes;
}

char* put_field(char* p, const HeaderField& field) {
  p = put(p, field.name());
  *p++ = ':';
  *p++ = ' ';
  p = put(p, field.value());
  *p++ = '\r';
  *p++ = '\n';
  return p;
}

char* put_length(char* p, int64_t length) {
  p = put(p, "content-length: ");
  p = std::to_chars(p, p + 20, length).ptr;
  return put(p, "\r\n");
}

Slice finish(BlockRef block, const char* end) {
  const char* data = block->data();
  return Slice(std::move(block), data, static_cast<size_t>(end - data));
}

}  // namespace

Slice write_response_head(const ResponseHead& head, const ResponseFraming& framing) {
  const std::string_view reason = reason_phrase(head.status);
  BlockRef block(acquire_block(fields_size(head.headers) + reason.size() + 160));
  char* p = put(block->data(), "HTTP/1.1 ");
  p = std::to_chars(p, p + 4, head.status).ptr;
  *p++ = ' ';
  p = put(p, reason);
  p = put(p, "\r\n");
  for (const HeaderField& field : head.headers) p = put_field(p, field);
  if (framing.chunked) {
    p = put(p, "transfer-encoding: chunked\r\n");
  } else if (!framing.no_length && head.content_length >= 0) {
    p = put_length(p, head.content_length);
  }
  if (head.status == 101) {
    p = put(p, "connection: upgrade\r\n");
  } else if (framing.close) {
    p = put(p, "connection: close\r\n");
  } else if (framing.keep_alive) {
    p = put(p, "connection: keep-alive\r\n");
  }
  p = put(p, "\r\n");
  return finish(std::move(block), p);
}

Slice write_request_head(const RequestHead& head, bool chunked) {
  const size_t bytes = fields_size(head.headers) + head.method_text.size() + head.path.size() + head.authority.size() +
                       head.upgrade.size() + 224;
  BlockRef block(acquire_block(bytes));
  char* p = put(block->data(), head.method_text);
  *p++ = ' ';
  p = put(p, head.path);
  const bool http10 = head.as_http10 && head.upgrade.empty();
  p = put(p, http10 ? " HTTP/1.0\r\nconnection: close\r\nhost: " : " HTTP/1.1\r\nhost: ");
  p = put(p, head.authority);
  p = put(p, "\r\n");
  for (const HeaderField& field : head.headers) {
    if (field.id != HeaderId::kTe) p = put_field(p, field);
  }
  if (chunked) {
    p = put(p, "transfer-encoding: chunked\r\n");
  } else if (head.content_length >= 0) {
    p = put_length(p, head.content_length);
  }
  if (!head.upgrade.empty()) {
    p = put(p, "connection: upgrade\r\nupgrade: ");
    p = put(p, head.upgrade);
    p = put(p, "\r\n");
    // An extended CONNECT (RFC 8441) has no key.
    if (iequals(head.upgrade, "websocket") && !head.headers.has(HeaderId::kSecWebsocketKey)) {
      p = put(p, "sec-websocket-key: ");
      p = put(p, websocket_key());
      p = put(p, "\r\n");
    }
  }
  p = put(p, "\r\n");
  return finish(std::move(block), p);
}

Slice write_trailers(const HeaderMap& trailers) {
  BlockRef block(acquire_block(fields_size(trailers) + 8));
  char* p = put(block->data(), "0\r\n");
  for (const HeaderField& field : trailers) p = put_field(p, field);
  p = put(p, "\r\n");
  return finish(std::move(block), p);
}

size_t write_chunk_header(char* out, uint64_t size) {
  char* p = std::to_chars(out, out + 16, size, 16).ptr;
  *p++ = '\r';
  *p++ = '\n';
  return static_cast<size_t>(p - out);
}

}  // namespace sluice::http
