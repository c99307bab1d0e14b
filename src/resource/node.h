#pragma once
// Node: one value of a parsed YAML or JSON document, with the place it came from. A tree of nodes
// is immutable, lives in the arena of its Document and is cheap to walk: children are contiguous
// arrays, texts point into the arena.
//
// Aliases share the children of their anchor, so a document never grows by being parsed; what
// walking it would cost is bounded when it is parsed (Limits::max_values).

#include <cstdint>
#include <cstring>
#include <memory_resource>
#include <optional>
#include <span>
#include <string_view>

namespace sluice::resource {

// A place in a file, both counted from 1; 0 means unknown.
struct Mark {
  uint32_t line = 0;
  uint32_t column = 0;
};

struct Member;

class Node {
 public:
  enum class Kind : uint8_t { kNull, kScalar, kSequence, kMapping };

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::kNull; }
  bool is_scalar() const { return kind_ == Kind::kScalar; }
  bool is_sequence() const { return kind_ == Kind::kSequence; }
  bool is_mapping() const { return kind_ == Kind::kMapping; }

  // A scalar whose text is a string whatever it looks like: quoted, a block, or tagged !!str.
  bool is_quoted() const { return quoted_; }
  // A scalar that YAML reads as a string, as opposed to a number or a boolean.
  bool is_string() const;

  Mark mark() const { return {line_, column_}; }

  // The scalar's text; empty for anything else.
  std::string_view text() const {
    return is_scalar() ? std::string_view(static_cast<const char*>(data_), size_) : std::string_view();
  }
  // The scalar as a whole number or as a boolean (true/false and YAML 1.1's yes/no/on/off); nothing
  // if it is not one.
  std::optional<int64_t> integer() const;
  std::optional<bool> boolean() const;
  std::optional<double> number() const;

  std::span<const Node> items() const {
    return is_sequence() ? std::span(static_cast<const Node*>(data_), size_) : std::span<const Node>();
  }
  inline std::span<const Member> members() const;
  // The member of that name, or nullptr (also when this is no mapping).
  inline const Node* find(std::string_view key) const;

  // "a string", "a mapping" …: for messages.
  const char* kind_name() const;

  Node() = default;
  static Node null(Mark mark) { return Node(Kind::kNull, false, mark, nullptr, 0); }
  static Node scalar(Mark mark, std::string_view text, bool quoted) {
    return Node(Kind::kScalar, quoted, mark, text.data(), static_cast<uint32_t>(text.size()));
  }
  static Node sequence(Mark mark, std::span<const Node> items) {
    return Node(Kind::kSequence, false, mark, items.data(), static_cast<uint32_t>(items.size()));
  }
  static inline Node mapping(Mark mark, std::span<const Member> members);
  Node with_mark(Mark mark) const {
    Node copy = *this;
    copy.line_ = mark.line;
    copy.column_ = mark.column;
    return copy;
  }

 private:
  Node(Kind kind, bool quoted, Mark mark, const void* data, uint32_t size)
      : data_(data), size_(size), line_(mark.line), column_(mark.column), kind_(kind), quoted_(quoted) {}

  const void* data_ = nullptr;
  uint32_t size_ = 0;
  uint32_t line_ = 0;
  uint32_t column_ = 0;
  Kind kind_ = Kind::kNull;
  bool quoted_ = false;
};

struct Member {
  std::string_view key;
  Mark mark;  // of the key
  Node value;
};

inline std::span<const Member> Node::members() const {
  return is_mapping() ? std::span(static_cast<const Member*>(data_), size_) : std::span<const Member>();
}
inline const Node* Node::find(std::string_view key) const {
  for (const Member& member : members()) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}
inline Node Node::mapping(Mark mark, std::span<const Member> members) {
  return Node(Kind::kMapping, false, mark, members.data(), static_cast<uint32_t>(members.size()));
}

}  // namespace sluice::resource
