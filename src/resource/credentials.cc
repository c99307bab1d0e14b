#include "resource/credentials.h"

#include "resource/reader.h"
#include "resource/yaml.h"

namespace sluice::resource {
namespace {

bool covers(std::string_view domain, std::string_view host) {
  if (domain == host || domain == "*") return true;
  return domain.starts_with("*.") && host.size() > domain.size() - 1 && host.ends_with(domain.substr(1));
}

void read_entry(const Field& field, Reader& reader, const std::string& system_namespace, Credentials& out) {
  if (!reader.is_mapping(field)) return;
  Credentials::Entry entry;
  const Field domains = field["domains"];
  reader.each(domains, [&](const Field& item) {
    std::string domain = to_lower(reader.required(item));
    if (domain != "*" && !is_dns_name(domain.starts_with("*.") ? domain.substr(2) : domain)) {
      reader.error(item, in_quotes(domain) + " is not a domain such as a.example.com or *.example.com");
    }
    entry.domains.push_back(std::move(domain));
  });
  if (entry.domains.empty()) reader.error(domains, "must name at least one domain");
  const Field secret = field["tlsSecret"];
  const std::string ref = reader.required(secret);
  const size_t slash = ref.find('/');
  entry.ns = slash == ref.npos ? system_namespace : ref.substr(0, slash);
  entry.name = slash == ref.npos ? ref : ref.substr(slash + 1);
  if (!ref.empty() && (!is_label(entry.ns) || !is_dns_name(entry.name))) {
    reader.error(secret, in_quotes(ref) + " is not a Secret: write name or namespace/name");
  }
  const Field issuer_field = field["tlsIssuer"];
  const std::string issuer = reader.string(issuer_field);
  if (!issuer.empty() && issuer != "letsencrypt") reader.error(issuer_field, in_quotes(issuer) + " is not letsencrypt");
  if (issuer == "letsencrypt" && entry.domains.size() > 1) reader.error(domains, "must be one domain with letsencrypt");
  out.entries.push_back(std::move(entry));
}

}  // namespace

const Credentials::Entry* Credentials::find(std::string_view host) const {
  for (const Entry& entry : entries) {
    for (const std::string& domain : entry.domains) {
      if (covers(domain, host)) return &entry;
    }
  }
  return nullptr;
}

std::optional<Credentials> parse_credentials(const ConfigMap& map, Diagnostics& out) {
  const Pair* text = resource::find(map.data, "cert");
  if (!text) return std::nullopt;
  const size_t first = out.size();
  Reader reader(out, map.meta.file ? *map.meta.file : std::string(), map.key().to_string());
  YamlStream stream(text->value);
  const auto next = stream.next();
  Node empty;
  Credentials credentials;
  const Field root(next == YamlStream::Next::kDocument ? stream.document() : empty);
  if (next == YamlStream::Next::kError) {
    reader.error(root, "line " + std::to_string(stream.error().mark.line) + " of the value: " + stream.error().message);
  } else {
    if (root) reader.is_mapping(root);
    reader.boolean(root["automaticHttps"], true);
    credentials.fallback_for_invalid_secret = reader.boolean(root["fallbackForInvalidSecret"], false);
    reader.integer(root["renewBeforeDays"], 30, 1, 89);
    const Field list = root["credentialConfig"];
    reader.each(list, [&](const Field& item) { read_entry(item, reader, map.meta.ns, credentials); });
  }
  for (size_t i = first; i < out.size(); ++i) {
    out[i].line += text->mark.line;
    out[i].field = "data.cert" + (out[i].field.empty() ? std::string() : ": " + out[i].field);
    if (out[i].severity == Severity::kError) out[i].message += "; the previous version stays in force";
  }
  if (reader.errors()) return std::nullopt;
  return credentials;
}

}  // namespace sluice::resource
