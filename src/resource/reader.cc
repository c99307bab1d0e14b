#include "resource/reader.h"

#include <arpa/inet.h>

#include <algorithm>

namespace sluice::resource {

std::string Field::path() const {
  std::string out = parent_ ? parent_->path() : std::string();
  if (index_ >= 0) return out + "[" + std::to_string(index_) + "]";
  if (name_.empty()) return out;
  bool plain = std::all_of(name_.begin(), name_.end(), [](unsigned char c) { return c > 0x20 && c != 0x7f; });
  std::string name = plain ? std::string(name_.substr(0, 100)) : in_quotes(name_);
  if (name.find_first_of("./[") != name.npos) return out + "[" + name + "]";
  return out.empty() ? name : out + "." + name;
}

void Reader::add(Severity severity, const Field& field, std::string message) {
  constexpr size_t kMaxDiagnosticsPerText = 10'000;
  if (out_.size() >= kMaxDiagnosticsPerText) return;
  Mark mark = field.mark();
  out_.push_back({severity, file_, mark.line, mark.column, object_, field.path(), std::move(message)});
}

void Reader::expected(const Field& field, const char* what) {
  const Node& node = field.node();
  std::string found = node.kind_name();
  if (node.is_scalar()) found += " (" + in_quotes(node.text()) + ")";
  error(field, std::string("expected ") + what + ", found " + found);
}

std::string Reader::string(const Field& field, std::string_view fallback) {
  if (!field) return std::string(fallback);
  if (field.node().is_string()) return std::string(field.node().text());
  if (field.node().is_scalar()) {
    error(field, "must be a string: write \"" + std::string(field.node().text()) + "\" in quotes");
  } else {
    expected(field, "a string");
  }
  return std::string(fallback);
}

bool Reader::boolean(const Field& field, bool fallback) {
  if (!field) return fallback;
  if (auto value = field.node().boolean()) return *value;
  expected(field, "true or false");
  return fallback;
}

int64_t Reader::integer(const Field& field, int64_t fallback, int64_t min, int64_t max) {
  if (!field) return fallback;
  auto value = field.node().integer();
  if (!value) {
    expected(field, "a whole number");
    return fallback;
  }
  if (*value < min || *value > max) {
    error(field, std::to_string(*value) + " is not within " + std::to_string(min) + " to " + std::to_string(max));
    return fallback;
  }
  return *value;
}

std::string Reader::required(const Field& field) {
  if (!field || (field.node().is_scalar() && field.node().text().empty())) {
    error(field, "is missing");
    return {};
  }
  return string(field);
}

size_t Reader::one_of(const Field& field, std::initializer_list<std::string_view> words) {
  if (!field) return 0;
  std::string_view text = field.node().text();
  for (size_t i = 0; i < words.size(); ++i) {
    if (field.node().is_scalar() && words.begin()[i] == text) return i;
  }
  std::string list;
  for (std::string_view word : words) list += (list.empty() ? "" : ", ") + std::string(word);
  error(field, (field.node().is_scalar() ? in_quotes(text) : std::string(field.node().kind_name())) +
                   " is not one of " + list);
  return 0;
}

bool Reader::is_mapping(const Field& field) {
  if (!field) return false;
  if (field.node().is_mapping()) return true;
  expected(field, "a mapping");
  return false;
}

bool Reader::is_list(const Field& field) {
  if (!field) return false;
  if (field.node().is_sequence()) return true;
  expected(field, "a list");
  return false;
}

void Reader::only(const Field& mapping, std::initializer_list<std::string_view> known) {
  for (const Member& member : mapping.node().members()) {
    if (std::find(known.begin(), known.end(), member.key) != known.end()) continue;
    std::string hint;
    for (std::string_view name : known) {
      if (to_lower(name) == to_lower(member.key)) hint = "; did you mean " + std::string(name) + "?";
    }
    warn(mapping.member(member), "unknown field" + hint);
  }
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kMost = 80;
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text.substr(0, kMost)) {
    auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  if (text.size() > kMost) out += "…";
  return out + "\"";
}

bool is_label(std::string_view text) {
  if (text.empty() || text.size() > 63 || text.front() == '-' || text.back() == '-') return false;
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

bool is_dns_name(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  for (;;) {
    size_t dot = text.find('.');
    if (!is_label(text.substr(0, dot))) return false;
    if (dot == text.npos) return true;
    text.remove_prefix(dot + 1);
  }
}

bool is_ip_address(std::string_view text) {
  char buffer[64];
  if (text.empty() || text.size() >= sizeof(buffer)) return false;
  std::memcpy(buffer, text.data(), text.size());
  buffer[text.size()] = 0;
  in6_addr address;
  return inet_pton(AF_INET, buffer, &address) == 1 || inet_pton(AF_INET6, buffer, &address) == 1;
}

bool is_rule_host(std::string_view text) {
  if (text == "*") return true;
  if (text.starts_with("*.")) return is_dns_name(text.substr(2));
  return is_dns_name(text) || is_ip_address(text);
}

std::string to_lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

}  // namespace sluice::resource
