#pragma once
// JSON (RFC 8259) text to Node trees and back, by simdjson.
//
// A tree read from JSON is like one read from YAML, except that nodes carry no line (Mark{}) and numbers keep their
// text. What is refused: syntax errors, invalid UTF-8, a key twice in one object, numbers that no double holds, and
// whatever exceeds the Limits (one document; max_documents does not apply).

#include <memory>
#include <string>
#include <string_view>

#include "resource/node.h"
#include "resource/yaml.h"

namespace sluice::resource {

// Reads one text after another into the same buffers.
class JsonParser {
 public:
  explicit JsonParser(const Limits& limits = {});
  ~JsonParser();
  JsonParser(const JsonParser&) = delete;
  JsonParser& operator=(const JsonParser&) = delete;

  // The root value, or null; then error() says why. The tree is valid until the following call and the parser's end;
  // it does not refer to `text`.
  const Node* parse(std::string_view text);
  // A phrase: "is not JSON: …". Never quotes the text.
  const std::string& error() const;
  // Gives back the buffers, which are as large as the largest text so far.
  void release();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Appends `text` in quotes. Bytes that are not UTF-8 are passed on.
void write_json_string(std::string_view text, std::string& out);
// Appends the tree without white space. A plain YAML scalar becomes the JSON value it stands for.
void write_json(const Node& node, std::string& out);

}  // namespace sluice::resource
