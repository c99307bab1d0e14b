#include "api/kube/manifest_text.h"

#include <nlohmann/json.hpp>

#include "resource/yaml.h"

namespace sluice::api::kube {

struct ManifestText::Segment {
  size_t begin = 0, end = 0;
  bool marker = false;  // begins with a line `---`
  std::vector<Json> documents;
};

struct ManifestText::State {
  std::string text;
  bool json = false;
  std::vector<Segment> segments;
  std::vector<std::pair<Place, Json>> objects;
};

namespace {

bool is_marker(std::string_view line) {
  return line.starts_with("---") &&
         (line.size() == 3 || line[3] == ' ' || line[3] == '\t' || line[3] == '\r' || line[3] == '\n');
}

size_t line_end(std::string_view text, size_t at) {
  const size_t end = text.find('\n', at);
  return end == text.npos ? text.size() : end + 1;
}

// Reads the documents of one segment that are not null.
Result<std::vector<Json>> documents_of(std::string_view text) {
  std::vector<Json> out;
  resource::YamlStream stream(text);
  for (;;) {
    const auto next = stream.next();
    if (next == resource::YamlStream::Next::kEnd) return out;
    if (next == resource::YamlStream::Next::kError) {
      return Error{"line " + std::to_string(stream.error().mark.line) + ": " + stream.error().message};
    }
    if (!stream.document().is_null()) out.push_back(to_json(stream.document()));
  }
}

// The lines above a document that hold nothing but comments.
std::string_view comments_of(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = line_end(text, at);
    const std::string_view line = text.substr(at, end - at);
    const size_t first = line.find_first_not_of(" \t\r\n");
    if (first != line.npos && line[first] != '#') break;
    at = end;
  }
  return text.substr(0, at);
}

bool is_list(const Json& value) {
  const Json* items = find(value, "items");
  return items && items->is_array() && text_of(value, "kind").ends_with("List");
}

void collect(const Json& value, ManifestText::Place place, std::vector<std::pair<ManifestText::Place, Json>>& out) {
  if (!is_list(value)) {
    if (value.is_object() && find(value, "kind") && find(value, "apiVersion"))
      out.emplace_back(std::move(place), value);
    return;
  }
  const std::string kind = text_of(value, "kind");
  const Json& items = *find(value, "items");
  for (size_t i = 0; i < items.size(); ++i) {
    Json item = items[i];
    if (item.is_object() && kind != "List") {
      if (!find(item, "kind")) item["kind"] = kind.substr(0, kind.size() - 4);
      if (!find(item, "apiVersion")) item["apiVersion"] = text_of(value, "apiVersion");
    }
    ManifestText::Place inner = place;
    inner.items.push_back(i);
    collect(item, std::move(inner), out);
  }
}

// The list that holds the item, inside of `document`.
Json& list_at(Json& document, const std::vector<size_t>& items) {
  Json* at = &document["items"];
  for (size_t i = 0; i + 1 < items.size(); ++i) at = &(*at)[items[i]]["items"];
  return *at;
}

}  // namespace

ManifestText::ManifestText(std::unique_ptr<State> state) : state_(std::move(state)) {}
ManifestText::~ManifestText() = default;
ManifestText::ManifestText(ManifestText&&) noexcept = default;
ManifestText& ManifestText::operator=(ManifestText&&) noexcept = default;

Result<ManifestText> ManifestText::parse(std::string text, bool json) {
  auto state = std::make_unique<State>();
  state->text = std::move(text);
  state->json = json;
  const std::string_view all = state->text;
  Segment current;
  for (size_t at = 0; at < all.size();) {
    const size_t end = line_end(all, at);
    if (!json && is_marker(all.substr(at, end - at))) {
      if (at > current.begin || current.marker) state->segments.push_back(current);
      current = Segment{at, end, true, {}};
    }
    current.end = at = end;
  }
  state->segments.push_back(current);

  bool separable = true;
  for (Segment& segment : state->segments) {
    auto documents = documents_of(all.substr(segment.begin, segment.end - segment.begin));
    if (!(separable = documents.ok())) break;
    segment.documents = std::move(*documents);
  }
  if (!separable) {
    // Directives, say. As a whole it can be read, though not be changed.
    auto documents = documents_of(all);
    if (!documents.ok()) return documents.error();
    state->segments = {Segment{0, all.size(), false, std::move(*documents)}};
    state->segments[0].documents.push_back(nullptr);
  }
  for (size_t i = 0; i < state->segments.size(); ++i) {
    for (const Json& document : state->segments[i].documents) collect(document, Place{i, {}}, state->objects);
  }
  return ManifestText(std::move(state));
}

size_t ManifestText::size() const { return state_->objects.size(); }
const Json& ManifestText::object(size_t index) const { return state_->objects[index].second; }

std::string ManifestText::with_segment(size_t index, const std::string& replacement) const {
  const Segment& segment = state_->segments[index];
  return state_->text.substr(0, segment.begin) + replacement + state_->text.substr(segment.end);
}

std::string ManifestText::written(const Segment& segment, const Json& document) const {
  if (state_->json) return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  const std::string_view all = state_->text;
  const size_t content = segment.marker ? line_end(all, segment.begin) : segment.begin;
  return std::string(segment.marker ? "---\n" : "") +
         std::string(comments_of(all.substr(content, segment.end - content))) + to_yaml(document);
}

Result<std::string> ManifestText::replaced(size_t index, const Json& object) const {
  const auto& [place, old] = state_->objects[index];
  const Segment& segment = state_->segments[place.segment];
  if (segment.documents.size() != 1) return Error{"its document can't be told from the others of the file"};
  if (place.items.empty()) return with_segment(place.segment, written(segment, object));
  Json document = segment.documents[0];
  list_at(document, place.items)[place.items.back()] = object;
  return with_segment(place.segment, written(segment, document));
}

Result<std::string> ManifestText::removed(size_t index) const {
  const auto& [place, old] = state_->objects[index];
  const Segment& segment = state_->segments[place.segment];
  if (segment.documents.size() != 1) return Error{"its document can't be told from the others of the file"};
  if (!place.items.empty()) {
    Json document = segment.documents[0];
    list_at(document, place.items).erase(place.items.back());
    if (place.items.size() > 1 || !document["items"].empty()) {
      return with_segment(place.segment, written(segment, document));
    }
  }
  for (size_t i = 0; i < state_->segments.size(); ++i) {
    if (i != place.segment && !state_->segments[i].documents.empty()) return with_segment(place.segment, {});
  }
  return std::string();
}

Result<std::string> ManifestText::appended(const Json& object) const {
  if (size() == 0 && !state_->json) return to_yaml(object);
  if (state_->json) return Error{"a JSON file holds one document"};
  std::string out = state_->text;
  if (!out.ends_with('\n')) out += '\n';
  return out + "---\n" + to_yaml(object);
}

}  // namespace sluice::api::kube
