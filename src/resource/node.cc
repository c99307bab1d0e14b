#include "resource/node.h"

#include <charconv>
#include <cmath>

namespace sluice::resource {
namespace {

bool is_any_of(std::string_view text, std::initializer_list<std::string_view> words) {
  for (std::string_view word : words) {
    if (text == word) return true;
  }
  return false;
}

std::string_view without_plus(std::string_view text) {
  return text.size() > 1 && text[0] == '+' && text[1] != '-' ? text.substr(1) : text;
}

}  // namespace

std::optional<int64_t> Node::integer() const {
  if (!is_scalar() || quoted_) return std::nullopt;
  std::string_view digits = without_plus(text());
  int64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<double> Node::number() const {
  if (!is_scalar() || quoted_) return std::nullopt;
  std::string_view digits = without_plus(text());
  double value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<bool> Node::boolean() const {
  if (!is_scalar() || quoted_) return std::nullopt;
  if (is_any_of(text(), {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) return true;
  if (is_any_of(text(), {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})) return false;
  return std::nullopt;
}

bool Node::is_string() const { return is_scalar() && (quoted_ || (!boolean() && !integer() && !number())); }

const char* Node::kind_name() const {
  switch (kind_) {
    case Kind::kNull:
      return "nothing";
    case Kind::kSequence:
      return "a list";
    case Kind::kMapping:
      return "a mapping";
    case Kind::kScalar:
      break;
  }
  if (quoted_) return "a string";
  if (boolean()) return "a boolean";
  if (integer() || number()) return "a number";
  return "a string";
}

}  // namespace sluice::resource
