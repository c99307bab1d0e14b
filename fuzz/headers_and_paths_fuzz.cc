// Small functions on outside text: path normalisation, percent decoding, token lists, log formats, client addresses.

#include <cstdint>
#include <cstdlib>
#include <string>

#include "api/http_service.h"
#include "proxy/access_log.h"
#include "proxy/forwarding.h"

using namespace sluice;

namespace {

void check(bool good) {
  if (!good) std::abort();
}

bool is_dots(std::string_view segment) {
  std::string plain;
  for (size_t i = 0; i < segment.size(); ++i) {
    if (segment[i] == '%' && i + 2 < segment.size() && segment[i + 1] == '2' && (segment[i + 2] | 0x20) == 'e') {
      plain += '.';
      i += 2;
    } else {
      plain += segment[i];
    }
  }
  return plain == "." || plain == "..";
}

void path(std::string_view input) {
  const std::string target = "/" + std::string(input);
  Arena arena;
  const std::string_view once = proxy::normalize_path(target, arena);
  check(proxy::normalize_path(once, arena) == once);
  using enum config::PathNormalization;
  check(proxy::normalize_path(target, arena, kNone) == target);
  for (const config::PathNormalization kind : {kMergeSlashes, kDecodeAndMergeSlashes}) {
    const std::string_view merged = proxy::normalize_path(target, arena, kind);
    check(proxy::normalize_path(merged, arena, kind) == merged);
    check(merged.substr(0, merged.find('?')).find("//") == merged.npos);
  }
  check(once.size() <= target.size() && !once.empty() && once.front() == '/');
  const std::string_view path = once.substr(0, once.find('?'));
  check(path.find('\\') == std::string_view::npos);
  for (size_t at = 0; at < path.size();) {
    size_t end = path.find('/', at + 1);
    if (end == std::string_view::npos) end = path.size();
    check(!is_dots(path.substr(at + 1, end - at - 1)));
    at = end;
  }
  // The query is left alone.
  const size_t question = target.find('?');
  check(question == std::string::npos ? once.find('?') == std::string_view::npos
                                      : once.substr(once.find('?')) == std::string_view(target).substr(question));
}

void log_format(std::string_view input) {
  auto format = proxy::AccessLogFormat::parse(input);
  if (!format.ok()) {
    check(!format.error().message.empty());
    return;
  }
  Arena arena;
  http::HeaderMap headers(&arena);
  headers.add("x", std::string_view("\"\\\n\r\x01\xff"));
  proxy::LogRecord record;
  record.request_headers = record.response_headers = &headers;
  record.path = "/\"\\\n";
  record.start_time_us = 1'700'000'000'123'456;
  std::string line;
  format->write(record, line);
  check(!line.empty() && line.back() == '\n');
}

void tokens(std::string_view input) {
  const size_t cut = input.find('\n');
  const std::string_view token = input.substr(0, cut);
  const std::string_view list = cut == std::string_view::npos ? std::string_view() : input.substr(cut + 1);
  const bool found = http::list_has_token(list, token);
  if (http::is_token(token)) {
    check(http::list_has_token(std::string(list) + "," + std::string(token), token));
    std::string upper(token);
    for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    check(http::list_has_token(list, upper) == found);
  }
}

void decoding(std::string_view input) {
  const std::string once = api::url_decode(input);
  check(once.size() <= input.size());
  if (input.find_first_of("%+") == std::string_view::npos) check(once == input);
}

void client(std::string_view input) {
  Arena arena;
  http::RequestHead head;
  head.headers = http::HeaderMap(&arena);
  head.headers.add(http::HeaderId::kXForwardedFor, input);
  http::ConnectionInfo connection;
  connection.peer = net::Address::ipv4(10, 0, 0, 1, 1234);
  for (uint32_t hops = 0; hops < 4; ++hops) {
    const net::Address address = proxy::client_address(head, connection, hops);
    check(address.is_ip());
    if (hops == 0) check(address == connection.peer);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  path(input);
  log_format(input);
  tokens(input);
  decoding(input);
  client(input);
  return 0;
}
