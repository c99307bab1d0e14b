#include "compile/nginx_config.h"

namespace sluice::compile {
namespace {

constexpr size_t kMaxText = 64 * 1024;
constexpr size_t kMaxDirectives = 1000;
constexpr size_t kMaxWords = 100;
constexpr int kMaxDepth = 4;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<std::vector<NginxDirective>> run() {
    if (text_.size() > kMaxText) return Error{"line 1: is longer than 64 KiB"};
    std::vector<NginxDirective> out;
    if (!directives(out, 0)) return Error{"line " + std::to_string(line_) + ": " + problem_};
    return out;
  }

 private:
  bool fail(std::string problem) { return problem_ = std::move(problem), false; }

  void skip() {
    while (at_ < text_.size()) {
      if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else if (is_space(text_[at_])) {
        line_ += text_[at_] == '\n';
        ++at_;
      } else {
        return;
      }
    }
  }

  bool directives(std::vector<NginxDirective>& out, int depth) {
    for (;;) {
      skip();
      if (at_ == text_.size()) return depth == 0 || fail("a block is not closed by }");
      if (text_[at_] == '}') {
        if (depth == 0) return fail("} closes no block");
        ++at_;
        return true;
      }
      if (++count_ > kMaxDirectives) return fail("has more than 1000 directives");
      if (!directive(out.emplace_back(), depth)) return false;
    }
  }

  bool directive(NginxDirective& out, int depth) {
    out.line = line_;
    for (;;) {
      skip();
      if (at_ == text_.size()) return fail("the last directive is not ended by ;");
      const char c = text_[at_];
      if (c == ';' || c == '{') {
        if (out.words.empty()) return fail(std::string("expected a directive, found ") + c);
        ++at_;
        if (c == ';') return true;
        if (depth + 1 > kMaxDepth) return fail("blocks are nested too deeply");
        out.has_block = true;
        return directives(out.block, depth + 1);
      }
      if (c == '}') return fail("a directive is not ended by ;");
      if (out.words.size() == kMaxWords) return fail("a directive has more than 100 words");
      if (!word(out.words.emplace_back())) return false;
    }
  }

  bool word(std::string& out) {
    const char quote = text_[at_];
    if (quote == '"' || quote == '\'') return quoted(quote, out);
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (is_space(c) || c == ';') break;
      if (c == '{' || c == '}') {
        // "${name}" is one word; other braces are blocks.
        const bool opens = c == '{' && out.ends_with('$');
        const size_t open = out.rfind("${");
        const bool closes = c == '}' && open != out.npos && out.find('}', open) == out.npos;
        if (!opens && !closes) break;
      }
      if (c == '\\' && at_ + 1 < text_.size()) {
        line_ += text_[at_ + 1] == '\n';
        out += c;
        out += text_[at_ + 1];
        at_ += 2;
        continue;
      }
      out += c;
      ++at_;
    }
    return true;
  }

  bool quoted(char quote, std::string& out) {
    for (++at_; at_ < text_.size(); ++at_) {
      char c = text_[at_];
      if (c == quote) {
        ++at_;
        return at_ == text_.size() || is_space(text_[at_]) || text_[at_] == ';' || text_[at_] == '{' ||
               text_[at_] == ')' || fail("a text in quotes is followed by something else");
      }
      if (c == '\\' && at_ + 1 < text_.size()) {
        const char next = text_[at_ + 1];
        if (next == quote || next == '\\') {
          c = next;
          ++at_;
        }
      }
      line_ += c == '\n';
      out += c;
    }
    return fail("a text in quotes is not closed");
  }

  std::string_view text_;
  size_t at_ = 0;
  size_t count_ = 0;
  int line_ = 1;
  std::string problem_;
};

}  // namespace

Result<std::vector<NginxDirective>> parse_nginx_config(std::string_view text) { return Parser(text).run(); }

}  // namespace sluice::compile
