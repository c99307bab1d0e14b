#pragma once
// The parsers of single annotations that the tables name. Private to compile/.

#include "compile/annotation_table.h"

namespace sluice::compile::read {

// Routes: annotation_parsers.cc
bool methods(const AnnotationCall& call);
bool timeout(const AnnotationCall& call);
bool retry_conditions(const AnnotationCall& call);
bool retry_tries(const AnnotationCall& call);
bool retry_timeout(const AnnotationCall& call);
bool temporal_redirect(const AnnotationCall& call);
bool permanent_redirect(const AnnotationCall& call);
bool permanent_code(const AnnotationCall& call);
bool ssl_redirect(const AnnotationCall& call);
bool force_ssl_redirect(const AnnotationCall& call);
bool app_root(const AnnotationCall& call);
bool allow_origins(const AnnotationCall& call);
bool destination(const AnnotationCall& call);
bool filters(const AnnotationCall& call);
bool exact_match_header(const AnnotationCall& call);
bool prefix_match_header(const AnnotationCall& call);
bool regex_match_header(const AnnotationCall& call);
bool exact_match_pseudo_header(const AnnotationCall& call);
bool prefix_match_pseudo_header(const AnnotationCall& call);
bool regex_match_pseudo_header(const AnnotationCall& call);
bool exact_match_query(const AnnotationCall& call);
bool prefix_match_query(const AnnotationCall& call);
bool regex_match_query(const AnnotationCall& call);
bool canary_header(const AnnotationCall& call);
bool canary_header_value(const AnnotationCall& call);
bool canary_header_pattern(const AnnotationCall& call);
bool canary_cookie(const AnnotationCall& call);
bool canary_weight(const AnnotationCall& call);
bool canary_weight_total(const AnnotationCall& call);
bool allow_addresses(const AnnotationCall& call);
bool deny_addresses(const AnnotationCall& call);
bool auth_type(const AnnotationCall& call);
bool auth_secret(const AnnotationCall& call);
bool auth_secret_type(const AnnotationCall& call);
bool default_backend(const AnnotationCall& call);
bool error_codes(const AnnotationCall& call);
bool mirror_service(const AnnotationCall& call);
bool mirror_fqdn(const AnnotationCall& call);
bool mirror_fqdn_port(const AnnotationCall& call);
bool mirror_percentage(const AnnotationCall& call);
bool ignored(const AnnotationCall& call);
bool rpc_destination(const AnnotationCall& call);
bool mcp_server(const AnnotationCall& call);
bool mcp_bool(const AnnotationCall& call);
bool mcp_match_type(const AnnotationCall& call);
bool mcp_upstream_type(const AnnotationCall& call);
bool mcp_path(const AnnotationCall& call);

// Access: annotation_parsers_access.cc
bool auth_url(const AnnotationCall& call);
bool auth_method(const AnnotationCall& call);
bool auth_signin(const AnnotationCall& call);
bool auth_signin_param(const AnnotationCall& call);
bool auth_request_redirect(const AnnotationCall& call);
bool auth_cache_key(const AnnotationCall& call);
bool auth_cache_duration(const AnnotationCall& call);
bool auth_response_headers(const AnnotationCall& call);
bool auth_headers_map(const AnnotationCall& call);
bool auth_snippet(const AnnotationCall& call);
bool satisfy(const AnnotationCall& call);
bool limit_rps(const AnnotationCall& call);
bool limit_rpm(const AnnotationCall& call);
bool limit_burst(const AnnotationCall& call);
bool limit_connections(const AnnotationCall& call);
bool limit_status(const AnnotationCall& call);
bool limit_exempt(const AnnotationCall& call);
bool limit_rate(const AnnotationCall& call);
bool limit_rate_after(const AnnotationCall& call);
bool body_size(const AnnotationCall& call);
bool head_size(const AnnotationCall& call);
bool tls_verify_client(const AnnotationCall& call);
bool tls_verify_depth(const AnnotationCall& call);
bool tls_error_page(const AnnotationCall& call);
bool tls_match_cn(const AnnotationCall& call);
bool waf(const AnnotationCall& call);
bool waf_detail(const AnnotationCall& call);
// Others of ingress-nginx: annotation_parsers_nginx.cc
bool custom_headers(const AnnotationCall& call);
bool forwarded_prefix(const AnnotationCall& call);
bool tracing_switch(const AnnotationCall& call);
bool tracing_trust(const AnnotationCall& call);
bool tracing_operation(const AnnotationCall& call);
// Read and checked, without effect.
bool any_size(const AnnotationCall& call);
bool any_on_off(const AnnotationCall& call);
bool any_bool(const AnnotationCall& call);
bool any_count(const AnnotationCall& call);

// Services and hosts: annotation_parsers_service.cc
bool protocol(const AnnotationCall& call);
bool load_balance(const AnnotationCall& call);
bool hash_by(const AnnotationCall& call);
bool affinity(const AnnotationCall& call);
bool affinity_mode(const AnnotationCall& call);
bool affinity_canary_behavior(const AnnotationCall& call);
bool cookie_name(const AnnotationCall& call);
bool cookie_path(const AnnotationCall& call);
bool cookie_max_age(const AnnotationCall& call);
bool cookie_expires(const AnnotationCall& call);
bool ssl_secret(const AnnotationCall& call);
bool ssl_verify(const AnnotationCall& call);
bool ssl_name(const AnnotationCall& call);
bool ssl_server_name(const AnnotationCall& call);
bool auth_tls_secret(const AnnotationCall& call);
bool cipher_list(const AnnotationCall& call, std::string* out);
bool ssl_cipher(const AnnotationCall& call);
bool tls_min_version(const AnnotationCall& call);
bool tls_max_version(const AnnotationCall& call);
bool upstream(const AnnotationCall& call);

template <auto Part, auto Member>
bool header_edits(const AnnotationCall& c) {
  return parse_header_edits(c.value, &(c.out.*Part.*Member), c.error);
}
template <auto Part, auto Member>
bool header_names(const AnnotationCall& c) {
  return parse_header_names(c.value, &(c.out.*Part.*Member), c.error);
}

}  // namespace sluice::compile::read
