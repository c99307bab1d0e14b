// Annotations of ingress-nginx about the way to services: timeouts, TLS, balancing, affinity.

#include <algorithm>

#include "compile/annotation_parsers.h"
#include "resource/reader.h"

namespace sluice::compile {
namespace {

using namespace read;
using resource::in_quotes;
using O = IngressOptions;
using S = ServiceOptions;
using Scope = AnnotationScope;
using Status = AnnotationStatus;

constexpr int64_t kDay = 86400;

template <auto Member>
bool seconds(const AnnotationCall& c) {
  return bounded_int(c, 1, kDay, &(c.out.*Member));
}

bool connect_timeout(const AnnotationCall& c) {
  return bounded_int(c, 1, kDay, &c.out.service.connect_timeout_seconds) && (c.out.service.any = true);
}

bool http_version(const AnnotationCall& c) {
  if (c.value != "1.0" && c.value != "1.1") {
    *c.error = in_quotes(c.value) + " is not one of 1.0, 1.1";
    return false;
  }
  return c.out.http10 = c.value == "1.0", true;
}

bool upstream_ciphers(const AnnotationCall& c) {
  return cipher_list(c, &c.out.service.ciphers) && (c.out.service.any = true);
}

// A list as nginx takes it, of which those from 1.2 are offered.
bool upstream_protocols(const AnnotationCall& c) {
  static constexpr std::string_view kOld[] = {"SSLv2", "SSLv3", "TLSv1", "TLSv1.1"};
  bool tls12 = false, tls13 = false;
  for (const std::string& word : split_list(c.value, " \t\n")) {
    if (word == "TLSv1.2") {
      tls12 = true;
    } else if (word == "TLSv1.3") {
      tls13 = true;
    } else if (std::find(std::begin(kOld), std::end(kOld), word) != std::end(kOld)) {
      *c.error = in_quotes(word) + " is not offered: TLSv1.2 is the lowest version";
    } else {
      *c.error = in_quotes(word) + " is not one of TLSv1.2, TLSv1.3";
      return false;
    }
  }
  if (!tls12 && !tls13) return false;
  c.out.service.tls_min_version = tls12 ? "TLSv1.2" : "TLSv1.3";
  c.out.service.tls_max_version = tls13 ? "TLSv1.3" : "TLSv1.2";
  return c.out.service.any = true;
}

bool verify_depth(const AnnotationCall& c) {
  return bounded_int(c, 1, 100, &c.out.service.verify_depth) && (c.out.service.any = true);
}

template <auto Member>
bool service_bool(const AnnotationCall& c) {
  return parse_bool(c.raw, &(c.out.service.*Member), c.error) && (c.out.service.any = true);
}

bool hash_subset(const AnnotationCall& c) {
  bool on;
  if (!parse_bool(c.raw, &on, c.error)) return false;
  c.out.service.hash_by_subset = on;
  return c.out.service.any = true;
}
bool hash_subset_size(const AnnotationCall& c) {
  return bounded_int(c, 1, 10'000, &c.out.service.hash_subset) && (c.out.service.any = true);
}

template <auto Member>
bool cookie_bool(const AnnotationCall& c) {
  return parse_bool(c.raw, &(c.out.service.cookie.*Member), c.error) && (c.out.service.any = true);
}

bool cookie_domain(const AnnotationCall& c) {
  const std::string domain = resource::to_lower(c.value.starts_with('.') ? c.value.substr(1) : c.value);
  if (!resource::is_dns_name(domain)) {
    *c.error = in_quotes(c.value) + " is not a domain";
    return false;
  }
  c.out.service.cookie.domain = domain;
  return c.out.service.any = true;
}

bool cookie_same_site(const AnnotationCall& c) {
  static constexpr std::string_view kWords[] = {"None", "Lax", "Strict"};
  size_t index;
  if (!one_word(c, {kWords[0], kWords[1], kWords[2]}, &index)) return false;
  c.out.service.cookie.same_site = kWords[index];
  return c.out.service.any = true;
}

constexpr Annotation kTable[] = {
    {"proxy-connect-timeout", Prefixes::kNginx, Scope::kService, connect_timeout,
     "Seconds to connect to an endpoint, TLS included.", "5", Status::kWorks, "Default 10 (nginx: 5)."},
    {"proxy-read-timeout", Prefixes::kNginx, Scope::kRoute, seconds<&O::read_timeout_seconds>,
     "Seconds between two reads from the service; 504 if the response has not begun, otherwise it is cut off. Of a "
     "WebSocket: seconds without any traffic.",
     "60", Status::kWorks, "Default: none, the stream's idle timeout applies (nginx: 60)."},
    {"proxy-send-timeout", Prefixes::kNginx, Scope::kRoute, seconds<&O::send_timeout_seconds>,
     "Seconds between two writes of the request to the service.", "60", Status::kWorks,
     "Default: none (nginx: 60). Looked at in steps of its length."},
    {"proxy-http-version", Prefixes::kNginx, Scope::kRoute, http_version,
     "`1.0`: the service is spoken to with HTTP/1.0: one request per connection, never in chunks.", "1.0",
     Status::kWorks,
     "A body of unknown length is read whole before, up to 1 MiB; a larger one is answered 413. An upgrade uses 1.1."},
    {"proxy-ssl-ciphers", Prefixes::kNginx, Scope::kService, upstream_ciphers,
     "Cipher suites of TLS 1.2 towards the service, separated by `:`.", "ECDHE-RSA-AES128-GCM-SHA256", Status::kWorks,
     "Only ECDHE with AEAD."},
    {"proxy-ssl-protocols", Prefixes::kNginx, Scope::kService, upstream_protocols,
     "Versions of TLS towards the service, separated by spaces.", "TLSv1.2 TLSv1.3", Status::kWorks,
     "Those below TLSv1.2 are left out."},
    {"proxy-ssl-verify-depth", Prefixes::kNginx, Scope::kService, verify_depth,
     "Most intermediate certificates in the chain that the service shows.", "2", Status::kWorks,
     "Default: no limit of its own (nginx: 1)."},
    {"service-upstream", Prefixes::kNginx, Scope::kService, service_bool<&S::cluster_ip>,
     "The Service's ClusterIP is the only endpoint, instead of its pods.", "true", Status::kWorks,
     "Has no effect on a headless Service."},
    {"upstream-hash-by-subset", Prefixes::kNginx, Scope::kService, hash_subset,
     "`upstream-hash-by` chooses a subset of the endpoints, of which one is drawn.", "true"},
    {"upstream-hash-by-subset-size", Prefixes::kNginx, Scope::kService, hash_subset_size,
     "Endpoints in a subset; default 3.", "3"},
    {"session-cookie-domain", Prefixes::kNginx, Scope::kService, cookie_domain, "Domain of the affinity cookie.",
     "example.com"},
    {"session-cookie-samesite", Prefixes::kNginx, Scope::kService, cookie_same_site,
     "SameSite of the affinity cookie: None, Lax or Strict.", "Lax"},
    {"session-cookie-secure", Prefixes::kNginx, Scope::kService, cookie_bool<&config::AffinityCookie::secure>,
     "The affinity cookie has the attribute Secure.", "true", Status::kWorks,
     "Default false (nginx: true for requests over TLS)."},
    {"session-cookie-conditional-samesite-none", Prefixes::kNginx, Scope::kService,
     cookie_bool<&config::AffinityCookie::omit_none>,
     "Leaves `SameSite=None` out for browsers that are known to misunderstand it.", "true"},
    {"session-cookie-change-on-failure", Prefixes::kNginx, Scope::kService,
     cookie_bool<&config::AffinityCookie::change_on_failure>,
     "A client whose endpoint failed gets a cookie for the one that took over; otherwise the next request tries the "
     "old one again.",
     "true"},
    {"fastcgi-index", Prefixes::kNginx, Scope::kRoute, ignored, "Index file of a FastCGI service.", "index.php",
     Status::kAccepted, "No effect: services speak HTTP or gRPC."},
    {"fastcgi-params-configmap", Prefixes::kNginx, Scope::kRoute, ignored, "Parameters of a FastCGI service.",
     "ns/params", Status::kAccepted, "No effect: services speak HTTP or gRPC."},
};

}  // namespace

std::span<const Annotation> nginx_upstream_annotations() { return kTable; }

}  // namespace sluice::compile
