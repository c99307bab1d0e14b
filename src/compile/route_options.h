#pragma once
// What single annotations and fields of an Ingress mean for its routes: the parts of compile/ingress_routes.cc that
// need nothing else.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compile/annotations.h"
#include "config/route.h"
#include "resource/objects.h"

namespace sluice::compile {

std::shared_ptr<const config::RetryPolicy> retry_policy(const RetryOptions& options, bool as_nginx);
// Null: none.
std::shared_ptr<const config::Redirect> redirect(const RedirectOptions& options);
// Nothing, and an error, if the path is an invalid regular expression.
std::optional<config::PathMatch> path_match(const resource::IngressPath& path, const IngressOptions& annotations,
                                            std::string* error);
// What `explain` tells of the addresses that may come.
void access_notes(const AddressOptions& addresses, std::vector<std::string>& notes);
// The first entry of spec.tls that names the host as it is written; else the first whose wildcard covers it. Entries
// without a Secret are passed over. Null: none.
const resource::IngressTls* find_tls(const resource::Ingress& ingress, const std::string& host);

// What the affinity of the options hashes.
config::HashPolicy affinity_policy(const ServiceOptions& options);

}  // namespace sluice::compile
