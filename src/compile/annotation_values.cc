#include "compile/annotation_values.h"

#include <re2/re2.h>

#include <algorithm>
#include <charconv>

#include "resource/reader.h"
#include "resource/yaml.h"

namespace sluice::compile {
namespace {

using resource::in_quotes;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'; }

template <typename Function>
bool each_line(std::string_view text, Function function) {
  for (;;) {
    size_t newline = text.find('\n');
    std::string_view line = trim(text.substr(0, newline));
    if (!line.empty() && !function(line)) return false;
    if (newline == text.npos) return true;
    text.remove_prefix(newline + 1);
  }
}

std::vector<std::string_view> fields(std::string_view line) {
  std::vector<std::string_view> out;
  size_t i = 0;
  while (i < line.size()) {
    while (i < line.size() && is_space(line[i])) ++i;
    size_t begin = i;
    while (i < line.size() && !is_space(line[i])) ++i;
    if (i > begin) out.push_back(line.substr(begin, i - begin));
  }
  return out;
}

std::string_view unquote(std::string_view text) {
  if (text.size() >= 2 && text.front() == text.back() && (text.front() == '"' || text.front() == '\'')) {
    return text.substr(1, text.size() - 2);
  }
  return text;
}

bool parse_number(std::string_view text, int64_t* out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool parse_destination_line(std::string_view line, DestinationLine* out, std::string* error) {
  auto words = fields(line);
  size_t at = 0;
  if (words[0].ends_with('%')) {
    int64_t weight;
    if (!parse_number(words[0].substr(0, words[0].size() - 1), &weight) || weight < 0 || weight > 65535) {
      *error = in_quotes(words[0]) + " is not a weight such as 30%";
      return false;
    }
    out->weight = static_cast<uint32_t>(weight);
    at = 1;
  }
  if (at >= words.size()) {
    *error = "the line " + in_quotes(line) + " has no service; write [weight%] host[:port] [subset]";
    return false;
  }
  std::string_view host = words[at];
  size_t colon = host.rfind(':');
  int64_t port;
  if (colon != host.npos && parse_number(host.substr(colon + 1), &port) && port > 0 && port < 65536) {
    out->port = static_cast<uint16_t>(port);
    host = host.substr(0, colon);
  }
  out->host = host;
  if (at + 1 < words.size()) out->subset = words[at + 1];
  return true;
}

plugins::ConfigNode to_config(const resource::Node& node) {
  switch (node.kind()) {
    case resource::Node::Kind::kNull:
      break;
    case resource::Node::Kind::kScalar:
      return plugins::ConfigNode::scalar(std::string(node.text()), node.is_quoted());
    case resource::Node::Kind::kSequence: {
      auto out = plugins::ConfigNode::list();
      for (const resource::Node& item : node.items()) out.add(to_config(item));
      return out;
    }
    case resource::Node::Kind::kMapping: {
      auto out = plugins::ConfigNode::map();
      for (const resource::Member& member : node.members()) out.set(std::string(member.key), to_config(member.value));
      return out;
    }
  }
  return {};
}

bool parse_filter(const resource::Node& item, size_t index, std::vector<FilterOptions>* out, std::string* error) {
  std::string place = "item " + std::to_string(index) + " ";
  const resource::Node* name = item.find("name");
  if (!name || !name->is_scalar() || name->text().empty()) {
    *error = place + "needs a name";
    return false;
  }
  for (const resource::Member& member : item.members()) {
    if (member.key == "name" || member.key == "config") continue;
    *error = place + "has the unknown field " + in_quotes(member.key) + "; known are name and config";
    return false;
  }
  FilterOptions filter;
  filter.name = name->text();
  if (const resource::Node* config = item.find("config")) filter.config = to_config(*config);
  out->push_back(std::move(filter));
  return true;
}

}  // namespace

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::string trim_lines(std::string_view text) {
  std::string out;
  for (;;) {
    size_t newline = text.find('\n');
    out += trim(text.substr(0, newline));
    if (newline == text.npos) return out;
    out += '\n';
    text.remove_prefix(newline + 1);
  }
}

std::vector<std::string> split_list(std::string_view text, std::string_view separators) {
  std::vector<std::string> out;
  for (;;) {
    size_t end = text.find_first_of(separators);
    std::string_view item = trim(text.substr(0, end));
    if (!item.empty()) out.emplace_back(item);
    if (end == text.npos) return out;
    text.remove_prefix(end + 1);
  }
}

bool iequals(std::string_view a, std::string_view b) { return resource::to_lower(a) == resource::to_lower(b); }

bool is_header_name(std::string_view name) {
  if (name.empty()) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool compile_regex(std::string_view text, std::shared_ptr<const re2::RE2>* out, std::string* error) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto regex = std::make_shared<re2::RE2>(re2::StringPiece(text.data(), text.size()), options);
  if (!regex->ok()) {
    *error = in_quotes(text) + " is not a regular expression (RE2): " + regex->error();
    return false;
  }
  *out = std::move(regex);
  return true;
}

bool parse_bool(std::string_view text, bool* out, std::string* error) {
  for (std::string_view word : {"1", "t", "T", "TRUE", "true", "True"}) {
    if (text == word) return *out = true, true;
  }
  for (std::string_view word : {"0", "f", "F", "FALSE", "false", "False"}) {
    if (text == word) return *out = false, true;
  }
  *error = in_quotes(text) + " is not true or false";
  return false;
}

bool parse_int(std::string_view text, int64_t* out, std::string* error) {
  int64_t value;
  std::string_view digits = text.size() > 1 && text[0] == '+' && text[1] != '-' ? text.substr(1) : text;
  if (!parse_number(digits, &value)) {
    *error = in_quotes(text) + " is not a whole number";
    return false;
  }
  *out = value;
  return true;
}

bool parse_secret_ref(std::string_view text, const std::string& ns, SecretRef* out, std::string* error) {
  size_t slash = text.find('/');
  SecretRef ref = slash == text.npos
                      ? SecretRef{ns, std::string(text)}
                      : SecretRef{std::string(text.substr(0, slash)), std::string(text.substr(slash + 1))};
  if (!resource::is_label(ref.ns) || !resource::is_dns_name(ref.name)) {
    *error = in_quotes(text) + " is not a Secret: write name or namespace/name";
    return false;
  }
  *out = std::move(ref);
  return true;
}

bool parse_header_edits(std::string_view text, HeaderEdits* out, std::string* error) {
  HeaderEdits edits;
  each_line(text, [&](std::string_view line) {
    size_t space = 0;
    // A quoted key may hold spaces.
    if (line[0] == '"' || line[0] == '\'') {
      size_t closing = line.find(line[0], 1);
      space = closing == line.npos ? 0 : closing;
    }
    while (space < line.size() && !is_space(line[space])) ++space;
    std::string key(unquote(line.substr(0, space)));
    std::string_view value = unquote(trim(line.substr(space)));
    if (value.empty()) {
      *error =
          "the line " + in_quotes(line) + " is ignored: it has no value; write name and value separated by a space";
      return true;
    }
    if (!is_header_name(key) && !key.starts_with(':')) {
      *error = "the line " + in_quotes(line) + " is ignored: " + in_quotes(key) + " is not a header name";
      return true;
    }
    key = resource::to_lower(key);
    std::erase_if(edits, [&](const auto& edit) { return edit.first == key; });
    edits.emplace_back(std::move(key), value);
    return true;
  });
  *out = std::move(edits);
  return true;
}

bool parse_header_names(std::string_view text, std::vector<std::string>* out, std::string* error) {
  std::vector<std::string> names;
  for (const std::string& name : split_list(text, ",")) {
    if (is_header_name(name)) {
      names.push_back(resource::to_lower(name));
    } else {
      *error = in_quotes(name) + " is ignored: it is not a header name";
    }
  }
  *out = std::move(names);
  return true;
}

bool parse_destinations(std::string_view text, std::vector<DestinationLine>* out, std::string* error) {
  constexpr size_t kMost = 1000;
  std::vector<DestinationLine> lines;
  bool good = each_line(text, [&](std::string_view line) {
    DestinationLine destination;
    if (!parse_destination_line(line, &destination, error)) return false;
    lines.push_back(std::move(destination));
    return true;
  });
  if (!good) return false;
  if (lines.size() > kMost) {
    *error = "has more than " + std::to_string(kMost) + " lines";
    return false;
  }
  // Shares are exact: each weight out of their sum. One line alone is all; the first takes it all
  // if nothing is left.
  uint64_t total = 0;
  for (const DestinationLine& line : lines) total += line.weight;
  if (total == 0 && !lines.empty()) lines[0].weight = 1;
  *out = std::move(lines);
  return true;
}

bool parse_hash_by(std::string_view text, config::HashPolicy* out, std::string* error) {
  using Source = config::HashPolicy::Source;
  config::HashPolicy hash;
  if (text == "$request_uri") {
    hash.source = Source::kPath;
  } else if (text == "$host") {
    hash.source = Source::kAuthority;
  } else if (text == "$remote_addr") {
    hash.source = Source::kSourceAddress;
  } else if (text.starts_with("$http_") && is_header_name(text.substr(6))) {
    hash.source = Source::kHeader;
    hash.name = resource::to_lower(text.substr(6));
  } else if (text.starts_with("$arg_") && text.size() > 5) {
    hash.source = Source::kQuery;
    hash.name = text.substr(5);
  } else {
    *error = in_quotes(text) +
             " is not one of $request_uri, $host, $remote_addr, $http_<header>, $arg_<parameter>; "
             "round robin is used";
    return false;
  }
  *out = std::move(hash);
  return true;
}

bool add_cipher(std::string_view name, std::string* list, std::string* error) {
  static constexpr std::string_view kOffered[] = {"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
                                                  "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
                                                  "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"};
  if (std::find(std::begin(kOffered), std::end(kOffered), name) == std::end(kOffered)) {
    *error = in_quotes(name) + " is ignored: it is not a cipher suite of TLS 1.2 with ECDHE and AEAD";
    return false;
  }
  list->append(list->empty() ? "" : ":").append(name);
  return true;
}

bool parse_url(std::string_view text, std::string* scheme, std::string* host, std::string* path) {
  size_t colon = text.find("://");
  if (colon == text.npos || !text.starts_with("http")) return false;
  std::string_view rest = text.substr(colon + 3);
  rest = rest.substr(0, rest.find_first_of("?#"));
  size_t slash = std::min(rest.find('/'), rest.size());
  if (slash == 0) return false;
  for (char c : rest) {
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f) return false;
  }
  *scheme = text.substr(0, colon);
  *host = rest.substr(0, slash);
  *path = rest.substr(slash);
  return true;
}

namespace {

// The first document of an annotation's value. False with no error: the value is empty.
bool read_document(resource::YamlStream& stream, std::string* error) {
  switch (stream.next()) {
    case resource::YamlStream::Next::kEnd:
      return false;
    case resource::YamlStream::Next::kError:
      *error = "line " + std::to_string(stream.error().mark.line) + " of the value: " + stream.error().message;
      return false;
    case resource::YamlStream::Next::kDocument:
      break;
  }
  return true;
}

}  // namespace

bool parse_filters(std::string_view text, std::vector<FilterOptions>* out, std::string* error) {
  resource::YamlStream stream(text);
  if (!read_document(stream, error)) {
    if (error->empty()) out->clear();
    return error->empty();
  }
  if (!stream.document().is_sequence()) {
    *error = std::string("expected a list of {name, config}, found ") + stream.document().kind_name();
    return false;
  }
  std::vector<FilterOptions> filters;
  for (const resource::Node& item : stream.document().items()) {
    if (!parse_filter(item, filters.size(), &filters, error)) return false;
  }
  *out = std::move(filters);
  return true;
}

bool parse_upstream(std::string_view text, std::shared_ptr<const UpstreamPolicy>* out, std::string* error) {
  resource::YamlStream stream(text);
  if (!read_document(stream, error)) return false;
  if (!stream.document().is_mapping()) {
    *error = std::string("expected a map, found ") + stream.document().kind_name();
    return false;
  }
  Result<UpstreamPolicy> policy = UpstreamPolicy::parse(to_config(stream.document()));
  if (!policy.ok()) return *error = policy.error().message, false;
  *out = std::make_shared<UpstreamPolicy>(std::move(*policy));
  return true;
}

}  // namespace sluice::compile
