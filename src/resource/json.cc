// The on-demand parser walks the text once; values are gathered like in yaml.cc: finished children wait on one shared
// vector and are copied into the arena as one array when their collection ends. Recursion is bounded by
// Limits::max_depth. Strings are unescaped into the parser's own buffer, which lives as long as the tree.

#include "resource/json.h"

// No conversion of the library may throw.
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <charconv>
#include <unordered_set>
#include <vector>

namespace sluice::resource {

namespace ondemand = simdjson::ondemand;

class JsonParser::Impl {
 public:
  explicit Impl(const Limits& limits) : limits_(limits) {}

  const Node* parse(std::string_view text) {
    error_.clear();
    pending_.clear();
    values_ = 0;
    arena_.release();
    if (text.size() > limits_.max_text_bytes) {
      return refuse("is larger than " + std::to_string(limits_.max_text_bytes >> 20) + " MiB");
    }
    text_.clear();
    text_.reserve(text.size() + simdjson::SIMDJSON_PADDING);
    text_.append(text);
    ondemand::document document;
    if (auto code = parser_.iterate(text_.data(), text_.size(), text_.capacity()).get(document)) return syntax(code);
    if (!root(document, root_)) return nullptr;
    // At the end of the text there is no location.
    const char* rest = nullptr;
    if (!document.current_location().get(rest)) return refuse("is not JSON: something follows the value");
    return &root_;
  }

  const std::string& error() const { return error_; }

  void release() {
    arena_.release();
    parser_ = ondemand::parser();
    text_ = std::string();
    pending_ = {};
  }

 private:
  struct Pending {
    std::string_view key;
    Node value;
  };

  const Node* refuse(std::string message) {
    error_ = std::move(message);
    return nullptr;
  }
  const Node* syntax(simdjson::error_code code) {
    return refuse(std::string("is not JSON: ") + simdjson::error_message(code));
  }
  bool fail(simdjson::error_code code) { return syntax(code) != nullptr; }

  bool root(ondemand::document& document, Node& out) {
    ondemand::json_type type;
    if (auto code = document.type().get(type)) return fail(code);
    if (type == ondemand::json_type::object || type == ondemand::json_type::array) {
      ondemand::value value;
      if (auto code = document.get_value().get(value)) return fail(code);
      return convert(value, type, 1, out);
    }
    return scalar(document, type, out);
  }

  bool convert(ondemand::value& value, unsigned depth, Node& out) {
    ondemand::json_type type;
    if (auto code = value.type().get(type)) return fail(code);
    return convert(value, type, depth, out);
  }

  bool convert(ondemand::value& value, ondemand::json_type type, unsigned depth, Node& out) {
    if (++values_ > limits_.max_values) {
      return refuse("holds more than " + std::to_string(limits_.max_values) + " values") != nullptr;
    }
    if (type != ondemand::json_type::object && type != ondemand::json_type::array) return scalar(value, type, out);
    if (depth > limits_.max_depth) {
      return refuse("is nested deeper than " + std::to_string(limits_.max_depth) + " levels") != nullptr;
    }
    return type == ondemand::json_type::object ? object(value, depth, out) : array(value, depth, out);
  }

  bool object(ondemand::value& value, unsigned depth, Node& out) {
    ondemand::object object;
    if (auto code = value.get_object().get(object)) return fail(code);
    const size_t first = pending_.size();
    for (auto result : object) {
      ondemand::field field;
      if (auto code = std::move(result).get(field)) return fail(code);
      std::string_view key;
      if (auto code = field.unescaped_key().get(key)) return fail(code);
      Node child;
      if (!convert(field.value(), depth + 1, child)) return false;
      pending_.push_back({key, child});
    }
    if (!check_duplicates(first)) return false;
    const size_t count = pending_.size() - first;
    auto* members = static_cast<Member*>(arena_.allocate(sizeof(Member) * (count ? count : 1), alignof(Member)));
    for (size_t i = 0; i < count; ++i) {
      new (members + i) Member{pending_[first + i].key, {}, pending_[first + i].value};
    }
    pending_.resize(first);
    out = Node::mapping({}, {members, count});
    return true;
  }

  bool check_duplicates(size_t first) {
    const size_t count = pending_.size() - first;
    const auto twice = [&](std::string_view) { return refuse("has a key twice in one object") != nullptr; };
    if (count <= 16) {
      for (size_t i = first + 1; i < pending_.size(); ++i) {
        for (size_t j = first; j < i; ++j) {
          if (pending_[i].key == pending_[j].key) return twice(pending_[i].key);
        }
      }
      return true;
    }
    std::unordered_set<std::string_view> seen;
    for (size_t i = first; i < pending_.size(); ++i) {
      if (!seen.insert(pending_[i].key).second) return twice(pending_[i].key);
    }
    return true;
  }

  bool array(ondemand::value& value, unsigned depth, Node& out) {
    ondemand::array array;
    if (auto code = value.get_array().get(array)) return fail(code);
    const size_t first = pending_.size();
    for (auto result : array) {
      ondemand::value item;
      if (auto code = std::move(result).get(item)) return fail(code);
      Node child;
      if (!convert(item, depth + 1, child)) return false;
      pending_.push_back({{}, child});
    }
    const size_t count = pending_.size() - first;
    auto* items = static_cast<Node*>(arena_.allocate(sizeof(Node) * (count ? count : 1), alignof(Node)));
    for (size_t i = 0; i < count; ++i) new (items + i) Node(pending_[first + i].value);
    pending_.resize(first);
    out = Node::sequence({}, {items, count});
    return true;
  }

  // `Value` is a value or a document that is a scalar.
  template <typename Value>
  bool scalar(Value& value, ondemand::json_type type, Node& out) {
    switch (type) {
      case ondemand::json_type::string: {
        std::string_view text;
        if (auto code = value.get_string().get(text)) return fail(code);
        out = Node::scalar({}, text, true);
        return true;
      }
      case ondemand::json_type::boolean: {
        bool truth = false;
        if (auto code = value.get_bool().get(truth)) return fail(code);
        out = Node::scalar({}, truth ? "true" : "false", false);
        return true;
      }
      case ondemand::json_type::number:
        return number(value, out);
      default:
        break;
    }
    bool null = false;
    if (auto code = is_null(value, null)) return fail(code);
    if (!null) return refuse("is not JSON: expected a value") != nullptr;
    out = Node::null({});
    return true;
  }

  static simdjson::error_code is_null(ondemand::value& value, bool& out) { return value.is_null().get(out); }
  static simdjson::error_code is_null(ondemand::document& document, bool& out) { return document.is_null().get(out); }

  static std::string_view token(ondemand::value& value) { return value.raw_json_token(); }
  static std::string_view token(ondemand::document& document) {
    std::string_view text;
    return document.raw_json_token().get(text) ? std::string_view() : text;
  }

  template <typename Value>
  bool number(Value& value, Node& out) {
    std::string_view text = token(value);
    double parsed = 0;
    if (auto code = value.get_double().get(parsed)) return fail(code);
    size_t end = text.find_first_not_of("0123456789+-.eE");
    if (end != text.npos) text = text.substr(0, end);
    out = Node::scalar({}, text, false);
    return true;
  }

  const Limits limits_;
  ondemand::parser parser_;
  std::string text_;
  std::string error_;
  std::pmr::monotonic_buffer_resource arena_{4096};
  std::vector<Pending> pending_;
  uint32_t values_ = 0;
  Node root_;
};

JsonParser::JsonParser(const Limits& limits) : impl_(std::make_unique<Impl>(limits)) {}
JsonParser::~JsonParser() = default;
const Node* JsonParser::parse(std::string_view text) { return impl_->parse(text); }
const std::string& JsonParser::error() const { return impl_->error(); }
void JsonParser::release() { impl_->release(); }

namespace {

bool digits(std::string_view& text) {
  const size_t end = text.find_first_not_of("0123456789");
  const bool any = end != 0 && !text.empty();
  text.remove_prefix(end == text.npos ? text.size() : end);
  return any;
}

bool is_json_number(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  if (text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9') return false;
  if (!digits(text)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (!digits(text)) return false;
  }
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
    if (!digits(text)) return false;
  }
  return text.empty();
}

void write_scalar(const Node& node, std::string& out) {
  if (node.is_string()) return write_json_string(node.text(), out);
  if (auto truth = node.boolean()) {
    out += *truth ? "true" : "false";
  } else if (is_json_number(node.text())) {
    out += node.text();
  } else if (auto whole = node.integer()) {
    out += std::to_string(*whole);
  } else {
    char buffer[32];
    auto [end, error] = std::to_chars(buffer, buffer + sizeof(buffer), *node.number());
    out.append(buffer, end);
  }
}

}  // namespace

void write_json_string(std::string_view text, std::string& out) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

void write_json(const Node& node, std::string& out) {
  switch (node.kind()) {
    case Node::Kind::kNull:
      out += "null";
      return;
    case Node::Kind::kScalar:
      return write_scalar(node, out);
    case Node::Kind::kSequence: {
      char separator = '[';
      for (const Node& item : node.items()) {
        out += separator;
        write_json(item, out);
        separator = ',';
      }
      out += separator == '[' ? "[]" : "]";
      return;
    }
    case Node::Kind::kMapping: {
      char separator = '{';
      for (const Member& member : node.members()) {
        out += separator;
        write_json_string(member.key, out);
        out += ':';
        write_json(member.value, out);
        separator = ',';
      }
      out += separator == '{' ? "{}" : "}";
      return;
    }
  }
}

}  // namespace sluice::resource
