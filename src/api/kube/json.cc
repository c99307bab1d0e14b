#include "api/kube/json.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "resource/json.h"
#include "resource/yaml.h"

namespace sluice::api::kube {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Words that YAML 1.1 reads as something else than a string, in any case.
bool is_reserved_word(std::string_view text) {
  static constexpr std::array<std::string_view, 11> kWords = {"null", "true", "false", "yes", "no", "on",
                                                              "off",  "y",    "n",     "inf", "nan"};
  if (text.size() > 5) return false;
  std::string lower;
  for (const char c : text) lower += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

bool is_plain(std::string_view text) {
  if (text.empty() || text.size() > 4096 || !(is_letter(text[0]) || text[0] == '/' || text[0] == '_')) return false;
  for (const char c : text) {
    if (!is_letter(c) && !is_digit(c) && c != '/' && c != '_' && c != '-' && c != '.' && c != '=' && c != '+')
      return false;
  }
  return !is_reserved_word(text);
}

// Characters that a YAML text can't hold as they are, or that its readers change.
bool needs_escapes(std::string_view text) {
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0x7f) return true;
    if (byte < 0x80 || i + 1 == text.size()) continue;
    const auto second = static_cast<unsigned char>(text[i + 1]);
    if (byte == 0xc2 && second < 0xa0) return true;   // C1 controls, NEL
    if (byte == 0xe2 && second == 0x80) return true;  // among others the separators of lines and paragraphs
    if (byte == 0xef && (second == 0xbb || second == 0xbf)) return true;  // byte-order mark, U+FFFE, U+FFFF
  }
  return false;
}

bool fits_block(std::string_view text) {
  if (text.find('\n') == text.npos || text[0] == ' ' || text[0] == '\n' || text[0] == '\t') return false;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return false;
  }
  return !needs_escapes(text);
}

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', needs_escapes(text), Json::error_handler_t::replace);
}

void write_block(const std::string& text, size_t indent, std::string& out) {
  const size_t last = text.find_last_not_of('\n');
  const size_t ends = text.size() - 1 - last;
  out += ends == 0 ? "|-" : ends == 1 ? "|" : "|+";
  out += '\n';
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    if (end > at) out.append(indent, ' ');
    out.append(text, at, end - at);
    out += '\n';
    at = end + 1;
  }
}

void write_value(const Json& value, size_t indent, std::string& out);

void write_scalar(const Json& value, size_t indent, std::string& out) {
  if (!value.is_string()) {
    out += to_text(value);
    out += '\n';
    return;
  }
  const auto& text = value.get_ref<const std::string&>();
  if (fits_block(text)) return write_block(text, indent, out);
  out += is_plain(text) ? text : quoted(text);
  out += '\n';
}

// After "key:" or "-": on the same line, or on lines of its own.
void write_member(const Json& value, size_t indent, bool in_list, std::string& out) {
  const bool collection = value.is_structured() && !value.empty();
  if (!collection) {
    out += ' ';
    return write_scalar(value, indent, out);
  }
  if (in_list && value.is_object()) {
    // The first member follows the dash.
    std::string text;
    write_value(value, indent, text);
    out += ' ';
    out += text.substr(indent);
    return;
  }
  out += '\n';
  write_value(value, indent, out);
}

void write_value(const Json& value, size_t indent, std::string& out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, member] : value.items()) {
      out.append(indent, ' ');
      out += is_plain(key) ? key : quoted(key);
      out += ':';
      write_member(member, indent + 2, false, out);
    }
  } else if (value.is_array() && !value.empty()) {
    for (const Json& item : value) {
      out.append(indent, ' ');
      out += '-';
      write_member(item, indent + 2, true, out);
    }
  } else {
    out.append(indent, ' ');
    write_scalar(value, indent + 2, out);
  }
}

}  // namespace

Json to_json(const resource::Node& node) {
  std::string text;
  resource::write_json(node, text);
  return Json::parse(text, nullptr, false);
}

Result<Json> parse_json(std::string_view text) {
  resource::JsonParser parser;
  const resource::Node* root = parser.parse(text);
  if (!root) return Error{parser.error()};
  return to_json(*root);
}

Result<Json> parse_yaml(std::string_view text) {
  resource::YamlStream stream(text);
  const auto failure = [&] {
    return Error{"is not YAML: line " + std::to_string(stream.error().mark.line) + ": " + stream.error().message};
  };
  const auto first = stream.next();
  if (first == resource::YamlStream::Next::kError) return failure();
  if (first == resource::YamlStream::Next::kEnd) return Json();
  Json out = to_json(stream.document());
  const auto second = stream.next();
  if (second == resource::YamlStream::Next::kError) return failure();
  if (second != resource::YamlStream::Next::kEnd) return Error{"holds more than one document"};
  return out;
}

std::string to_text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string to_yaml(const Json& value) {
  std::string out;
  write_value(value, 0, out);
  return out;
}

unsigned depth_of(const Json& value) {
  unsigned deepest = 0;
  if (value.is_structured()) {
    for (const Json& child : value) deepest = std::max(deepest, depth_of(child));
  }
  return deepest + 1;
}

size_t count_values(const Json& value) {
  size_t count = 1;
  if (value.is_structured()) {
    for (const Json& child : value) count += count_values(child);
  }
  return count;
}

const Json* find(const Json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto at = object.find(key);
  return at == object.end() ? nullptr : &*at;
}

std::string text_of(const Json& object, std::string_view key) {
  const Json* member = find(object, key);
  return member && member->is_string() ? member->get_ref<const std::string&>() : std::string();
}

}  // namespace sluice::api::kube
