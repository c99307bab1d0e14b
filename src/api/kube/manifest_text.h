#pragma once
// A manifest file as text that can be changed document by document.
//
// The text is cut into segments at the lines that begin with `---`; each is one document, and every byte belongs to one
// segment. Changing an object writes its segment anew (comments above the document stay, those inside it go) and keeps
// all other segments byte for byte. Items of Lists are objects too; to change one writes its List anew.

#include <memory>
#include <string>
#include <vector>

#include "api/kube/json.h"
#include "base/result.h"

namespace sluice::api::kube {

class ManifestText {
 public:
  struct Place {
    size_t segment = 0;
    std::vector<size_t> items;  // indices into nested Lists; empty: the document itself
  };

  // `json`: the text is one JSON document and is written as such. The error is a phrase with the line.
  static Result<ManifestText> parse(std::string text, bool json);
  ~ManifestText();
  ManifestText(ManifestText&&) noexcept;
  ManifestText& operator=(ManifestText&&) noexcept;

  // What has an apiVersion and a kind, in the order of the text. An item of a typed List gets those of its List.
  size_t size() const;
  const Json& object(size_t index) const;

  // The whole text with that object replaced, removed, or with one more at the end. An error if its segment can't be
  // told from another document.
  Result<std::string> replaced(size_t index, const Json& object) const;
  // Empty if nothing but comments would stay.
  Result<std::string> removed(size_t index) const;
  Result<std::string> appended(const Json& object) const;

 private:
  struct Segment;
  struct State;
  explicit ManifestText(std::unique_ptr<State> state);
  std::string with_segment(size_t index, const std::string& replacement) const;
  std::string written(const Segment& segment, const Json& document) const;

  std::unique_ptr<State> state_;
};

}  // namespace sluice::api::kube
