#pragma once
// Label and field selectors of list and watch.
//   labels   a=b, a==b, a!=b, a in (b, c), a notin (b, c), a, !a; joined by commas, all must hold
//   fields   metadata.name and metadata.namespace, with =, == and !=

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace sluice::api::kube {

using Labels = std::vector<std::pair<std::string, std::string>>;  // sorted by key

class LabelSelector {
 public:
  static constexpr size_t kMaxTerms = 100;

  // Empty selects everything.
  static Result<LabelSelector> parse(std::string_view text);
  bool matches(const Labels& labels) const;
  bool empty() const { return terms_.empty(); }

 private:
  enum class Operator { kIn, kNotIn, kExists, kAbsent };
  struct Term {
    std::string key;
    Operator op;
    std::vector<std::string> values;
  };
  class Parser;
  std::vector<Term> terms_;
};

class FieldSelector {
 public:
  static Result<FieldSelector> parse(std::string_view text);
  bool matches(std::string_view ns, std::string_view name) const;
  bool empty() const { return terms_.empty(); }
  // The name that it asks for; null: any.
  const std::string* name() const;

 private:
  struct Term {
    bool of_name;
    bool equal;
    std::string value;
  };
  std::vector<Term> terms_;
};

}  // namespace sluice::api::kube
