#include "plugins/client_certificate/config.h"

#include <re2/re2.h>

#include "plugins/variables.h"

namespace sluice::plugins::client_certificate {
namespace {

std::string check_regex(std::string& value) {
  const re2::RE2 regex(value, re2::RE2::Quiet);
  return regex.ok() ? std::string() : in_quotes(value) + " is not a regular expression: " + regex.error();
}

}  // namespace

const Schema<Config>& schema() {
  static const Schema<Config> kSchema =
      Schema<Config>()
          .boolean("required", &Config::required, "A client without a certificate is answered 400.")
          .boolean("verified", &Config::verified, "So is one whose certificate does not verify.")
          .text("match_subject", &Config::match_subject,
                "The certificate's subject (`CN=client,O=Example`) must hold a match of this regular expression (RE2); "
                "else 403.",
                check_regex)
          .text("error_page", &Config::error_page,
                "Where clients are sent (302) instead of the 400: a URL with variables.", VariableTemplate::check)
          .boolean("pass_certificate", &Config::pass_certificate,
                   "The upstream gets the certificate in `ssl-client-cert`, as percent-encoded PEM.");
  return kSchema;
}

}  // namespace sluice::plugins::client_certificate
