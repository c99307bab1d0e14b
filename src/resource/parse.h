#pragma once
// Manifest text to typed, validated objects.
//
// One text may hold many documents, Lists, and objects of kinds the gateway doesn't read. Each
// object stands alone: an error refuses that object only. A syntax error refuses the whole text,
// because nothing after it can be trusted and what came before may have lost its end.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "resource/diagnostic.h"
#include "resource/objects.h"
#include "resource/yaml.h"

namespace sluice::resource {

struct ParsedObject {
  ObjectKey key;
  ObjectPtr object;  // null: refused; the diagnostics say why
  Mark mark;
};

struct ParsedFile {
  std::shared_ptr<const std::string> file;
  bool readable = true;  // false: syntax error or unreadable file; `objects` is empty and means nothing
  // A document was refused whose kind or name could not be told, so that it may be any object of
  // this file.
  bool has_unidentified = false;
  std::vector<ParsedObject> objects;  // in the order of the text
  Diagnostics diagnostics;
  std::vector<std::pair<std::string, Mark>> unknown_kinds;  // "Kind (apiVersion)", first mark of each
};

// Parses the text of `file` (a name for messages). Never throws.
ParsedFile parse_manifests(std::string_view text, std::shared_ptr<const std::string> file, const Limits& limits = {});

// The same for one object, or a List, that has been read already. `kind` and `api_version` are what the list it came
// from says of it; the object's own win.
ParsedFile parse_object(const Node& object, std::shared_ptr<const std::string> file, std::string_view kind = {},
                        std::string_view api_version = {});

// What a file that can't be read yields.
ParsedFile unreadable_file(std::shared_ptr<const std::string> file, std::string message);

}  // namespace sluice::resource
