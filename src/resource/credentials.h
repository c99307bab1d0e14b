#pragma once
// Credentials: the certificates that ConfigMap `higress-https` of the system namespace offers to hosts which ask for
// TLS but name no Secret (key `cert`, field credentialConfig). What it says of issuing certificates is checked and not
// used.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "resource/diagnostic.h"
#include "resource/objects.h"

namespace sluice::resource {

inline constexpr const char* kCredentialsConfigMap = "higress-https";

struct Credentials {
  struct Entry {
    std::vector<std::string> domains;  // lower case; "*.b.c" covers a.b.c and x.a.b.c
    std::string ns, name;              // of the Secret
  };
  bool fallback_for_invalid_secret = false;  // also for hosts whose Secret does not exist
  std::vector<Entry> entries;

  // The first entry that covers the host; null: none.
  const Entry* find(std::string_view host) const;
};

// Nothing if any of it is wrong: then the whole version is refused and `out` says why. Nothing and no message if the
// key is absent.
std::optional<Credentials> parse_credentials(const ConfigMap& map, Diagnostics& out);

}  // namespace sluice::resource
