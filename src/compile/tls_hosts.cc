#include "compile/tls_hosts.h"

#include <ctime>

#include "compile/annotation_values.h"

namespace sluice::compile {
namespace {

net::TlsVersion version_of(const std::string& text, net::TlsVersion otherwise) {
  if (text.empty()) return otherwise;
  return text == "TLSv1.3" ? net::TlsVersion::kTls13 : net::TlsVersion::kTls12;
}

}  // namespace

using resource::Severity;

void TlsHosts::add(const IngressEntry& entry) {
  for (const CompiledIngress::TlsUse& use : entry.compiled.tls) {
    hosts_[use.host].contributors[&entry] = &use;
    marked_.insert(use.host);
  }
}

void TlsHosts::remove(const IngressEntry& entry) {
  for (const CompiledIngress::TlsUse& use : entry.compiled.tls) {
    auto at = hosts_.find(use.host);
    if (at == hosts_.end()) continue;
    at->second.contributors.erase(&entry);
    std::erase_if(at->second.findings, [&](const Finding& finding) { return finding.entry == &entry; });
    marked_.insert(use.host);
  }
}

void TlsHosts::on_secret(const resource::ObjectKey& key) {
  auto at = by_secret_.find(key.ns + "/" + key.name);
  if (at != by_secret_.end()) marked_.insert(at->second.begin(), at->second.end());
}

void TlsHosts::set_credentials(resource::Credentials credentials) {
  credentials_ = std::move(credentials);
  for (const auto& [name, host] : hosts_) marked_.insert(name);
}

SecretRef TlsHosts::secret_of(const std::string& name, Host& host, const CompiledIngress::TlsUse& use) {
  if (!use.secret.empty()) {
    if (!credentials_.fallback_for_invalid_secret || look(name, host, use.secret)) return use.secret;
  } else if (!use.asks) {
    return {};
  }
  const resource::Credentials::Entry* entry = credentials_.find(name);
  return entry ? SecretRef{entry->ns, entry->name} : use.secret;
}

size_t TlsHosts::flush(config::Snapshot& next, HostTable& hosts) {
  size_t count = marked_.size();
  for (const std::string& name : marked_) {
    auto at = hosts_.find(name);
    if (at == hosts_.end()) continue;
    Host& host = at->second;
    for (const std::string& secret : host.secrets) {
      auto users = by_secret_.find(secret);
      if (users == by_secret_.end()) continue;
      users->second.erase(name);
      if (users->second.empty()) by_secret_.erase(users);
    }
    host.secrets.clear();
    host.findings.clear();
    host.built = build(name, host);
    next.tls_hosts.set(name, host.built);
    hosts.set_requires_mtls(name, host.built && host.built->mutual);
    if (host.contributors.empty()) hosts_.erase(at);
  }
  marked_.clear();
  return count;
}

void TlsHosts::find(Host& host, const IngressEntry& entry, std::string field, std::string message, Severity severity) {
  const resource::Ingress& ingress = *entry.object;
  host.findings.push_back(
      {&entry,
       {severity, ingress.meta.file ? *ingress.meta.file : std::string(), ingress.meta.mark.line,
        ingress.meta.mark.column, ingress.key().to_string(), std::move(field), std::move(message)}});
}

void TlsHosts::blame(Host& host, const IngressEntry& entry, const resource::Secret& secret, std::string message,
                     Severity severity) {
  host.findings.push_back({&entry,
                           {severity,
                            secret.meta.file ? *secret.meta.file : std::string(),
                            secret.meta.mark.line,
                            secret.meta.mark.column,
                            secret.key().to_string(),
                            {},
                            std::move(message)}});
}

const resource::Secret* TlsHosts::look(const std::string& name, Host& host, const SecretRef& ref) {
  host.secrets.push_back(ref.to_string());
  by_secret_[ref.to_string()].insert(name);
  return store_.get<resource::Secret>(ref.ns, ref.name);
}

void TlsHosts::set_defaults(const TlsDefaults& defaults) {
  if (defaults == defaults_) return;
  defaults_ = defaults;
  for (const auto& [name, host] : hosts_) marked_.insert(name);
}

std::shared_ptr<const config::TlsHost> TlsHosts::build(const std::string& name, Host& host) {
  const IngressEntry* owner = nullptr;
  const IngressEntry* chooser = nullptr;  // of options
  SecretRef ref;
  bool claimed = false;  // by a rule: aliases don't count then
  for (const auto& [entry, use] : host.contributors) claimed |= use->claimed;
  for (const auto& [entry, use] : host.contributors) {
    if (claimed && !use->claimed) continue;
    if (SecretRef secret = secret_of(name, host, *use); !secret.empty()) {
      if (!owner) {
        owner = entry;
        ref = std::move(secret);
      } else if (secret.to_string() != ref.to_string()) {
        find(host, *entry, "spec.tls",
             "host " + name + " has its certificate from " + owner->object->key().to_string() +
                 ", which is older; Secret " + secret.to_string() + " is not used for it",
             Severity::kWarning);
      }
    }
    if (entry->compiled.tls_options.any && !chooser) chooser = entry;
  }
  if (!owner) return nullptr;

  auto out = std::make_shared<config::TlsHost>();
  out->domain = name;
  out->secret = ref.to_string();
  net::TlsServerConfig config;
  if (options_.offer_http2 && defaults_.offer_http2) config.alpn = {"h2"};
  config.alpn.push_back("http/1.1");
  config.ticket_keys = options_.ticket_keys;
  // A certificate that is not valid now is still what the owner gave; it is served and reported.
  config.allow_expired = true;
  config.min_version = version_of(defaults_.min_version, config.min_version);
  config.max_version = version_of(defaults_.max_version, config.max_version);
  config.ciphers_tls12 = defaults_.ciphers;
  if (chooser) out->mutual = apply_options(name, host, *chooser, ref, config);

  const resource::Secret* secret = look(name, host, ref);
  const std::string field = "spec.tls";
  if (!secret) {
    find(host, *owner, field, "Secret " + ref.to_string() + " does not exist; TLS handshakes for " + name + " fail");
    return out;
  }
  std::string problem;
  if (!secret->certificate() || !secret->private_key()) {
    problem = "needs tls.crt and tls.key (or cert and key)";
  } else {
    config.certificate_pem = secret->certificate()->expose();
    config.private_key_pem = secret->private_key()->expose();
    auto context = contexts_.server(config);
    if (context) {
      out->context = *context;
      host.good_scope = config.session_scope;
      const int64_t now = time(nullptr);
      if (out->context->not_after() < now) {
        blame(host, *owner, *secret,
              "the certificate expired on " + net::validity_text(out->context->not_after()) +
                  "; clients refuse it, but it is still shown for " + name,
              Severity::kWarning);
      } else if (out->context->not_before() > now) {
        blame(host, *owner, *secret,
              "the certificate is not valid before " + net::validity_text(out->context->not_before()) +
                  "; clients refuse it until then, but it is shown for " + name,
              Severity::kWarning);
      }
      return out;
    }
    problem = context.error().message;
  }
  bool kept =
      host.built && host.built->context && host.built->secret == out->secret && host.good_scope == config.session_scope;
  if (kept) out->context = host.built->context;
  blame(host, *owner, *secret,
        problem + "; " + (kept ? "the last good certificate stays in use for " : "TLS handshakes fail for ") + name);
  return out;
}

bool TlsHosts::apply_options(const std::string& name, Host& host, const IngressEntry& entry,
                             const SecretRef& certificate, net::TlsServerConfig& config) {
  const TlsOptions& options = entry.compiled.tls_options;
  config.min_version = version_of(options.min_version, config.min_version);
  config.max_version = version_of(options.max_version, config.max_version);
  if (config.min_version > config.max_version) {
    find(host, entry, "metadata.annotations",
         "tls-min-protocol-version is above tls-max-protocol-version; both are ignored");
    config.min_version = net::TlsVersion::kTls12;
    config.max_version = net::TlsVersion::kTls13;
  }
  if (!options.ciphers.empty()) config.ciphers_tls12 = options.ciphers;
  config.client_prefers_ciphers = options.client_prefers_ciphers;
  if (!options.asks_clients()) return false;
  // Of the host's own certificate the CA may be in a Secret beside it, as in Higress.
  const SecretRef& ca = options.client_ca;
  const bool own = ca.ns == certificate.ns && (ca.name == certificate.name || ca.name == certificate.name + "-cacert");
  const resource::Secret* anchors = look(name, host, own ? SecretRef{ca.ns, certificate.name + "-cacert"} : ca);
  if (own && (!anchors || !anchors->ca())) anchors = look(name, host, certificate);
  using ClientAuth = net::TlsServerConfig::ClientAuth;
  using Verify = TlsOptions::Verify;
  // What the handshake lets through the routes' filters look at.
  config.client_auth = options.error_page || options.verify == Verify::kOptionalNoCa ? ClientAuth::kUnverified
                       : options.verify == Verify::kOptional                         ? ClientAuth::kOptional
                                                                                     : ClientAuth::kRequired;
  config.client_verify_depth = static_cast<int>(options.verify_depth);
  config.session_scope = "mtls " + (own ? certificate : ca).to_string();
  if (anchors && anchors->ca()) {
    config.client_ca_pem = anchors->ca()->expose();
  } else {
    // The context will be refused, so that the host is closed rather than open without client
    // certificates.
    find(host, entry, "metadata.annotations[auth-tls-secret]",
         "Secret " + ca.to_string() + " has no ca.crt (or cacert); TLS handshakes for " + name + " fail");
  }
  return true;
}

void TlsHosts::diagnostics(const IngressEntry& entry, resource::Diagnostics& out) const {
  for (const auto& use : entry.compiled.tls) {
    auto at = hosts_.find(use.host);
    if (at == hosts_.end()) continue;
    for (const Finding& finding : at->second.findings) {
      if (finding.entry == &entry) out.push_back(finding.diagnostic);
    }
  }
}

void TlsHosts::diagnostics_of_secret(const resource::ObjectKey& key, resource::Diagnostics& out) const {
  constexpr size_t kMost = 20;
  auto users = by_secret_.find(key.ns + "/" + key.name);
  if (users == by_secret_.end()) return;
  size_t count = 0;
  for (const std::string& name : users->second) {
    auto at = hosts_.find(name);
    if (at == hosts_.end()) continue;
    for (const Finding& finding : at->second.findings) {
      if (++count > kMost) return;
      out.push_back(finding.diagnostic);
    }
  }
}

}  // namespace sluice::compile
