#include "plugins/response_rewrite/config.h"

namespace sluice::plugins::response_rewrite {
namespace {

const Schema<Rule>& rule_schema() {
  static const Schema<Rule> kSchema =
      Schema<Rule>()
          .text("from", &Rule::from, "Text to find; `~` in front makes it a regular expression, `~*` one in any case.",
                check_header_value)
          .required()
          .text("to", &Rule::to, "What stands there instead; may hold `$1` to `$9` and variables such as `$host`.",
                check_header_value);
  return kSchema;
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .objects("cookie_domain", &Config::cookie_domain, rule_schema(),
                   "Rules for the Domain of cookies, compared as a whole in any case; the first that fits counts.")
          .objects("cookie_path", &Config::cookie_path, rule_schema(),
                   "Rules for the beginning of the Path of cookies; the first that fits counts.")
          .objects("location", &Config::location, rule_schema(),
                   "Rules for the beginning of Location and of the URL in Refresh; the first that fits counts.");
  return kSchema;
}

}  // namespace sluice::plugins::response_rewrite
