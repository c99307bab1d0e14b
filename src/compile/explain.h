#pragma once
// Explain: for any request, which route wins, why every better-looking candidate did not, and where
// the request would go. It asks the router itself (with a trace), so it can't tell anything else
// than what happens.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/router.h"

namespace sluice::compile {

// A request as a user writes it.
struct ExplainRequest {
  std::string method = "GET";
  std::string scheme = "http";
  std::string authority;
  std::string target = "/";                                  // path and query
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  // "GET https://host/path?query" (the method may be left out), and "Name: value" lines. A Host
  // header replaces the authority.
  static Result<ExplainRequest> parse(std::string_view request, const std::vector<std::string>& headers);
  // `normalised_path`: the path as the gateway sees it, with dot segments resolved; empty: as
  // written. Borrows this.
  config::RequestKey key(std::string_view normalised_path = {}) const;
};

struct Explanation {
  std::string text;
  std::string json;
  bool routed = false;
};

// `max_candidates`: of the routes that lost in one host, at most so many are shown, those nearest
// to the winner last.
Explanation explain(const config::Snapshot& snapshot, const ExplainRequest& request,
                    std::string_view normalised_path = {}, size_t max_candidates = 50);

}  // namespace sluice::compile
