#pragma once
// Field and Reader: how a parser walks a node tree so that each error can name the field by its
// full path, at no cost when there is no error. Private to resource/ and to annotation parsing.

#include <optional>
#include <string>
#include <string_view>

#include "resource/diagnostic.h"
#include "resource/node.h"

namespace sluice::resource {

// A node and the way to it. A child refers to its parent, which must therefore be a named variable
// that lives longer.
class Field {
 public:
  explicit Field(const Node& root) : node_(&root) {}

  // The member `name`; absent if there is none, or if this is absent or no mapping.
  Field operator[](std::string_view name) const& { return Field(node_ ? node_->find(name) : nullptr, this, name, -1); }
  Field operator[](std::string_view) const&& = delete;
  Field item(const Node& node, int index) const& { return Field(&node, this, {}, index); }
  Field member(const Member& member) const& { return Field(&member.value, this, member.key, -1); }

  // Present means given and not null.
  explicit operator bool() const { return node_ && !node_->is_null(); }
  const Node& node() const {
    static const Node null;
    return node_ ? *node_ : null;
  }
  // Where the value is, or if it is absent, where what should hold it is. Mark{} in a tree read from JSON.
  Mark mark() const { return node_ && node_->mark().line ? node_->mark() : parent_ ? parent_->mark() : Mark{}; }
  // "spec.rules[0].host"
  std::string path() const;

 private:
  Field(const Node* node, const Field* parent, std::string_view name, int index)
      : node_(node), parent_(parent), name_(name), index_(index) {}

  const Node* node_;
  const Field* parent_ = nullptr;
  std::string_view name_;
  int index_ = -1;
};

// Reads values of one object and collects what is wrong with them.
class Reader {
 public:
  Reader(Diagnostics& out, std::string file, std::string object)
      : out_(out), file_(std::move(file)), object_(std::move(object)) {}

  void error(const Field& field, std::string message) {
    ++errors_;
    add(Severity::kError, field, std::move(message));
  }
  void warn(const Field& field, std::string message) { add(Severity::kWarning, field, std::move(message)); }
  void info(const Field& field, std::string message) { add(Severity::kInfo, field, std::move(message)); }
  size_t errors() const { return errors_; }
  // Errors since there were `errors` are reported, but refuse only a part that has been dropped,
  // not the object.
  void forgive(size_t errors) { errors_ = errors; }
  void set_object(std::string object) { object_ = std::move(object); }

  // Absent or null reads as the fallback. A value of another type is an error and reads as the
  // fallback.
  std::string string(const Field& field, std::string_view fallback = {});
  bool boolean(const Field& field, bool fallback);
  // A whole number within [min, max].
  int64_t integer(const Field& field, int64_t fallback, int64_t min, int64_t max);
  uint16_t port(const Field& field) { return static_cast<uint16_t>(integer(field, 0, 1, 65535)); }

  // As string(), but absent and empty are errors.
  std::string required(const Field& field);
  // One of the words, or an error that lists them; absent reads as the first.
  size_t one_of(const Field& field, std::initializer_list<std::string_view> words);

  // True if the field is a mapping (list). Absent is false without an error.
  bool is_mapping(const Field& field);
  bool is_list(const Field& field);

  // Calls function(Field) for each item of a list.
  template <typename Function>
  void each(const Field& list, Function function) {
    if (!is_list(list)) return;
    int index = 0;
    for (const Node& node : list.node().items()) function(list.item(node, index++));
  }

  // Warns of members that are not among the known ones: typing mistakes.
  void only(const Field& mapping, std::initializer_list<std::string_view> known);

 private:
  void add(Severity severity, const Field& field, std::string message);
  void expected(const Field& field, const char* what);

  Diagnostics& out_;
  std::string file_;
  std::string object_;
  size_t errors_ = 0;
};

// `text` in quotes, shortened if long, control characters made visible.
std::string in_quotes(std::string_view text);

// RFC 1123: a label (letters, digits, `-`), a name of labels joined by dots. Lower case only.
bool is_label(std::string_view text);
bool is_dns_name(std::string_view text);
// A host of an Ingress rule: a DNS name, `*`, `*.` and a DNS name, or an IP address. Lower case
// only.
bool is_rule_host(std::string_view text);
bool is_ip_address(std::string_view text);
std::string to_lower(std::string_view text);

}  // namespace sluice::resource
