#pragma once
// VariableTemplate: text in which nginx's variables stand for facts of the exchange, as in `https://$host$request_uri`.
//
//   $scheme $pass_access_scheme   http or https
//   $host                         the host, lower case, without port;  $http_host $best_http_host  with port
//   $request_uri                  the target as the client sent it; $escaped_request_uri  percent-encoded
//   $uri $document_uri            the path as it is now; $args $query_string  the query; $is_args  "?" if there is one
//   $request_method $server_protocol $request_id $req_id $http_NAME $cookie_NAME $arg_NAME
//   $remote_addr $the_real_ip     the client's IP address, as trusted proxies tell it
//
// A name may stand in braces. Anything else behind a `$` is an error.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "filter/filter.h"

namespace sluice::plugins {

class VariableTemplate {
 public:
  static Result<VariableTemplate> parse(std::string_view text);
  // "" if the text can be parsed; otherwise what is wrong with it. For schemas.
  static std::string check(std::string& text);

  // Bytes of this template, of a head, or of the exchange's arena.
  std::string_view render(filter::Context& context) const;

  bool empty() const { return pieces_.empty(); }

 private:
  enum class Kind : uint8_t {
    kText,
    kScheme,
    kHost,
    kHttpHost,
    kRequestUri,
    kEscapedRequestUri,
    kUri,
    kArgs,
    kIsArgs,
    kMethod,
    kProtocol,
    kRequestId,
    kClientAddress,
    kHeader,
    kCookie,
    kArgument,
  };
  struct Piece {
    Kind kind = Kind::kText;
    std::string text;  // itself, or the name of a header, cookie or argument
  };

  static bool parse_name(std::string_view name, Piece* out);
  static std::string_view render(const Piece& piece, filter::Context& context);

  std::vector<Piece> pieces_;
};

// Percent-encodes what may stand neither in a request target nor in a header field: control characters, spaces and
// bytes above ASCII. What is percent-encoded already stays.
std::string_view encode_target(std::string_view text, Arena& arena);

}  // namespace sluice::plugins
