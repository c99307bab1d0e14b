#pragma once
// Configuration of directives.

#include <string>
#include <vector>

#include "plugins/schema.h"

namespace sluice::plugins::directives {

struct Step {
  enum class Action : uint8_t {
    kReturn,
    kRewrite,
    kAllow,
    kDeny,
    kSetRequestHeader,
    kSetResponseHeader,
    kAddResponseHeader,
    kRemoveResponseHeader,
  };
  enum class Comparison : uint8_t { kAlways, kNotEmpty, kEmpty, kEqual, kNotEqual, kStart, kMatch, kNoMatch };
  enum class Flag : uint8_t { kNone, kBreak, kRedirect, kPermanent };

  std::string subject;
  Comparison comparison = Comparison::kAlways;
  std::string operand;
  bool ignore_case = false;

  Action action = Action::kReturn;
  std::string name;
  std::string value;
  int64_t status = 0;
  Flag flag = Flag::kNone;
  bool always = false;
};

struct Config {
  std::vector<Step> steps;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::directives
