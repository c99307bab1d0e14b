#include "plugins/header_control/value_template.h"

#include <charconv>
#include <cstring>

#include "net/address.h"
#include "plugins/schema.h"

namespace sluice::plugins::header_control {

Result<ValueTemplate> ValueTemplate::parse(std::string_view text) {
  ValueTemplate out;
  std::string literal;
  auto end_literal = [&] {
    if (literal.empty()) return;
    out.pieces_.push_back(Piece{.kind = Piece::Kind::kText, .text = std::move(literal)});
    literal.clear();
  };
  while (!text.empty()) {
    const size_t percent = text.find('%');
    literal += text.substr(0, percent);
    if (percent == std::string_view::npos) break;
    text.remove_prefix(percent + 1);
    const size_t end = text.find('%');
    if (end == std::string_view::npos) {
      return Error{"a '%' begins an operator that doesn't end; a percent sign is written %%"};
    }
    if (end == 0) {
      literal += '%';
    } else {
      end_literal();
      auto piece = parse_operator(text.substr(0, end));
      if (!piece) return piece.error();
      out.pieces_.push_back(std::move(*piece));
    }
    text.remove_prefix(end + 1);
  }
  end_literal();
  return out;
}

Result<ValueTemplate::Piece> ValueTemplate::parse_operator(std::string_view text) {
  Piece piece;
  if (text == "PROTOCOL") {
    piece.kind = Piece::Kind::kProtocol;
    return piece;
  }
  if (text == "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT") {
    piece.kind = Piece::Kind::kClientAddress;
    return piece;
  }
  const size_t close = text.rfind(')');
  if (!text.starts_with("REQ(") || close == std::string_view::npos) {
    return Error{in_quotes("%" + std::string(text) + "%") +
                 " is not an operator; there are %REQ(name)%, %PROTOCOL%, "
                 "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%, and %% for a percent sign"};
  }
  piece.kind = Piece::Kind::kRequestHeader;
  const std::string_view length = text.substr(close + 1);
  if (!length.empty()) {
    const char* end = length.data() + length.size();
    const auto [stop, error] = std::from_chars(length.data() + 1, end, piece.limit);
    if (length[0] != ':' || error != std::errc() || stop != end || piece.limit == 0) {
      return Error{in_quotes(length) + " is not a length such as \":20\""};
    }
  }
  std::string_view names = text.substr(4, close - 4);
  const size_t question = names.find('?');
  for (std::string_view name : {names.substr(0, question),
                                question == std::string_view::npos ? std::string_view() : names.substr(question + 1)}) {
    if (piece.name_count == 1 && question == std::string_view::npos) break;
    auto parsed = parse_name(name);
    if (!parsed) return parsed.error();
    piece.names[piece.name_count++] = std::move(*parsed);
  }
  return piece;
}

Result<ValueTemplate::Name> ValueTemplate::parse_name(std::string_view text) {
  using Source = Name::Source;
  Name name;
  name.text = std::string(text);
  if (text.starts_with(':')) {
    if (text == ":authority") {
      name.source = Source::kAuthority;
    } else if (text == ":path") {
      name.source = Source::kPath;
    } else if (text == ":method") {
      name.source = Source::kMethod;
    } else if (text == ":scheme") {
      name.source = Source::kScheme;
    } else {
      return Error{in_quotes(text) + " is not one of :authority, :path, :method, :scheme"};
    }
    return name;
  }
  std::string message = check_header_name(name.text);
  if (!message.empty()) return Error{std::move(message)};
  if (name.text == "host") name.source = Source::kAuthority;
  name.id = http::find_header_id(name.text);
  return name;
}

std::string_view ValueTemplate::find(const Name& name, const http::RequestHead& request) {
  switch (name.source) {
    case Name::Source::kAuthority:
      return request.authority;
    case Name::Source::kPath:
      return request.path;
    case Name::Source::kMethod:
      return request.method_text;
    case Name::Source::kScheme:
      return request.scheme;
    case Name::Source::kHeader:
      break;
  }
  return name.id == http::HeaderId::kOther ? request.headers.get(name.text) : request.headers.get(name.id);
}

std::string_view ValueTemplate::render(const Piece& piece, filter::Context& context) {
  switch (piece.kind) {
    case Piece::Kind::kText:
      return piece.text;
    case Piece::Kind::kProtocol:
      return http::protocol_name(context.request().version);
    case Piece::Kind::kClientAddress: {
      char text[net::Address::kMaxIpText];
      return context.arena().copy({text, context.client_address().format_ip(text)});
    }
    case Piece::Kind::kRequestHeader:
      break;
  }
  std::string_view value;
  for (uint8_t i = 0; i < piece.name_count && value.empty(); ++i) value = find(piece.names[i], context.request());
  return value.substr(0, piece.limit);
}

std::string_view ValueTemplate::render(filter::Context& context) const {
  if (pieces_.size() == 1) return render(pieces_.front(), context);
  if (pieces_.empty()) return {};
  Arena& arena = context.arena();
  auto* parts = arena.allocate_array<std::string_view>(pieces_.size());
  for (size_t i = 0; i < pieces_.size(); ++i) parts[i] = render(pieces_[i], context);
  return arena.join(parts, pieces_.size());
}

}  // namespace sluice::plugins::header_control
