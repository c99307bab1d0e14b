#include "compile/route_options.h"

#include <re2/re2.h>

#include <algorithm>
#include <utility>

#include "compile/annotation_values.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

constexpr uint32_t kUnlimitedRetries = 5;  // nginx: as many as there are endpoints

bool covers(const std::string& entry, const std::string& host) {
  if (entry == host) return true;
  return entry.starts_with("*.") && host.size() > entry.size() - 1 && host.ends_with(entry.substr(1));
}

}  // namespace

std::shared_ptr<const config::RetryPolicy> retry_policy(const RetryOptions& options, bool as_nginx) {
  using R = config::RetryPolicy;
  auto out = std::make_shared<R>();
  out->max_retries = static_cast<uint32_t>(options.tries.value_or(3));
  out->per_try_timeout = std::chrono::seconds(options.timeout_seconds);
  if (as_nginx) {  // tries and time of all of them, the first included; no tries: no limit
    out->max_retries = out->max_retries ? out->max_retries - 1 : kUnlimitedRetries;
    out->total_timeout = std::exchange(out->per_try_timeout, {});
  }
  uint32_t on = 0;
  bool non_idempotent = false;
  std::vector<uint16_t> statuses;
  for (const std::string& word : split_list(options.conditions.empty() ? "error" : options.conditions, ", \t\n")) {
    if (word == "off") out->max_retries = 0;
    if (word == "error" || word == "timeout" || word == "invalid_header") on |= R::kOn5xx;
    if (word == "non_idempotent") non_idempotent = true;
    int64_t status;
    std::string unused;
    if (word.starts_with("http_") && parse_int(word.substr(5), &status, &unused) && status >= 100 && status <= 599) {
      on |= R::kOnStatus;
      statuses.push_back(static_cast<uint16_t>(status));
    }
  }
  if (on) {  // else the default conditions stay
    out->on = on;
    out->statuses = std::move(statuses);
  }
  if (non_idempotent) out->on |= R::kNonIdempotent;
  return out;
}

config::HashPolicy affinity_policy(const ServiceOptions& options) {
  auto cookie = std::make_shared<config::AffinityCookie>(options.cookie);
  cookie->max_age = std::chrono::seconds(options.cookie_max_age.value_or(options.cookie_expires.value_or(0)));
  cookie->expires = std::chrono::seconds(options.cookie_expires.value_or(0));
  config::HashPolicy out;
  out.source = config::HashPolicy::Source::kCookie;
  out.name = options.cookie_name;
  out.cookie = std::move(cookie);
  return out;
}

std::shared_ptr<const config::Redirect> redirect(const RedirectOptions& options) {
  auto out = std::make_shared<config::Redirect>();
  bool temporary = !options.temporal.empty();
  const std::string& url = temporary ? options.temporal : options.permanent;
  if (!url.empty()) {
    out->status =
        temporary ? static_cast<uint16_t>(options.temporal_code) : static_cast<uint16_t>(options.permanent_code);
    parse_url(url, &out->scheme, &out->host, &out->path);
    return out;
  }
  if (!options.to_https.value_or(false) && !options.force_https) return nullptr;
  out->status = 308;
  out->scheme = "https";
  out->https_only_on_plaintext = true;
  return out;
}

std::optional<config::PathMatch> path_match(const resource::IngressPath& path, const IngressOptions& annotations,
                                            std::string* error) {
  using Kind = config::PathMatch::Kind;
  config::PathMatch out;
  out.text = path.path.empty() ? "/" : path.path;
  bool rewrites = !annotations.rewrite_target.empty() || annotations.use_regex || annotations.full_path_regex;
  if (path.type == resource::PathType::kUnset && !rewrites) {
    if (out.text.ends_with(".*")) out.text.resize(out.text.size() - 2);
    if (out.text.ends_with("/*")) out.text.resize(out.text.size() - 2);
    if (out.text.empty()) out.text = "/";
  }
  if (path_is_regex(annotations, out.text)) {
    out.kind = annotations.full_path_regex ? Kind::kFullRegex : Kind::kPrefixRegex;
    std::string problem;
    const bool full = out.kind == Kind::kFullRegex;
    out.ignore_case = annotations.as_nginx;
    if (!compile_regex((out.ignore_case ? "(?i)" : "") + out.text + (full ? "$" : ".*"), &out.regex, &problem)) {
      // Told with the path as it is written.
      *error = resource::in_quotes(out.text) + problem.substr(problem.rfind(" is not a regular expression"));
      return std::nullopt;
    }
    return out;
  }
  if (annotations.as_nginx && path.type == resource::PathType::kImplementationSpecific && out.text != "/") {
    // A plain prefix of the text: "/a" is "/ab" too.
    out.kind = Kind::kPrefixRegex;
    out.text = re2::RE2::QuoteMeta(out.text);
    if (!compile_regex(out.text + ".*", &out.regex, error)) return std::nullopt;
    return out;
  }
  out.ignore_case = annotations.ignore_path_case;
  if (path.type == resource::PathType::kExact) {
    out.kind = Kind::kExact;
  } else if (out.text.ends_with('/')) {
    out.text.pop_back();
  }
  return out;
}

void access_notes(const AddressOptions& addresses, std::vector<std::string>& notes) {
  auto list = [&](const char* what, const std::vector<std::string>& entries) {
    if (entries.empty()) return;
    std::string note = what;
    for (size_t i = 0; i < std::min<size_t>(entries.size(), 20); ++i) note += (i ? ", " : "") + entries[i];
    if (entries.size() > 20) note += ", … (" + std::to_string(entries.size()) + ")";
    notes.push_back(std::move(note));
  };
  list("denies clients of ", addresses.deny);
  list("allows only clients of ", addresses.allow);
}

const resource::IngressTls* find_tls(const resource::Ingress& ingress, const std::string& host) {
  for (bool literally : {true, false}) {
    for (const resource::IngressTls& tls : ingress.tls) {
      if (tls.secret.empty()) continue;
      if (tls.hosts.empty() && host == "*") return &tls;
      for (const std::string& name : tls.hosts) {
        if (literally ? (name.empty() ? "*" : name) == host : covers(name, host)) return &tls;
      }
    }
  }
  return nullptr;
}

}  // namespace sluice::compile
