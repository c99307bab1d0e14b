#include "http/headers.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace sluice::http {
namespace {

constexpr auto kTokenChars = [] {
  std::array<bool, 256> table{};
  for (int c = '0'; c <= '9'; ++c) table[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (int c = 'A'; c <= 'Z'; ++c) table[c] = true;
  for (char c : std::string_view("!#$%&'*+-.^_`|~")) table[static_cast<unsigned char>(c)] = true;
  return table;
}();

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

void HeaderMap::grow() {
  const uint32_t capacity = capacity_ ? capacity_ * 2 : 24;
  auto* fields = arena_->allocate_array<HeaderField>(capacity);
  if (size_) std::memcpy(static_cast<void*>(fields), fields_, size_ * sizeof(HeaderField));
  fields_ = fields;
  capacity_ = capacity;
}

void HeaderMap::append(HeaderId id, std::string_view name, std::string_view value) {
  if (size_ == capacity_) grow();
  fields_[size_++] = HeaderField{name.data(), value.data(), static_cast<uint32_t>(value.size()),
                                 static_cast<uint16_t>(name.size()), id};
  presence_ |= presence_bit(id);
}

void HeaderMap::recompute_presence() {
  presence_ = 0;
  for (uint32_t i = 0; i < size_; ++i) presence_ |= presence_bit(fields_[i].id);
}

const HeaderField* HeaderMap::find(HeaderId id) const {
  const uint64_t bit = presence_bit(id);
  if (bit && !(presence_ & bit)) return nullptr;
  for (uint32_t i = 0; i < size_; ++i) {
    if (fields_[i].id == id) return &fields_[i];
  }
  return nullptr;
}

const HeaderField* HeaderMap::find(std::string_view name) const {
  const HeaderId id = find_header_id(name);
  if (id != HeaderId::kOther) return find(id);
  for (uint32_t i = 0; i < size_; ++i) {
    if (fields_[i].id == HeaderId::kOther && fields_[i].name() == name) return &fields_[i];
  }
  return nullptr;
}

void HeaderMap::set(HeaderId id, std::string_view value) {
  auto* first = const_cast<HeaderField*>(find(id));
  if (!first) return add(id, value);
  first->value_data = value.data();
  first->value_size = static_cast<uint32_t>(value.size());
  uint32_t kept = static_cast<uint32_t>(first - fields_) + 1;
  for (uint32_t i = kept; i < size_; ++i) {
    if (fields_[i].id != id) fields_[kept++] = fields_[i];
  }
  size_ = kept;
}

void HeaderMap::set(std::string_view name, std::string_view value) {
  const HeaderId id = find_header_id(name);
  if (id != HeaderId::kOther) return set(id, value);
  auto* first = const_cast<HeaderField*>(find(name));
  if (!first) return append(id, name, value);
  first->value_data = value.data();
  first->value_size = static_cast<uint32_t>(value.size());
  uint32_t kept = static_cast<uint32_t>(first - fields_) + 1;
  for (uint32_t i = kept; i < size_; ++i) {
    if (fields_[i].id != HeaderId::kOther || fields_[i].name() != name) fields_[kept++] = fields_[i];
  }
  size_ = kept;
}

size_t HeaderMap::remove(HeaderId id) {
  const uint64_t bit = presence_bit(id);
  if (bit && !(presence_ & bit)) return 0;
  return remove_if([id](const HeaderField& field) { return field.id == id; });
}

size_t HeaderMap::remove(std::string_view name) {
  const HeaderId id = find_header_id(name);
  if (id != HeaderId::kOther) return remove(id);
  return remove_if([name](const HeaderField& field) { return field.id == HeaderId::kOther && field.name() == name; });
}

std::string_view HeaderMap::get_joined(std::string_view name) const {
  const HeaderField* first = find(name);
  if (!first) return {};
  std::string_view joined = first->value();
  for (const HeaderField* field = first + 1; field != end(); ++field) {
    if (field->name() == name) joined = arena_->concat(joined, ", ", field->value());
  }
  return joined;
}

std::string_view HeaderMap::get_joined(HeaderId id) const { return get_joined(header_name(id)); }

Method parse_method(std::string_view text) {
  switch (text.size()) {
    case 3:
      if (text == "GET") return Method::kGet;
      if (text == "PUT") return Method::kPut;
      break;
    case 4:
      if (text == "POST") return Method::kPost;
      if (text == "HEAD") return Method::kHead;
      break;
    case 5:
      if (text == "PATCH") return Method::kPatch;
      if (text == "TRACE") return Method::kTrace;
      break;
    case 6:
      if (text == "DELETE") return Method::kDelete;
      break;
    case 7:
      if (text == "OPTIONS") return Method::kOptions;
      if (text == "CONNECT") return Method::kConnect;
      break;
  }
  return Method::kOther;
}

bool is_idempotent(Method method) {
  switch (method) {
    case Method::kGet:
    case Method::kHead:
    case Method::kPut:
    case Method::kDelete:
    case Method::kOptions:
    case Method::kTrace:
      return true;
    default:
      return false;
  }
}

std::string_view protocol_name(Protocol protocol) {
  switch (protocol) {
    case Protocol::kHttp10:
      return "HTTP/1.0";
    case Protocol::kHttp11:
      return "HTTP/1.1";
    case Protocol::kHttp2:
      return "HTTP/2";
  }
  return "-";
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 102:
      return "Processing";
    case 103:
      return "Early Hints";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 203:
      return "Non-Authoritative Information";
    case 204:
      return "No Content";
    case 205:
      return "Reset Content";
    case 206:
      return "Partial Content";
    case 207:
      return "Multi-Status";
    case 300:
      return "Multiple Choices";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 305:
      return "Use Proxy";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 402:
      return "Payment Required";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 407:
      return "Proxy Authentication Required";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Payload Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 418:
      return "I'm a teapot";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Entity";
    case 423:
      return "Locked";
    case 424:
      return "Failed Dependency";
    case 425:
      return "Too Early";
    case 426:
      return "Upgrade Required";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 451:
      return "Unavailable For Legal Reasons";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 507:
      return "Insufficient Storage";
    case 511:
      return "Network Authentication Required";
    default:
      return "Unknown";
  }
}

bool is_token(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return kTokenChars[static_cast<unsigned char>(c)]; });
}

bool is_acceptable_upgrade(std::string_view protocol) {
  return is_token(protocol) && !iequals(protocol, "h2c") && !iequals(protocol, "h2");
}

bool is_field_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
  });
}

bool is_grpc(const RequestHead& request) {
  constexpr std::string_view kGrpc = "application/grpc";
  const std::string_view type = request.headers.get(HeaderId::kContentType);
  return type.substr(0, kGrpc.size()) == kGrpc &&
         (type.size() == kGrpc.size() || type[kGrpc.size()] == '+' || type[kGrpc.size()] == ';');
}

bool iequals(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

bool list_has_token(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    const size_t comma = list.find(',');
    if (iequals(trim(list.substr(0, comma)), token)) return true;
    if (comma == std::string_view::npos) break;
    list.remove_prefix(comma + 1);
  }
  return false;
}

}  // namespace sluice::http
