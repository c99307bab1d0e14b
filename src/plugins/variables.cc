#include "plugins/variables.h"

#include <algorithm>
#include <cstring>

#include "http/request_values.h"
#include "net/address.h"
#include "plugins/schema.h"

namespace sluice::plugins {
namespace {

using http::HeaderId;

constexpr char kHex[] = "0123456789ABCDEF";

bool is_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }
bool is_unreserved(char c) { return is_name(c) || c == '-' || c == '.' || c == '~'; }
bool is_visible(char c) { return c > 0x20 && c < 0x7f; }

template <typename Keep>
std::string_view percent_encode(std::string_view text, Arena& arena, Keep keep) {
  if (std::all_of(text.begin(), text.end(), keep)) return text;
  char* out = arena.allocate_array<char>(text.size() * 3);
  size_t size = 0;
  for (char c : text) {
    if (keep(c)) {
      out[size++] = c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out[size++] = '%';
    out[size++] = kHex[byte >> 4];
    out[size++] = kHex[byte & 15];
  }
  return {out, size};
}

// The target before filters changed it.
std::string_view request_uri(const http::RequestHead& request) {
  const std::string_view original = request.headers.get(HeaderId::kXEnvoyOriginalPath);
  return original.empty() ? request.path : original;
}

std::string_view host_of(std::string_view authority, Arena& arena) {
  const size_t bracket = authority.rfind(']');
  const size_t colon = authority.rfind(':');
  if (colon != authority.npos && (bracket == authority.npos || colon > bracket)) authority = authority.substr(0, colon);
  const auto is_upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (std::none_of(authority.begin(), authority.end(), is_upper)) return authority;
  char* out = arena.allocate_array<char>(authority.size());
  for (size_t i = 0; i < authority.size(); ++i) {
    out[i] = is_upper(authority[i]) ? static_cast<char>(authority[i] + 32) : authority[i];
  }
  return {out, authority.size()};
}

}  // namespace

bool VariableTemplate::parse_name(std::string_view name, Piece* out) {
  static constexpr std::pair<std::string_view, Kind> kKnown[] = {
      {"scheme", Kind::kScheme},
      {"pass_access_scheme", Kind::kScheme},
      {"host", Kind::kHost},
      {"http_host", Kind::kHttpHost},
      {"best_http_host", Kind::kHttpHost},
      {"request_uri", Kind::kRequestUri},
      {"escaped_request_uri", Kind::kEscapedRequestUri},
      {"uri", Kind::kUri},
      {"document_uri", Kind::kUri},
      {"args", Kind::kArgs},
      {"query_string", Kind::kArgs},
      {"is_args", Kind::kIsArgs},
      {"request_method", Kind::kMethod},
      {"server_protocol", Kind::kProtocol},
      {"request_id", Kind::kRequestId},
      {"req_id", Kind::kRequestId},
      {"remote_addr", Kind::kClientAddress},
      {"the_real_ip", Kind::kClientAddress},
  };
  for (const auto& [known, kind] : kKnown) {
    if (name == known) return out->kind = kind, true;
  }
  for (const auto& [prefix, kind] : {std::pair<std::string_view, Kind>{"http_", Kind::kHeader},
                                     {"cookie_", Kind::kCookie},
                                     {"arg_", Kind::kArgument}}) {
    if (!name.starts_with(prefix) || name.size() == prefix.size()) continue;
    out->kind = kind;
    out->text = name.substr(prefix.size());
    if (kind == Kind::kHeader) {
      for (char& c : out->text) c = c == '_' ? '-' : c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    return true;
  }
  return false;
}

Result<VariableTemplate> VariableTemplate::parse(std::string_view text) {
  VariableTemplate out;
  while (!text.empty()) {
    const size_t dollar = text.find('$');
    if (dollar != 0) {
      out.pieces_.push_back({Kind::kText, std::string(text.substr(0, dollar))});
      if (dollar == text.npos) break;
    }
    text.remove_prefix(dollar + 1);
    const bool braces = text.starts_with('{');
    if (braces) text.remove_prefix(1);
    const size_t end = static_cast<size_t>(std::find_if_not(text.begin(), text.end(), is_name) - text.begin());
    const std::string_view name = text.substr(0, end);
    text.remove_prefix(end);
    Piece piece;
    if (!parse_name(name, &piece) || (braces && !text.starts_with('}'))) {
      return Error{in_quotes("$" + std::string(name)) +
                   " is not a variable that is known here, such as $host, $request_uri, $scheme or $http_<header>"};
    }
    if (braces) text.remove_prefix(1);
    out.pieces_.push_back(std::move(piece));
  }
  return out;
}

std::string VariableTemplate::check(std::string& text) {
  auto parsed = parse(text);
  if (!parsed) return parsed.error().message;
  return check_header_value(text);
}

std::string_view VariableTemplate::render(const Piece& piece, filter::Context& context) {
  const http::RequestHead& request = context.request();
  const size_t question = request.path.find('?');
  switch (piece.kind) {
    case Kind::kText:
      return piece.text;
    case Kind::kScheme:
      return request.headers.has(HeaderId::kXForwardedProto) ? request.headers.get(HeaderId::kXForwardedProto)
                                                             : request.scheme;
    case Kind::kHost:
      return host_of(request.authority, context.arena());
    case Kind::kHttpHost:
      return request.authority;
    case Kind::kRequestUri:
      return request_uri(request);
    case Kind::kEscapedRequestUri:
      return percent_encode(request_uri(request), context.arena(), is_unreserved);
    case Kind::kUri:
      return request.path.substr(0, question);
    case Kind::kArgs:
      return question == std::string_view::npos ? std::string_view() : request.path.substr(question + 1);
    case Kind::kIsArgs:
      return question == std::string_view::npos || question + 1 == request.path.size() ? "" : "?";
    case Kind::kMethod:
      return request.method_text;
    case Kind::kProtocol:
      return http::protocol_name(request.version);
    case Kind::kRequestId:
      return request.headers.get(HeaderId::kXRequestId);
    case Kind::kClientAddress: {
      char text[net::Address::kMaxIpText];
      return context.arena().copy({text, context.client_address().format_ip(text)});
    }
    case Kind::kHeader:
      return request.headers.get_joined(piece.text);
    case Kind::kCookie:
      return http::find_cookie(request.headers.get_joined(HeaderId::kCookie), piece.text);
    case Kind::kArgument:
      return http::find_query(request.path, piece.text);
  }
  return {};
}

std::string_view VariableTemplate::render(filter::Context& context) const {
  if (pieces_.empty()) return {};
  if (pieces_.size() == 1) return render(pieces_.front(), context);
  Arena& arena = context.arena();
  auto* parts = arena.allocate_array<std::string_view>(pieces_.size());
  for (size_t i = 0; i < pieces_.size(); ++i) parts[i] = render(pieces_[i], context);
  return arena.join(parts, pieces_.size());
}

std::string_view encode_target(std::string_view text, Arena& arena) { return percent_encode(text, arena, is_visible); }

}  // namespace sluice::plugins
