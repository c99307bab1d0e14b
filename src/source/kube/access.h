#pragma once
// ClusterAccess: where an API server is and how to prove who we are, from a kubeconfig file or from what a Pod is
// given.
//
// Not supported, with an error that says so: exec and auth-provider plugins, user name and password, proxy-url,
// impersonation.

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "resource/secret_bytes.h"

namespace sluice::source::kube {

struct ClusterAccess {
  bool tls = true;
  std::string host;  // name or IP address, without brackets
  uint16_t port = 443;
  std::string path_prefix;  // "" or "/prefix"

  std::string tls_server_name;  // empty: host
  bool insecure_skip_tls_verify = false;
  std::string ca_pem;   // trust anchors; with ca_file too, the text wins; both empty: the system's
  std::string ca_file;  // read again when connections are made, as are the other files

  resource::SecretBytes token;
  std::string token_file;  // wins over `token`
  std::string client_certificate_pem;
  resource::SecretBytes client_key_pem;
  std::string client_certificate_file, client_key_file;

  // "host:port", for messages and the Host field.
  std::string authority() const;
};

// Reads the file; `context` empty: its current-context. Relative paths in it are relative to its directory.
Result<ClusterAccess> load_kubeconfig(const std::string& path, const std::string& context);
// The same from text; `directory` is what relative paths are relative to.
Result<ClusterAccess> parse_kubeconfig(std::string_view text, const std::string& directory, const std::string& context);

// From KUBERNETES_SERVICE_HOST and _PORT and the service account's directory.
inline constexpr const char* kServiceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";
Result<ClusterAccess> in_cluster_access(const std::string& directory = kServiceAccountDirectory);

}  // namespace sluice::source::kube
