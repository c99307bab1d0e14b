#include "plugins/schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "http/headers.h"

namespace sluice::plugins {
namespace {

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

// Without case, underscores and hyphens: other ways to write the same name.
std::string folded(std::string_view name) {
  std::string out = lower(name);
  std::erase_if(out, [](char c) { return c == '_' || c == '-'; });
  return out;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string_view kind_name(const ConfigNode& node) {
  switch (node.kind()) {
    case ConfigNode::Kind::kNull:
      return "nothing";
    case ConfigNode::Kind::kScalar:
      return "a single value";
    case ConfigNode::Kind::kList:
      return "a list";
    case ConfigNode::Kind::kMap:
      return "a map";
  }
  return "";
}

Problem wrong_kind(std::string_view wanted, const ConfigNode& node) {
  return {{}, "expected " + std::string(wanted) + ", found " + std::string(kind_name(node))};
}

Problem below(std::string_view name, Problem inner) {
  std::string path(name);
  if (!inner.path.empty() && inner.path[0] != '[') path += '.';
  return {path + inner.path, std::move(inner.message)};
}

std::string escaped_cell(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 80;
  std::string out = "\"";
  for (char c : text.substr(0, kLongest)) out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  if (text.size() > kLongest) out += "…";
  return out + '"';
}

std::vector<FieldInfo> SchemaBase::fields() const {
  std::vector<FieldInfo> out;
  collect({}, out);
  return out;
}

void SchemaBase::collect(const std::string& prefix, std::vector<FieldInfo>& out) const {
  for (const Field& field : fields_) {
    const std::string path = prefix + std::string(field.name);
    std::string description(field.description);
    if (!field.alias.empty()) description += " Also accepted as `" + std::string(field.alias) + "`.";
    out.push_back({path, field.type, field.required ? "required" : field.fallback, std::move(description)});
    if (field.nested) field.nested->collect(path + (field.nested_list ? "[]." : "."), out);
  }
}

std::string SchemaBase::markdown() const {
  std::string out = "| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |\n";
  for (const FieldInfo& field : fields()) {
    std::string fallback = field.fallback;
    if (fallback.empty()) {
      fallback = "none";
    } else if (fallback != "required") {
      fallback = "`" + fallback + "`";
    }
    out += "| `" + field.path + "` | " + escaped_cell(field.type) + " | " + escaped_cell(fallback) + " | " +
           escaped_cell(field.description) + " |\n";
  }
  return out;
}

const SchemaBase::Field* SchemaBase::find(std::string_view name) const {
  for (const Field& field : fields_) {
    if (field.name == name || (!field.alias.empty() && field.alias == name)) return &field;
  }
  return nullptr;
}

std::string SchemaBase::unknown_field(std::string_view name) const {
  const Field* closest = nullptr;
  size_t distance = std::max<size_t>(2, name.size() / 4) + 1;
  for (const Field& field : fields_) {
    const size_t d = folded(field.name) == folded(name) ? 0 : edit_distance(field.name, name);
    if (d < distance && d < field.name.size()) {
      distance = d;
      closest = &field;
    }
  }
  if (closest) return "unknown field; did you mean " + std::string(closest->name) + "?";
  std::string known;
  for (const Field& field : fields_) known += (known.empty() ? "" : ", ") + std::string(field.name);
  return "unknown field; the fields here are " + known;
}

std::optional<Problem> SchemaBase::read(const ConfigNode& node, void* out) const {
  if (!node.is_map() && !node.is_null()) return wrong_kind("a map of fields", node);
  std::vector<const Field*> given;
  for (const auto& [name, value] : node.entries()) {
    const Field* field = find(name);
    if (!field) return Problem{name, unknown_field(name)};
    if (value.is_null()) continue;
    if (std::find(given.begin(), given.end(), field) != given.end()) {
      return Problem{name,
                     "given twice: " + std::string(field->alias) + " is another name of " + std::string(field->name)};
    }
    given.push_back(field);
    if (auto problem = field->read(value, out)) return below(name, std::move(*problem));
  }
  for (const Field& field : fields_) {
    if (field.required && std::find(given.begin(), given.end(), &field) == given.end()) {
      return Problem{std::string(field.name), "is required"};
    }
  }
  return check_ ? check_(out) : std::nullopt;
}

std::optional<Problem> SchemaBase::read_bool(const ConfigNode& node, bool* out) {
  if (!node.is_scalar()) return wrong_kind("true or false", node);
  if (!node.quoted() && (node.text() == "true" || node.text() == "false")) {
    *out = node.text() == "true";
    return std::nullopt;
  }
  return Problem{{}, in_quotes(node.text()) + " is not true or false"};
}

std::optional<Problem> SchemaBase::read_integer(const ConfigNode& node, int64_t min, int64_t max, const Words& words,
                                                int64_t* out) {
  if (!node.is_scalar()) return wrong_kind("an integer", node);
  const std::string& text = node.text();
  for (const auto& [word, value] : words) {
    if (http::iequals(word, text)) {
      *out = value;
      return std::nullopt;
    }
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool all = end == text.data() + text.size() && !text.empty();
  if (!all || node.quoted() || error == std::errc::invalid_argument) {
    return Problem{{}, in_quotes(text) + " is not an integer" + (all && node.quoted() ? ": it is in quotes" : "")};
  }
  if (error != std::errc() || value < min || value > max) {
    return Problem{{}, text + " is not in " + std::to_string(min) + ".." + std::to_string(max)};
  }
  *out = value;
  return std::nullopt;
}

std::optional<Problem> SchemaBase::read_number(const ConfigNode& node, double min, double max, double* out) {
  if (!node.is_scalar()) return wrong_kind("a number", node);
  const std::string& text = node.text();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (node.quoted() || text.empty() || error != std::errc() || end != text.data() + text.size() ||
      !std::isfinite(value)) {
    return Problem{{}, in_quotes(text) + " is not a number"};
  }
  if (value < min || value > max) {
    return Problem{{}, text + " is not in " + number_text(min) + ".." + number_text(max)};
  }
  *out = value;
  return std::nullopt;
}

std::optional<Problem> SchemaBase::read_text(const ConfigNode& node, TextCheck check, std::string* out) {
  if (!node.is_scalar()) return wrong_kind("text", node);
  std::string value = node.text();
  if (check) {
    std::string message = check(value);
    if (!message.empty()) return Problem{{}, std::move(message)};
  }
  *out = std::move(value);
  return std::nullopt;
}

std::optional<Problem> SchemaBase::read_list(const ConfigNode& node, TextCheck check, std::vector<std::string>* out) {
  std::vector<std::string> items;
  if (node.is_scalar()) {
    std::string_view rest = node.text();
    while (!rest.empty()) {
      const size_t comma = rest.find(',');
      std::string item(trim(rest.substr(0, comma)));
      rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
      if (item.empty()) continue;
      if (auto problem = read_text(ConfigNode::scalar(item), check, &item)) return problem;
      items.push_back(std::move(item));
    }
  } else if (node.is_list()) {
    auto problem =
        read_items(node, [&](const ConfigNode& item) { return read_text(item, check, &items.emplace_back()); });
    if (problem) return problem;
  } else {
    return wrong_kind("a list", node);
  }
  *out = std::move(items);
  return std::nullopt;
}

std::optional<Problem> SchemaBase::read_choice(const ConfigNode& node, const Words& words, int64_t* out) {
  if (!node.is_scalar()) return wrong_kind(choice_type(words), node);
  for (const auto& [word, value] : words) {
    if (http::iequals(word, node.text())) {
      *out = value;
      return std::nullopt;
    }
  }
  return Problem{{}, in_quotes(node.text()) + " is not " + choice_type(words)};
}

std::optional<Problem> SchemaBase::read_items(
    const ConfigNode& node, const std::function<std::optional<Problem>(const ConfigNode&)>& read_item) {
  if (!node.is_list()) return wrong_kind("a list", node);
  for (size_t i = 0; i < node.items().size(); ++i) {
    if (auto problem = read_item(node.items()[i])) {
      return below("[" + std::to_string(i) + "]", std::move(*problem));
    }
  }
  return std::nullopt;
}

std::string SchemaBase::integer_type(int64_t min, int64_t max, const Words& words) {
  std::string out = "integer " + std::to_string(min) + ".." + std::to_string(max);
  for (const auto& [word, value] : words) out += ", `" + std::string(word) + "`";
  return out;
}

std::string SchemaBase::choice_type(const Words& words) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    bool again = false;
    for (size_t j = 0; j < i; ++j) again |= words[j].second == words[i].second;
    if (!again) out += (out.empty() ? "one of " : ", ") + std::string(words[i].first);
  }
  return out;
}

std::string SchemaBase::choice_word(const Words& words, int64_t value) {
  for (const auto& [word, known] : words) {
    if (known == value) return std::string(word);
  }
  return {};
}

std::string SchemaBase::number_text(double value) {
  char text[32];
  const int length = std::snprintf(text, sizeof(text), "%.10g", value);
  return std::string(text, static_cast<size_t>(length));
}

std::string SchemaBase::joined(const std::vector<std::string>& items) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : ", ") + item;
  return out;
}

std::string check_header_name(std::string& value) {
  value = lower(trim(value));
  return http::is_token(value) ? std::string() : in_quotes(value) + " is not the name of a header field";
}

std::string check_header_value(std::string& value) {
  if (!http::is_field_value(value)) return "holds a control character, which a header field must not";
  value = std::string(trim(value));
  return {};
}

std::string check_authority(std::string& value) {
  value = std::string(trim(value));
  const bool good = std::all_of(value.begin(), value.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("-._~%!$&'()*+,;=:[]").find(c) != std::string_view::npos;
  });
  return good ? std::string() : in_quotes(value) + " is not a host with an optional port";
}

}  // namespace sluice::plugins
