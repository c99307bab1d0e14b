#include "plugins/registry.h"

#include "plugins/bandwidth_limit/filter.h"
#include "plugins/basic_auth/filter.h"
#include "plugins/client_certificate/filter.h"
#include "plugins/client_limit/filter.h"
#include "plugins/compression/filter.h"
#include "plugins/cors/filter.h"
#include "plugins/directives/filter.h"
#include "plugins/ext_auth/filter.h"
#include "plugins/fault/filter.h"
#include "plugins/header_control/filter.h"
#include "plugins/ip_restriction/filter.h"
#include "plugins/local_rate_limit/filter.h"
#include "plugins/mirror/filter.h"
#include "plugins/redirect/filter.h"
#include "plugins/request_buffer/filter.h"
#include "plugins/response_rewrite/filter.h"
#include "plugins/rewrite/filter.h"
#include "plugins/size_limit/filter.h"

namespace sluice::plugins {

const std::vector<Plugin>& all() {
  static const std::vector<Plugin> kAll = {
      bandwidth_limit::plugin(), basic_auth::plugin(),     client_certificate::plugin(), client_limit::plugin(),
      compression::plugin(),     cors::plugin(),           directives::plugin(),         ext_auth::plugin(),
      fault::plugin(),           header_control::plugin(), ip_restriction::plugin(),     local_rate_limit::plugin(),
      mirror::plugin(),          redirect::plugin(),       request_buffer::plugin(),     response_rewrite::plugin(),
      rewrite::plugin(),         size_limit::plugin(),
  };
  return kAll;
}

const Plugin* find(std::string_view name) {
  for (const Plugin& plugin : all()) {
    if (plugin.name == name) return &plugin;
  }
  return nullptr;
}

}  // namespace sluice::plugins
