#pragma once
// Configuration of client-certificate.

#include <string>

#include "plugins/schema.h"

namespace sluice::plugins::client_certificate {

struct Config {
  bool required = true;
  bool verified = true;
  std::string match_subject;
  std::string error_page;
  bool pass_certificate = false;
};

const Schema<Config>& schema();

}  // namespace sluice::plugins::client_certificate
