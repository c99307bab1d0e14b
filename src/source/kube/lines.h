#pragma once
// LineSplitter: a stream of bytes in arbitrary pieces to the lines of a watch, one JSON value each.

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::source::kube {

class LineSplitter {
 public:
  explicit LineSplitter(size_t max_line) : max_line_(max_line) {}

  // Calls function(line) for each line that is complete now, without its end; empty lines are passed over. The
  // function returns false to stop: what is left is dropped. False: stopped, or a line is longer than the limit; the
  // splitter must then be reset().
  template <typename Function>
  bool feed(std::string_view piece, Function function) {
    while (!piece.empty()) {
      const size_t end = piece.find('\n');
      const std::string_view part = piece.substr(0, end);
      if (partial_.size() + part.size() > max_line_) return false;
      if (end == piece.npos) {
        partial_.append(part);
        return true;
      }
      piece.remove_prefix(end + 1);
      if (partial_.empty()) {
        if (!part.empty() && !function(part)) return false;
        continue;
      }
      partial_.append(part);
      const std::string line = std::move(partial_);
      partial_.clear();
      if (!function(std::string_view(line))) return false;
    }
    return true;
  }

  // Bytes of a line whose end has not come.
  size_t partial() const { return partial_.size(); }
  void reset() {
    partial_.clear();
    partial_.shrink_to_fit();
  }

 private:
  const size_t max_line_;
  std::string partial_;
};

}  // namespace sluice::source::kube
