#include "source/kube/access.h"

#include <charconv>
#include <cstdlib>

#include "base/base64.h"
#include "resource/yaml.h"
#include "source/files.h"

namespace sluice::source::kube {
namespace {

using resource::Node;

constexpr size_t kMaxFile = 4 << 20;

std::string text_of(const Node& mapping, std::string_view key) {
  const Node* value = mapping.find(key);
  return value ? std::string(value->text()) : std::string();
}

// The entry of a list of {name: …, <member>: {…}}.
const Node* named(const Node& root, std::string_view list, std::string_view name, std::string_view member) {
  const Node* entries = root.find(list);
  if (!entries) return nullptr;
  for (const Node& entry : entries->items()) {
    if (text_of(entry, "name") == name) return entry.find(member);
  }
  return nullptr;
}

// "https://host:port/prefix"
Status parse_server(std::string_view url, ClusterAccess& out) {
  const auto bad = [&](const char* why) { return Error{"server: \"" + std::string(url) + "\" " + why}; };
  std::string_view rest = url;
  if (rest.starts_with("https://")) {
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
    out.tls = false;
    out.port = 80;
  } else {
    return bad("should begin with https://");
  }
  const size_t slash = rest.find('/');
  if (slash != rest.npos) {
    out.path_prefix = rest.substr(slash);
    while (out.path_prefix.ends_with('/')) out.path_prefix.pop_back();
    rest = rest.substr(0, slash);
  }
  std::string_view port;
  if (rest.starts_with('[')) {
    const size_t end = rest.find(']');
    if (end == rest.npos) return bad("has no ] after the IPv6 address");
    out.host = rest.substr(1, end - 1);
    port = rest.substr(end + 1);
    if (!port.empty() && !port.starts_with(':')) return bad("should have a port after the ]");
    if (!port.empty()) port.remove_prefix(1);
  } else {
    const size_t colon = rest.find(':');
    out.host = rest.substr(0, colon);
    if (colon != rest.npos) port = rest.substr(colon + 1);
  }
  if (out.host.empty()) return bad("names no host");
  for (const char c : out.host + out.path_prefix) {
    if (c <= ' ' || c == '@' || c == '?' || c == '#' || c == 127) return bad("should be https://host:port");
  }
  if (!port.empty()) {
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (error != std::errc() || end != port.data() + port.size() || out.port == 0) return bad("has a bad port");
  }
  return {};
}

class KubeconfigReader {
 public:
  KubeconfigReader(const Node& root, std::string directory) : root_(root), directory_(std::move(directory)) {}

  Result<ClusterAccess> read(std::string context) {
    if (context.empty()) context = text_of(root_, "current-context");
    if (context.empty()) return Error{"current-context is missing; name a context with --kube-context"};
    const Node* chosen = named(root_, "contexts", context, "context");
    if (!chosen) return Error{"there is no context \"" + context + "\""};
    const std::string cluster = text_of(*chosen, "cluster");
    const Node* at = named(root_, "clusters", cluster, "cluster");
    if (!at) return Error{"there is no cluster \"" + cluster + "\", which context \"" + context + "\" names"};
    if (Status read = read_cluster(*at); !read.ok()) {
      return Error{"cluster \"" + cluster + "\": " + read.error().message};
    }
    const std::string user = text_of(*chosen, "user");
    if (!user.empty()) {
      const Node* who = named(root_, "users", user, "user");
      if (!who) return Error{"there is no user \"" + user + "\", which context \"" + context + "\" names"};
      if (Status read = read_user(*who); !read.ok()) return Error{"user \"" + user + "\": " + read.error().message};
    }
    return std::move(out_);
  }

 private:
  std::string path(const std::string& given) const {
    return given.empty() || given[0] == '/' || directory_.empty() ? given : directory_ + "/" + given;
  }

  Status data(const Node& from, std::string_view key, std::string& out) {
    const std::string text = text_of(from, key);
    if (text.empty()) return {};
    auto decoded = decode_base64(text);
    if (!decoded) return Error{std::string(key) + " is not base64"};
    out = std::move(*decoded);
    return {};
  }

  Status read_cluster(const Node& from) {
    if (Status parsed = parse_server(text_of(from, "server"), out_); !parsed.ok()) return parsed;
    if (from.find("proxy-url")) return Error{"proxy-url is not supported; give the address of the API server"};
    if (Status decoded = data(from, "certificate-authority-data", out_.ca_pem); !decoded.ok()) return decoded;
    if (out_.ca_pem.empty()) out_.ca_file = path(text_of(from, "certificate-authority"));
    const Node* insecure = from.find("insecure-skip-tls-verify");
    out_.insecure_skip_tls_verify = insecure && insecure->boolean().value_or(false);
    out_.tls_server_name = text_of(from, "tls-server-name");
    return {};
  }

  Status read_user(const Node& from) {
    for (std::string_view key : {"exec", "auth-provider", "username", "password", "as", "as-uid", "as-groups"}) {
      if (!from.find(key)) continue;
      return Error{std::string(key) +
                   " is not supported; use token, tokenFile or client-certificate and client-key (a service account's "
                   "token is made by: kubectl create token)"};
    }
    out_.token = resource::SecretBytes(text_of(from, "token"));
    out_.token_file = path(text_of(from, "tokenFile"));
    if (Status decoded = data(from, "client-certificate-data", out_.client_certificate_pem); !decoded.ok()) {
      return decoded;
    }
    if (out_.client_certificate_pem.empty()) out_.client_certificate_file = path(text_of(from, "client-certificate"));
    std::string key;
    if (Status decoded = data(from, "client-key-data", key); !decoded.ok()) return decoded;
    if (key.empty()) out_.client_key_file = path(text_of(from, "client-key"));
    out_.client_key_pem = resource::SecretBytes(std::move(key));
    const bool certificate = !out_.client_certificate_pem.empty() || !out_.client_certificate_file.empty();
    const bool has_key = !out_.client_key_pem.empty() || !out_.client_key_file.empty();
    if (certificate != has_key) return Error{"client-certificate and client-key belong together; one is missing"};
    return {};
  }

  const Node& root_;
  const std::string directory_;
  ClusterAccess out_;
};

}  // namespace

std::string ClusterAccess::authority() const {
  const bool v6 = host.find(':') != host.npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<ClusterAccess> parse_kubeconfig(std::string_view text, const std::string& directory,
                                       const std::string& context) {
  resource::YamlStream stream(text);
  const auto next = stream.next();
  if (next == resource::YamlStream::Next::kError) {
    // The parser's message may quote what it stumbled over: only the place is told.
    return Error{"is not YAML, line " + std::to_string(stream.error().mark.line)};
  }
  if (next == resource::YamlStream::Next::kEnd || !stream.document().is_mapping()) {
    return Error{"is not a kubeconfig: expected a mapping with clusters, contexts and users"};
  }
  return KubeconfigReader(stream.document(), directory).read(context);
}

Result<ClusterAccess> load_kubeconfig(const std::string& path, const std::string& context) {
  Result<std::string> text = read_file(path, kMaxFile);
  if (!text.ok()) return text.error();
  const size_t slash = path.rfind('/');
  return parse_kubeconfig(*text, slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash), context);
}

Result<ClusterAccess> in_cluster_access(const std::string& directory) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (!host || !*host) {
    return Error{"not in a Pod: KUBERNETES_SERVICE_HOST is not set; outside of a cluster give --kubeconfig"};
  }
  ClusterAccess out;
  out.host = host;
  const std::string_view digits = port && *port ? port : "443";
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return Error{"KUBERNETES_SERVICE_PORT is not a port"};
  }
  out.token_file = directory + "/token";
  out.ca_file = directory + "/ca.crt";
  for (const std::string& file : {out.token_file, out.ca_file}) {
    if (Result<std::string> text = read_file(file, kMaxFile); !text.ok()) {
      return Error{file + " " + text.error().message +
                   "; does the Pod set automountServiceAccountToken: false, or name no service account?"};
    }
  }
  return out;
}

}  // namespace sluice::source::kube
