#include "http/http2_headers.h"

#include <charconv>
#include <cstring>

namespace sluice::http {
namespace {

// Per-thread space that a Http2FieldList borrows; nghttp2_submit_*() copies from it.
struct Scratch {
  std::vector<nghttp2_nv> fields;
  char status[4];
  char length[24];
};
thread_local Scratch scratch;

bool has_user_information(std::string_view authority) { return authority.find('@') != std::string_view::npos; }

int64_t parse_length(std::string_view text) {
  int64_t length = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
  return error == std::errc() && end == text.data() + text.size() ? length : -1;
}

nghttp2_nv make_nv(std::string_view name, std::string_view value, uint8_t flags) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), flags};
}

}  // namespace

HeadError Http2HeadReader::count(std::string_view name, std::string_view value) {
  bytes_ += name.size() + value.size() + 32;
  ++count_;
  if (bytes_ > uint64_t{settings_->max_header_list_bytes} * 4 || count_ > settings_->max_header_count * 16) {
    return HeadError::kHostile;
  }
  // Pseudo-header fields and split cookies are not what the field limit is about.
  const bool counted = name[0] != ':' && name != "cookie";
  if (!counted) --count_;
  if (bytes_ > settings_->max_header_list_bytes || count_ > settings_->max_header_count || name.size() > 0xffff) {
    too_large_ = true;
  }
  return too_large_ ? HeadError::kTooLarge : HeadError::kNone;
}

HeadError Http2HeadReader::add_request_field(RequestHead& head, std::string_view name, std::string_view value) {
  const HeadError over = count(name, value);
  if (over != HeadError::kNone) return over;
  Arena& arena = *head.headers.arena();
  if (name[0] == ':') {
    if (name == ":path") {
      head.path = arena.copy(value);
    } else if (name == ":method") {
      head.method = parse_method(value);
      head.method_text = arena.copy(value);
    } else if (name == ":scheme") {
      head.scheme = value == "https" ? "https" : value == "http" ? "http" : arena.copy(value);
    } else if (name == ":authority") {
      head.authority = arena.copy(value);
    } else if (name == ":protocol") {
      protocol_ = arena.copy(value);
    }
    return HeadError::kNone;
  }
  const HeaderId id = find_header_id(name);
  switch (id) {
    case HeaderId::kHost:
      host_ = arena.copy(value);
      return HeadError::kNone;
    case HeaderId::kContentLength:
      head.content_length = parse_length(value);
      return head.content_length < 0 ? HeadError::kMalformed : HeadError::kNone;
    case HeaderId::kExpect:
      // RFC 9110 §10.1.1: what is not 100-continue may be answered 417; here it is ignored, as most
      // servers do.
      head.expect_continue = iequals(value, "100-continue");
      return HeadError::kNone;
    case HeaderId::kHttp2Settings:
      return HeadError::kNone;
    case HeaderId::kCookie:
      ++cookies_;
      cookie_bytes_ += static_cast<uint32_t>(value.size());
      break;
    default:
      break;
  }
  const std::string_view kept_name = id == HeaderId::kOther ? arena.copy(name) : header_name(id);
  head.headers.append(id, kept_name, arena.copy(value));
  return HeadError::kNone;
}

HeadError Http2HeadReader::finish_request(RequestHead& head) {
  if (too_large_) return HeadError::kTooLarge;
  head.version = Protocol::kHttp2;
  // RFC 9113 §8.3.1: Host must not contradict :authority; neither may hold user information.
  if (head.authority.empty()) {
    head.authority = host_;
  } else if (!host_.empty() && !iequals(host_, head.authority)) {
    return HeadError::kMalformed;
  }
  if (has_user_information(head.authority)) return HeadError::kMalformed;
  if (head.method == Method::kConnect && protocol_.empty()) return HeadError::kNone;
  if ((head.path.empty() || head.path[0] != '/') && !(head.path == "*" && head.method == Method::kOptions))
    return HeadError::kMalformed;
  if (!protocol_.empty()) {
    if (!is_acceptable_upgrade(protocol_)) return HeadError::kMalformed;
    head.upgrade = protocol_;
    head.content_length = -1;  // RFC 9110 §9.3.6: no content, whatever the field says
    head.method = Method::kGet;
    head.method_text = "GET";
  }
  if (cookies_ > 1) {
    Arena& arena = *head.headers.arena();
    const size_t size = cookie_bytes_ + 2u * (cookies_ - 1);
    char* joined = static_cast<char*>(arena.allocate(size, 1));
    char* p = joined;
    for (const HeaderField& field : head.headers) {
      if (field.id != HeaderId::kCookie) continue;
      if (p != joined) {
        *p++ = ';';
        *p++ = ' ';
      }
      std::memcpy(p, field.value_data, field.value_size);
      p += field.value_size;
    }
    head.headers.set(HeaderId::kCookie, {joined, static_cast<size_t>(p - joined)});
  }
  return HeadError::kNone;
}

HeadError Http2HeadReader::add_response_field(ResponseHead& head, std::string_view name, std::string_view value) {
  const HeadError over = count(name, value);
  if (over != HeadError::kNone) return over;
  if (name[0] == ':') {
    // nghttp2 lets three digits through.
    if (name == ":status") std::from_chars(value.data(), value.data() + value.size(), head.status);
    return HeadError::kNone;
  }
  const HeaderId id = find_header_id(name);
  if (id == HeaderId::kContentLength) {
    head.content_length = parse_length(value);
    return head.content_length < 0 ? HeadError::kMalformed : HeadError::kNone;
  }
  Arena& arena = *head.headers.arena();
  const std::string_view kept_name = id == HeaderId::kOther ? arena.copy(name) : header_name(id);
  head.headers.append(id, kept_name, arena.copy(value));
  return HeadError::kNone;
}

HeadError Http2HeadReader::add_trailer(HeaderMap& trailers, std::string_view name, std::string_view value) {
  const HeadError over = count(name, value);
  if (over != HeadError::kNone) return over;
  const HeaderId id = find_header_id(name);
  switch (id) {
    case HeaderId::kContentLength:
    case HeaderId::kHost:
    case HeaderId::kTe:
    case HeaderId::kTrailer:
      return HeadError::kMalformed;  // RFC 9110 §6.5.1: framing and routing have no place in
                                     // trailers
    default:
      break;
  }
  Arena& arena = *trailers.arena();
  const std::string_view kept_name = id == HeaderId::kOther ? arena.copy(name) : header_name(id);
  trailers.append(id, kept_name, arena.copy(value));
  return HeadError::kNone;
}

Http2FieldList::Http2FieldList() : list_(&scratch.fields) { list_->clear(); }

void Http2FieldList::add(std::string_view static_name, std::string_view value) {
  list_->push_back(make_nv(static_name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME));
}

void Http2FieldList::add_status(int status) {
  std::to_chars(scratch.status, scratch.status + sizeof(scratch.status), status);
  add(":status", {scratch.status, 3});
}

void Http2FieldList::add_length(int64_t length) {
  const char* end = std::to_chars(scratch.length, scratch.length + sizeof(scratch.length), length).ptr;
  add("content-length", {scratch.length, static_cast<size_t>(end - scratch.length)});
}

void Http2FieldList::add_fields(const HeaderMap& headers, bool tunnel) {
  for (const HeaderField& field : headers) {
    switch (field.id) {
      case HeaderId::kConnection:
      case HeaderId::kKeepAlive:
      case HeaderId::kProxyConnection:
      case HeaderId::kTransferEncoding:
      case HeaderId::kUpgrade:
      case HeaderId::kHttp2Settings:
      case HeaderId::kHost:           // :authority says it
      case HeaderId::kContentLength:  // the head's content_length says it
      case HeaderId::kExpect:         // the head's expect_continue says it
        continue;
      case HeaderId::kTe:
        if (!list_has_token(field.value(), "trailers")) continue;
        add("te", "trailers");
        continue;
      case HeaderId::kSecWebsocketKey:
      case HeaderId::kSecWebsocketAccept:
        if (tunnel) continue;  // RFC 8441 §5: not used
        break;
      default:
        break;
    }
    // A known name is taken from the static table, where it need not be copied; the field's own
    // bytes may be gone when nghttp2 packs the block.
    const bool known = field.id != HeaderId::kOther;
    list_->push_back(make_nv(known ? header_name(field.id) : field.name(), field.value(),
                             known ? NGHTTP2_NV_FLAG_NO_COPY_NAME : NGHTTP2_NV_FLAG_NONE));
  }
}

Http2FieldList Http2FieldList::response(const ResponseHead& head, bool tunnel) {
  Http2FieldList list;
  list.add_status(tunnel && head.status == 101 ? 200 : head.status);
  list.add_fields(head.headers, tunnel && head.upgrade);
  const bool never = head.status < 200 || head.status == 204 || (tunnel && head.upgrade);
  if (head.content_length >= 0 && !never) list.add_length(head.content_length);
  return list;
}

Http2FieldList Http2FieldList::request(const RequestHead& head) {
  Http2FieldList list;
  const bool tunnel = !head.upgrade.empty();
  list.add(":method", tunnel ? std::string_view("CONNECT") : head.method_text);
  if (tunnel) list.add(":protocol", head.upgrade);
  if (tunnel || head.method != Method::kConnect) {
    list.add(":scheme", head.scheme.empty() ? std::string_view("http") : head.scheme);
    list.add(":path", head.path);
  }
  if (!head.authority.empty()) list.add(":authority", head.authority);
  list.add_fields(head.headers, tunnel);
  if (head.expect_continue) list.add("expect", "100-continue");
  if (head.content_length >= 0 && !tunnel) list.add_length(head.content_length);
  return list;
}

Http2FieldList Http2FieldList::trailers(const HeaderMap& trailers) {
  Http2FieldList list;
  list.add_fields(trailers, false);
  return list;
}

}  // namespace sluice::http
