#pragma once
// What llhttp, in its strict default mode, makes of the first message in some bytes.

#include <llhttp.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::fuzz {

struct OracleMessage {
  llhttp_errno_t error = HPE_OK;
  std::string reason;
  bool head_complete = false;
  bool complete = false;
  std::string method, url, body;
  int minor = 0;
  int status = 0;
  bool chunked = false;
  bool needs_eof = false;
  uint64_t content_length = 0;
  uint32_t fields = 0;   // of the head
  size_t head_size = 0;  // where it ended the head
  size_t size = 0;       // where it ended the message
};

class Oracle {
 public:
  // `no_body`: the response to a HEAD. The message ends with the bytes; nothing is said about an end of the connection.
  static OracleMessage parse(std::string_view bytes, llhttp_type_t type, bool no_body = false) {
    Oracle oracle;
    oracle.no_body_ = no_body;
    oracle.bytes_ = bytes;
    llhttp_settings_t settings;
    llhttp_settings_init(&settings);
    settings.on_method = [](llhttp_t* p, const char* at, size_t n) { return self(p).message_.method.append(at, n), 0; };
    settings.on_url = [](llhttp_t* p, const char* at, size_t n) { return self(p).message_.url.append(at, n), 0; };
    settings.on_body = [](llhttp_t* p, const char* at, size_t n) { return self(p).message_.body.append(at, n), 0; };
    settings.on_header_field_complete = [](llhttp_t* p) {
      Oracle& o = self(p);
      if (!o.message_.head_complete) ++o.message_.fields;
      return 0;
    };
    settings.on_headers_complete = [](llhttp_t* p) {
      Oracle& o = self(p);
      o.message_.head_complete = true;
      o.message_.minor = p->http_minor;
      o.message_.status = p->status_code;
      o.message_.chunked = p->flags & F_CHUNKED;
      o.message_.content_length = p->flags & F_CONTENT_LENGTH ? p->content_length : 0;
      o.message_.needs_eof = !o.no_body_ && llhttp_message_needs_eof(p);
      return o.no_body_ ? 1 : 0;
    };
    settings.on_message_complete = [](llhttp_t* p) {
      self(p).message_.complete = true;
      return static_cast<int>(HPE_PAUSED);
    };
    llhttp_t parser;
    llhttp_init(&parser, type, &settings);
    parser.data = &oracle;
    OracleMessage& message = oracle.message_;
    message.error = llhttp_execute(&parser, bytes.data(), bytes.size());
    if (message.error != HPE_OK) {
      const char* at = llhttp_get_error_pos(&parser);
      message.size = at ? static_cast<size_t>(at - bytes.data()) : 0;
      message.reason = llhttp_get_error_reason(&parser) ? llhttp_get_error_reason(&parser) : "";
    }
    return message;
  }

 private:
  static Oracle& self(llhttp_t* parser) { return *static_cast<Oracle*>(parser->data); }
  OracleMessage message_;
  std::string_view bytes_;
  bool no_body_ = false;
};

// Chunk extensions are read more closely by llhttp; we skip them after a check for control bytes.
inline bool has_chunk_extension(std::string_view body) { return body.find(';') != std::string_view::npos; }

}  // namespace sluice::fuzz
