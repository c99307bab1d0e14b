#pragma once
// YAML 1.1 (and so JSON) text to Node trees, by libyaml's event parser.
//
// One YamlStream reads one text of any number of documents. What is refused, with line and column:
// syntax errors, mapping keys that are not scalars, a key twice in one mapping, unknown or
// self-containing aliases, and whatever exceeds the Limits. Merge keys (`<<`) are honoured. A UTF-8
// byte-order mark and CRLF line ends are accepted.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "resource/node.h"

namespace sluice::resource {

struct Limits {
  size_t max_text_bytes = 16u << 20;
  uint32_t max_depth = 64;
  // Values of one document, where an alias counts as all the values it stands for.
  uint32_t max_values = 1'000'000;
  // Documents of one text; items of a List count as documents.
  uint32_t max_documents = 20'000;
};

struct SyntaxError {
  Mark mark;
  std::string message;
};

class YamlStream {
 public:
  // `text` must outlive the stream.
  explicit YamlStream(std::string_view text, const Limits& limits = {});
  ~YamlStream();
  YamlStream(const YamlStream&) = delete;
  YamlStream& operator=(const YamlStream&) = delete;

  enum class Next { kDocument, kEnd, kError };
  // Parses the next document. Its tree is valid until the following call of next() and the stream's
  // end.
  Next next();
  const Node& document() const;
  const SyntaxError& error() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::resource
