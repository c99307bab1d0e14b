#pragma once
// Schema: what a plugin's configuration may say. A plugin writes its fields down once (name, type,
// bounds, description; the default is the value of a fresh struct); parsing, error messages and the
// documentation's field table come from that.
//
//   const Schema<Config>& schema() {
//     static const auto kSchema = Schema<Config>()
//         .integer("requests_per_unit", &Config::requests_per_unit, 1, 1'000'000, "Requests that
//         pass per `unit`.").required() .choice("unit", &Config::unit, {{"second", Unit::kSecond},
//         {"minute", Unit::kMinute}}, "…");
//     return kSchema;
//   }
//
// An error names the field by its full path and says what would be right: "requests_per_unit: 0 is
// not in 1..1000000", "request.add[0].name: unknown field …". A field that is absent or null keeps
// its default; one that isn't known is an error. A quoted scalar is text and never a number or a
// bool.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "plugins/config_node.h"

namespace sluice::plugins {

// What is wrong with a configuration, and where ("add[0].name", or empty for the whole).
struct Problem {
  std::string path;
  std::string message;

  std::string to_string() const { return path.empty() ? message : path + ": " + message; }
};

// Validates a text and may normalise it. Returns what is wrong, or an empty text.
using TextCheck = std::string (*)(std::string& value);

// One row of the documentation.
struct FieldInfo {
  std::string path;      // "request.add[].name"
  std::string type;      // "integer 1..9"
  std::string fallback;  // the default; "required" if there is none
  std::string description;
};

// The part of a schema that doesn't depend on the struct.
class SchemaBase {
 public:
  // All fields, those of nested objects behind the field that holds them.
  std::vector<FieldInfo> fields() const;
  // The fields as a Markdown table, with a newline at its end.
  std::string markdown() const;

 protected:
  using Words = std::vector<std::pair<std::string_view, int64_t>>;
  struct Field {
    std::string_view name;
    std::string_view alias = {};
    std::string type;
    std::string fallback = {};
    std::string_view description;
    bool required = false;
    const SchemaBase* nested = nullptr;
    bool nested_list = false;
    // Reads the value into the member of the struct at `out`.
    std::function<std::optional<Problem>(const ConfigNode& node, void* out)> read;
  };

  // Reads the map into the struct at `out`.
  std::optional<Problem> read(const ConfigNode& node, void* out) const;

  static std::optional<Problem> read_bool(const ConfigNode& node, bool* out);
  static std::optional<Problem> read_integer(const ConfigNode& node, int64_t min, int64_t max, const Words& words,
                                             int64_t* out);
  static std::optional<Problem> read_number(const ConfigNode& node, double min, double max, double* out);
  static std::optional<Problem> read_text(const ConfigNode& node, TextCheck check, std::string* out);
  static std::optional<Problem> read_list(const ConfigNode& node, TextCheck check, std::vector<std::string>* out);
  // The index of the chosen word.
  static std::optional<Problem> read_choice(const ConfigNode& node, const Words& words, int64_t* out);
  static std::optional<Problem> read_items(const ConfigNode& node,
                                           const std::function<std::optional<Problem>(const ConfigNode&)>& read_item);

  static std::string integer_type(int64_t min, int64_t max, const Words& words);
  static std::string choice_type(const Words& words);
  static std::string choice_word(const Words& words, int64_t value);
  static std::string number_text(double value);
  static std::string joined(const std::vector<std::string>& items);

  std::vector<Field> fields_;
  std::function<std::optional<Problem>(const void*)> check_;

 private:
  void collect(const std::string& prefix, std::vector<FieldInfo>& out) const;
  const Field* find(std::string_view name) const;
  std::string unknown_field(std::string_view name) const;
};

template <typename Config>
class Schema : public SchemaBase {
 public:
  Schema& boolean(std::string_view name, bool Config::* member, std::string_view description) {
    return add(
        {.name = name,
         .type = "bool",
         .fallback = Config().*member ? "true" : "false",
         .description = description,
         .read = [member](const ConfigNode& node, void* out) { return read_bool(node, &(config(out).*member)); }});
  }

  // `words` are names for some of the values.
  template <typename Integer>
  Schema& integer(std::string_view name, Integer Config::* member, int64_t min, int64_t max,
                  std::string_view description, Words words = {}) {
    return add({.name = name,
                .type = integer_type(min, max, words),
                .fallback = std::to_string(Config().*member),
                .description = description,
                .read = [=](const ConfigNode& node, void* out) {
                  int64_t value = 0;
                  auto problem = read_integer(node, min, max, words, &value);
                  if (!problem) config(out).*member = static_cast<Integer>(value);
                  return problem;
                }});
  }

  Schema& number(std::string_view name, double Config::* member, double min, double max, std::string_view description) {
    return add({.name = name,
                .type = "number " + number_text(min) + ".." + number_text(max),
                .fallback = number_text(Config().*member),
                .description = description,
                .read = [=](const ConfigNode& node, void* out) {
                  return read_number(node, min, max, &(config(out).*member));
                }});
  }

  Schema& text(std::string_view name, std::string Config::* member, std::string_view description,
               TextCheck check = nullptr) {
    return add(
        {.name = name,
         .type = "text",
         .fallback = Config().*member,
         .description = description,
         .read = [=](const ConfigNode& node, void* out) { return read_text(node, check, &(config(out).*member)); }});
  }

  // A list of texts; one text with commas is read as a list too. `check` is applied to each item.
  Schema& list(std::string_view name, std::vector<std::string> Config::* member, std::string_view description,
               TextCheck check = nullptr) {
    return add(
        {.name = name,
         .type = "list of text",
         .fallback = joined(Config().*member),
         .description = description,
         .read = [=](const ConfigNode& node, void* out) { return read_list(node, check, &(config(out).*member)); }});
  }

  // One of a few words, whatever their case. A value may have several words; the first is the
  // documented one.
  template <typename Enum>
  Schema& choice(std::string_view name, Enum Config::* member,
                 std::initializer_list<std::pair<std::string_view, Enum>> choices, std::string_view description) {
    Words words;
    for (const auto& [word, value] : choices) words.emplace_back(word, static_cast<int64_t>(value));
    return add({.name = name,
                .type = choice_type(words),
                .fallback = choice_word(words, static_cast<int64_t>(Config().*member)),
                .description = description,
                .read = [=](const ConfigNode& node, void* out) {
                  int64_t value = 0;
                  auto problem = read_choice(node, words, &value);
                  if (!problem) config(out).*member = static_cast<Enum>(value);
                  return problem;
                }});
  }

  // The schema of the nested struct must outlive this one.
  template <typename Nested>
  Schema& object(std::string_view name, Nested Config::* member, const Schema<Nested>& nested,
                 std::string_view description) {
    return add({.name = name,
                .type = "object",
                .description = description,
                .nested = &nested,
                .read = [member, &nested](const ConfigNode& node, void* out) {
                  return nested.read_struct(node, &(config(out).*member));
                }});
  }

  template <typename Nested>
  Schema& objects(std::string_view name, std::vector<Nested> Config::* member, const Schema<Nested>& nested,
                  std::string_view description) {
    return add({.name = name,
                .type = "list of objects",
                .description = description,
                .nested = &nested,
                .nested_list = true,
                .read = [member, &nested](const ConfigNode& node, void* out) {
                  std::vector<Nested> items;
                  auto problem = read_items(
                      node, [&](const ConfigNode& item) { return nested.read_struct(item, &items.emplace_back()); });
                  if (!problem) config(out).*member = std::move(items);
                  return problem;
                }});
  }

  // The last field must be given.
  Schema& required() { return fields_.back().required = true, *this; }
  // Another name under which the last field is accepted.
  Schema& alias(std::string_view name) { return fields_.back().alias = name, *this; }
  // What must hold between the fields; called when all of them have been read.
  Schema& check(std::optional<Problem> (*check)(const Config&)) {
    check_ = [check](const void* value) { return check(*static_cast<const Config*>(value)); };
    return *this;
  }

  Result<Config> parse(const ConfigNode& node) const {
    Config out;
    if (auto problem = read(node, &out)) return Error{problem->to_string()};
    return out;
  }

  std::optional<Problem> read_struct(const ConfigNode& node, Config* out) const { return read(node, out); }

 private:
  static Config& config(void* out) { return *static_cast<Config*>(out); }
  Schema& add(Field field) { return fields_.push_back(std::move(field)), *this; }
};

// Checks that several plugins share.

// A field name: a token, made lower case.
std::string check_header_name(std::string& value);
// A field value: no control characters; white space around it is taken off.
std::string check_header_value(std::string& value);
// A host with an optional port, as Host and :authority hold it.
std::string check_authority(std::string& value);

// The text in quotes, cut to a length that suits a message.
std::string in_quotes(std::string_view text);

}  // namespace sluice::plugins
