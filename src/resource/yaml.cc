// How a tree is built: one explicit stack of open collections; finished values are appended to one
// shared vector of pending values, and when a collection closes, its part of that vector is copied
// into the arena as one array. No recursion anywhere, so depth is bounded by Limits alone.

#include "resource/yaml.h"

#include <yaml.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace sluice::resource {
namespace {

Mark mark_of(const yaml_mark_t& mark) {
  return {static_cast<uint32_t>(mark.line + 1), static_cast<uint32_t>(mark.column + 1)};
}

std::string_view view(const yaml_char_t* text) {
  return text ? std::string_view(reinterpret_cast<const char*>(text)) : std::string_view();
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The code unit of `\uXXXX` at `at`, or -1.
int escaped_unit(std::string_view text, size_t at) {
  if (at + 6 > text.size() || text[at] != '\\' || text[at + 1] != 'u') return -1;
  int value = 0;
  for (size_t i = at + 2; i < at + 6; ++i) {
    int digit = hex_digit(text[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// JSON writes characters beyond the basic plane as two escapes, which YAML does not know: rewrites
// such pairs to YAML's `\UXXXXXXXX`. Only inside of a text that has them at all; an escaped
// backslash is stepped over.
bool join_surrogates(std::string_view text, std::string& out) {
  if (text.find("\\ud8") == text.npos && text.find("\\uD8") == text.npos && text.find("\\ud9") == text.npos &&
      text.find("\\uD9") == text.npos && text.find("\\uda") == text.npos && text.find("\\uDA") == text.npos &&
      text.find("\\udb") == text.npos && text.find("\\uDB") == text.npos && text.find("\\udB") == text.npos &&
      text.find("\\uDb") == text.npos && text.find("\\udA") == text.npos && text.find("\\uDa") == text.npos) {
    return false;
  }
  static constexpr char kHex[] = "0123456789ABCDEF";
  for (size_t i = 0; i < text.size();) {
    int high = escaped_unit(text, i);
    int low = high >= 0xD800 && high < 0xDC00 ? escaped_unit(text, i + 6) : -1;
    if (low >= 0xDC00 && low < 0xE000) {
      uint32_t code = 0x10000 + ((static_cast<uint32_t>(high) - 0xD800) << 10) + (static_cast<uint32_t>(low) - 0xDC00);
      out += "\\U";
      for (int shift = 28; shift >= 0; shift -= 4) out += kHex[(code >> shift) & 15];
      i += 12;
    } else if (text[i] == '\\' && i + 1 < text.size()) {
      out.append(text.substr(i, 2));
      i += 2;
    } else {
      out += text[i++];
    }
  }
  return true;
}

}  // namespace

class YamlStream::Impl {
 public:
  Impl(std::string_view text, const Limits& limits) : limits_(limits), text_(text) {
    if (text.size() > limits.max_text_bytes) {
      fail({1, 1}, "the file is larger than " + std::to_string(limits.max_text_bytes >> 20) + " MiB");
      return;
    }
    if (join_surrogates(text, rewritten_)) text_ = rewritten_;
    started_ = yaml_parser_initialize(&parser_) != 0;
    if (!started_) {
      fail({1, 1}, "out of memory");
      return;
    }
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text_.data()), text_.size());
  }

  ~Impl() {
    if (started_) yaml_parser_delete(&parser_);
  }

  Next next() {
    if (failed_) return Next::kError;
    if (ended_) return Next::kEnd;
    clear();
    for (;;) {
      yaml_event_t event;
      if (!yaml_parser_parse(&parser_, &event)) {
        syntax_error();
        return Next::kError;
      }
      Outcome outcome = consume(event);
      yaml_event_delete(&event);
      if (failed_) return Next::kError;
      if (outcome == Outcome::kDocument) return Next::kDocument;
      if (outcome == Outcome::kEnd) return ended_ = true, Next::kEnd;
    }
  }

  const Node& document() const { return root_; }
  const SyntaxError& error() const { return error_; }

 private:
  enum class Outcome { kMore, kDocument, kEnd };

  struct Open {
    bool mapping;
    bool expects_key = true;
    Mark mark;
    size_t first_value;   // index into pending_ where its finished values begin
    uint32_t values = 1;  // what walking it costs
    std::string anchor;
    std::string_view key;
    Mark key_mark;
  };
  struct Pending {
    std::string_view key;
    Mark key_mark;
    Node value;
  };
  struct Anchor {
    Node node;
    uint32_t values;
  };

  void clear() {
    arena_.release();
    open_.clear();
    pending_.clear();
    anchors_.clear();
    root_ = Node();
  }

  void fail(Mark mark, std::string message) {
    if (failed_) return;
    failed_ = true;
    error_ = {mark, std::move(message)};
  }

  void syntax_error() {
    Mark mark = mark_of(parser_.problem_mark);
    std::string problem = parser_.problem ? parser_.problem : "cannot be parsed";
    if (parser_.error == YAML_READER_ERROR) {
      // The reader knows bytes only.
      size_t offset = std::min<size_t>(parser_.problem_offset, text_.size());
      std::string_view before = text_.substr(0, offset);
      mark.line = static_cast<uint32_t>(1 + std::count(before.begin(), before.end(), '\n'));
      size_t newline = before.rfind('\n');
      mark.column = static_cast<uint32_t>(offset - (newline == before.npos ? 0 : newline + 1) + 1);
    } else if (tab_at(mark)) {
      problem = "a tab cannot be used for indentation; use spaces";
    } else if (parser_.context && *parser_.context) {
      problem = problem + " " + parser_.context;
      if (parser_.context_mark.line + 1 != mark.line) {
        problem += " that begins at line " + std::to_string(parser_.context_mark.line + 1);
      }
    }
    fail(mark, "syntax error: " + problem);
  }

  // Whether the line up to (and with) the column holds a tab in its indentation.
  bool tab_at(Mark mark) const {
    size_t at = 0;
    for (uint32_t line = 1; line < mark.line; ++line) {
      at = text_.find('\n', at);
      if (at == text_.npos) return false;
      ++at;
    }
    for (; at < text_.size() && (text_[at] == ' ' || text_[at] == '\t'); ++at) {
      if (text_[at] == '\t') return true;
    }
    return false;
  }

  std::string_view copy(std::string_view text) {
    if (text.empty()) return "";
    char* p = static_cast<char*>(arena_.allocate(text.size(), 1));
    std::memcpy(p, text.data(), text.size());
    return {p, text.size()};
  }

  Outcome consume(const yaml_event_t& event) {
    Mark mark = mark_of(event.start_mark);
    switch (event.type) {
      case YAML_STREAM_END_EVENT:
        return Outcome::kEnd;
      case YAML_DOCUMENT_START_EVENT:
        if (++documents_ > limits_.max_documents) {
          fail(mark, "more than " + std::to_string(limits_.max_documents) + " documents in one file");
        }
        return Outcome::kMore;
      case YAML_DOCUMENT_END_EVENT:
        return Outcome::kDocument;
      case YAML_SCALAR_EVENT:
        return scalar(event, mark), Outcome::kMore;
      case YAML_ALIAS_EVENT:
        return alias(event, mark), Outcome::kMore;
      case YAML_SEQUENCE_START_EVENT:
        return open(false, mark, view(event.data.sequence_start.anchor)), Outcome::kMore;
      case YAML_MAPPING_START_EVENT:
        return open(true, mark, view(event.data.mapping_start.anchor)), Outcome::kMore;
      case YAML_SEQUENCE_END_EVENT:
      case YAML_MAPPING_END_EVENT:
        return close(), Outcome::kMore;
      default:
        return Outcome::kMore;
    }
  }

  void scalar(const yaml_event_t& event, Mark mark) {
    const auto& data = event.data.scalar;
    std::string_view text(reinterpret_cast<const char*>(data.value), data.length);
    std::string_view tag = view(data.tag);
    bool quoted = data.style != YAML_PLAIN_SCALAR_STYLE || tag == "tag:yaml.org,2002:str" || tag == "!";
    if (expects_key()) {
      set_key(text, mark);
      return;
    }
    bool null = !quoted && (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL");
    Node node = null ? Node::null(mark) : Node::scalar(mark, copy(text), quoted);
    finish(node, 1, view(data.anchor));
  }

  void alias(const yaml_event_t& event, Mark mark) {
    std::string name(view(event.data.alias.anchor));
    auto found = anchors_.find(name);
    if (found == anchors_.end()) {
      fail(mark, "unknown alias *" + name);
      return;
    }
    if (expects_key()) {
      if (found->second.node.is_scalar()) return set_key(found->second.node.text(), mark);
      return fail(mark, "a key must be a string");
    }
    finish(found->second.node.with_mark(mark), found->second.values, {});
  }

  bool expects_key() const { return !open_.empty() && open_.back().mapping && open_.back().expects_key; }

  void set_key(std::string_view key, Mark mark) {
    open_.back().key = copy(key);
    open_.back().key_mark = mark;
    open_.back().expects_key = false;
  }

  void open(bool mapping, Mark mark, std::string_view anchor) {
    if (expects_key()) return fail(mark, "a key must be a string");
    if (open_.size() >= limits_.max_depth) {
      return fail(mark, "nested deeper than " + std::to_string(limits_.max_depth) + " levels");
    }
    open_.push_back({mapping, true, mark, pending_.size(), 1, std::string(anchor), {}, {}});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    Node node = done.mapping ? build_mapping(done) : build_sequence(done);
    pending_.resize(done.first_value);
    finish(node, done.values, done.anchor);
  }

  Node build_sequence(const Open& done) {
    size_t n = pending_.size() - done.first_value;
    auto* items = static_cast<Node*>(arena_.allocate(sizeof(Node) * std::max<size_t>(n, 1), alignof(Node)));
    for (size_t i = 0; i < n; ++i) new (items + i) Node(pending_[done.first_value + i].value);
    return Node::sequence(done.mark, {items, n});
  }

  Node build_mapping(Open& done) {
    std::span<const Pending> given(pending_.data() + done.first_value, pending_.size() - done.first_value);
    check_duplicates(given);
    bool merges = false;
    for (const Pending& entry : given) merges |= entry.key == "<<" && !entry.value.is_scalar();
    if (merges) return merged_mapping(given, done);
    auto* members =
        static_cast<Member*>(arena_.allocate(sizeof(Member) * std::max<size_t>(given.size(), 1), alignof(Member)));
    for (size_t i = 0; i < given.size(); ++i) new (members + i) Member{given[i].key, given[i].key_mark, given[i].value};
    return Node::mapping(done.mark, {members, given.size()});
  }

  void duplicate(const Pending& entry, Mark first) {
    fail(entry.key_mark,
         "the key \"" + std::string(entry.key) + "\" is here twice, first at line " + std::to_string(first.line));
  }

  void check_duplicates(std::span<const Pending> given) {
    if (given.size() <= 16) {
      for (size_t i = 1; i < given.size(); ++i) {
        for (size_t j = 0; j < i; ++j) {
          if (given[i].key == given[j].key) return duplicate(given[i], given[j].key_mark);
        }
      }
      return;
    }
    std::unordered_map<std::string_view, Mark> seen;
    for (const Pending& entry : given) {
      auto [at, fresh] = seen.emplace(entry.key, entry.key_mark);
      if (!fresh) return duplicate(entry, at->second);
    }
  }

  // https://yaml.org/type/merge.html: own keys win, then the earlier merged mapping.
  Node merged_mapping(std::span<const Pending> given, Open& done) {
    std::vector<Member> all;
    std::unordered_set<std::string_view> seen;
    for (const Pending& entry : given) {
      if (entry.key == "<<" && !entry.value.is_scalar()) continue;
      all.push_back({entry.key, entry.key_mark, entry.value});
      seen.insert(entry.key);
    }
    auto merge = [&](const Node& from) {
      if (!from.is_mapping()) return fail(from.mark(), "a merge key (<<) needs a mapping or a list of mappings");
      for (const Member& member : from.members()) {
        if (seen.insert(member.key).second) all.push_back(member);
      }
    };
    for (const Pending& entry : given) {
      if (entry.key != "<<" || entry.value.is_scalar()) continue;
      if (entry.value.is_sequence()) {
        for (const Node& item : entry.value.items()) merge(item);
      } else {
        merge(entry.value);
      }
    }
    auto* members =
        static_cast<Member*>(arena_.allocate(sizeof(Member) * std::max<size_t>(all.size(), 1), alignof(Member)));
    std::uninitialized_copy(all.begin(), all.end(), members);
    done.values += static_cast<uint32_t>(all.size());
    return Node::mapping(done.mark, {members, all.size()});
  }

  // A value is complete: it goes into the open collection, or is the document.
  void finish(Node node, uint32_t values, std::string_view anchor) {
    if (values > limits_.max_values) {
      return fail(node.mark(),
                  "the document holds more than " + std::to_string(limits_.max_values) + " values (aliases expanded)");
    }
    if (!anchor.empty()) anchors_[std::string(anchor)] = {node, values};
    if (open_.empty()) {
      root_ = node;
      return;
    }
    Open& parent = open_.back();
    parent.values += values;  // both are at most max_values, which is far below 2^31
    if (parent.values > limits_.max_values) {
      return fail(node.mark(),
                  "the document holds more than " + std::to_string(limits_.max_values) + " values (aliases expanded)");
    }
    pending_.push_back({parent.key, parent.key_mark, node});
    parent.expects_key = true;
  }

  Limits limits_;
  std::string_view text_;
  std::string rewritten_;
  yaml_parser_t parser_;
  bool started_ = false;
  bool failed_ = false;
  bool ended_ = false;
  uint32_t documents_ = 0;
  SyntaxError error_;

  std::pmr::monotonic_buffer_resource arena_{4096};
  std::vector<Open> open_;
  std::vector<Pending> pending_;
  std::unordered_map<std::string, Anchor> anchors_;
  Node root_;
};

YamlStream::YamlStream(std::string_view text, const Limits& limits) : impl_(std::make_unique<Impl>(text, limits)) {}
YamlStream::~YamlStream() = default;
YamlStream::Next YamlStream::next() { return impl_->next(); }
const Node& YamlStream::document() const { return impl_->document(); }
const SyntaxError& YamlStream::error() const { return impl_->error(); }

}  // namespace sluice::resource
