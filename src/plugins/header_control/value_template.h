#pragma once
// ValueTemplate: a header value in which operators stand for facts of the exchange.
//
//   %REQ(name)%            the first value of a request header field; :authority (or host), :path,
//   :method, :scheme too %REQ(name?other)%      … or of another field if the first is absent;
//   %REQ(name):20%  … cut to 20 bytes %PROTOCOL%             HTTP/1.0, HTTP/1.1 or HTTP/2
//   %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%   the client's IP address, as trusted proxies tell it
//   %%                     a percent sign

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "filter/filter.h"
#include "http/header_names.h"

namespace sluice::plugins::header_control {

class ValueTemplate {
 public:
  static Result<ValueTemplate> parse(std::string_view text);

  // The value in this exchange: bytes of this template, of a head, or of the exchange's arena.
  // Empty if it consists of operators that have nothing to say here.
  std::string_view render(filter::Context& context) const;

 private:
  struct Name {
    enum class Source : uint8_t { kHeader, kAuthority, kPath, kMethod, kScheme } source = Source::kHeader;
    http::HeaderId id = http::HeaderId::kOther;
    std::string text;
  };
  struct Piece {
    enum class Kind : uint8_t { kText, kRequestHeader, kProtocol, kClientAddress } kind = Kind::kText;
    std::string text;
    Name names[2];
    uint8_t name_count = 0;
    uint32_t limit = UINT32_MAX;
  };

  static Result<Piece> parse_operator(std::string_view text);
  static Result<Name> parse_name(std::string_view text);
  static std::string_view find(const Name& name, const http::RequestHead& request);
  static std::string_view render(const Piece& piece, filter::Context& context);

  std::vector<Piece> pieces_;
};

}  // namespace sluice::plugins::header_control
