#pragma once
// The message model all codecs meet in: a head (request or response) and a list of header fields.
//
// Field names and values are borrowed bytes: of the receive buffer (kept alive by the exchange), of the exchange's
// arena, or static. Names are lower case. Hop-by-hop framing fields (Connection, Transfer-Encoding, Content-Length as
// framing) are the codecs' business; what is in a HeaderMap is end-to-end.

#include <cstdint>
#include <string_view>

#include "base/arena.h"
#include "http/header_names.h"

namespace sluice::http {

struct HeaderField {
  const char* name_data;
  const char* value_data;
  uint32_t value_size;
  uint16_t name_size;
  HeaderId id;

  std::string_view name() const { return {name_data, name_size}; }
  std::string_view value() const { return {value_data, value_size}; }
};

// An ordered multimap of fields in an arena. Not thread-safe; lives and dies with its arena.
class HeaderMap {
 public:
  HeaderMap() = default;
  explicit HeaderMap(Arena* arena) : arena_(arena) {}

  Arena* arena() const { return arena_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const HeaderField* begin() const { return fields_; }
  const HeaderField* end() const { return fields_ + size_; }

  // Appends; the bytes must outlive the map. `name` is lower case.
  void add(HeaderId id, std::string_view value) { append(id, header_name(id), value); }
  void add(std::string_view name, std::string_view value) { append(find_header_id(name), name, value); }
  void append(HeaderId id, std::string_view name, std::string_view value);

  // Replaces the first field of that name and drops the others, or appends.
  void set(HeaderId id, std::string_view value);
  void set(std::string_view name, std::string_view value);

  // Removes all fields of that name; returns how many there were.
  size_t remove(HeaderId id);
  size_t remove(std::string_view name);
  // Removes every field for which `predicate(field)` holds.
  template <typename Predicate>
  size_t remove_if(Predicate predicate) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < size_; ++i) {
      if (!predicate(fields_[i])) fields_[kept++] = fields_[i];
    }
    const size_t removed = size_ - kept;
    size_ = kept;
    if (removed) recompute_presence();
    return removed;
  }

  // The first field of that name, or null. Valid until the map changes.
  const HeaderField* find(HeaderId id) const;
  const HeaderField* find(std::string_view name) const;
  // The first value of that name, or an empty view.
  std::string_view get(HeaderId id) const {
    const HeaderField* field = find(id);
    return field ? field->value() : std::string_view();
  }
  std::string_view get(std::string_view name) const {
    const HeaderField* field = find(name);
    return field ? field->value() : std::string_view();
  }
  bool has(HeaderId id) const { return find(id) != nullptr; }
  bool has(std::string_view name) const { return find(name) != nullptr; }

  // All values of that name joined by ", " (RFC 9110 §5.3); copies into the arena only when there are several.
  std::string_view get_joined(HeaderId id) const;
  std::string_view get_joined(std::string_view name) const;

  void clear() { size_ = 0, presence_ = 0; }

 private:
  void grow();
  void recompute_presence();
  static uint64_t presence_bit(HeaderId id) {
    const auto n = static_cast<uint16_t>(id);
    return n < 64 ? uint64_t{1} << n : 0;
  }

  Arena* arena_ = nullptr;
  HeaderField* fields_ = nullptr;
  uint32_t size_ = 0;
  uint32_t capacity_ = 0;
  uint64_t presence_ = 0;  // bit n: a field with id n may be present (ids below 64)
};

enum class Method : uint8_t { kGet, kHead, kPost, kPut, kDelete, kConnect, kOptions, kTrace, kPatch, kOther };

Method parse_method(std::string_view text);
// RFC 9110 §9.2.2.
bool is_idempotent(Method method);

enum class Protocol : uint8_t { kHttp10, kHttp11, kHttp2 };
// "HTTP/1.1", as in access logs.
std::string_view protocol_name(Protocol protocol);

// A request head. `authority` is Host or :authority; `path` is the origin-form target with its query ("/a?b"), or "*".
struct RequestHead {
  Method method = Method::kGet;
  Protocol version = Protocol::kHttp11;
  std::string_view method_text;
  std::string_view scheme;     // "http" or "https"
  std::string_view authority;  // as received, with port; may be empty (HTTP/1.0)
  std::string_view path;
  // What the client asks to switch to: the value of Upgrade with `Connection: upgrade` (HTTP/1), or :protocol of an
  // extended CONNECT (RFC 8441). Empty: no upgrade.
  std::string_view upgrade;
  // Body length if the head states it; -1: none stated (chunked, or HTTP/2 without content-length).
  int64_t content_length = -1;
  bool expect_continue = false;
  // To be sent as HTTP/1.0 by HTTP/1 clients: without chunks, on a connection that ends with the response. Needs a body
  // of known length; not for upgrades.
  bool as_http10 = false;
  HeaderMap headers;
};

struct ResponseHead {
  int status = 0;
  Protocol version = Protocol::kHttp11;
  // Body length if known; -1: unknown.
  int64_t content_length = -1;
  // The response answers an upgrade: 101, or a 2xx to CONNECT; what follows is a tunnel.
  bool upgrade = false;
  HeaderMap headers;
};

// True for a gRPC call: its content type is application/grpc, alone or with a suffix.
bool is_grpc(const RequestHead& request);

// The reason phrase of a status (RFC 9110 §15), or "Unknown".
std::string_view reason_phrase(int status);

// True for the characters of a token (RFC 9110 §5.6.2).
bool is_token(std::string_view text);
// True if the value holds no NUL, CR, LF or other control byte but HTAB (RFC 9110 §5.5).
bool is_field_value(std::string_view text);
// Case-insensitive comparison of ASCII text.
bool iequals(std::string_view a, std::string_view b);
// True if a client may ask to switch to that protocol: a token, but not HTTP, whose requests would pass unseen.
bool is_acceptable_upgrade(std::string_view protocol);
// True if a comma-separated list holds `token`, case-insensitively.
bool list_has_token(std::string_view list, std::string_view token);

}  // namespace sluice::http
