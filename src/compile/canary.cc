#include "compile/canary.h"

#include <re2/re2.h>

#include <algorithm>
#include <numeric>

#include "compile/annotation_values.h"

namespace sluice::compile {
namespace {

using config::Destination;
using config::FilterChain;
using config::Route;
using config::ValueMatch;

FilterChain header_filters(const HostRoute& route) {
  auto begin = route.route->filters.begin() + route.header_filters_at;
  return {begin, begin + route.header_filters};
}

// The base's filters with others in place of its header edits.
FilterChain with_header_filters(const HostRoute& base, const FilterChain& edits) {
  FilterChain out = base.route->filters;
  auto at = out.erase(out.begin() + base.header_filters_at, out.begin() + base.header_filters_at + base.header_filters);
  out.insert(at, edits.begin(), edits.end());
  return out;
}

std::string share_note(const HostRoute& canary, uint64_t total) {
  return "canary " + canary.route->name + ": " + std::to_string(canary.canary->weight) + " of " +
         std::to_string(total) + " requests";
}

// Destinations with a common share of the requests, which they divide by their own weights.
struct Group {
  uint64_t share;
  const config::Destinations* destinations;
  FilterChain filters;
  std::vector<uint64_t> parts = {};  // the weights without their common divisor
  uint64_t sum = 0;                  // of the parts
};

// A number that all sums divide; 0 if it is too large for exact shares.
uint64_t common_multiple(std::vector<Group>& groups) {
  constexpr uint64_t kMost = uint64_t{1} << 20;
  uint64_t common = 1;
  for (Group& group : groups) {
    uint64_t divisor = 0;
    for (const Destination& d : *group.destinations) divisor = std::gcd(divisor, uint64_t{d.weight});
    for (const Destination& d : *group.destinations) {
      group.parts.push_back(divisor ? d.weight / divisor : 0);
      group.sum += group.parts.back();
    }
    if (group.sum == 0 || common == 0) continue;
    const uint64_t factor = group.sum / std::gcd(common, group.sum);
    common = factor > kMost / common ? 0 : common * factor;
  }
  return common;
}

// Gives each destination its part of its group's share, in whole numbers. Shares are exact unless their sum does not
// fit 32 bits, or the groups' own weights have nothing in common and are large.
void append_weighted(std::vector<Group>& groups, Route& out) {
  const uint64_t common = common_multiple(groups);
  std::vector<uint64_t> weights;
  uint64_t total = 0, divisor = 0;
  for (const Group& group : groups) {
    for (uint64_t part : group.parts) {
      // share < 2^33, part ≤ sum, and common ≤ 2^20: no overflow.
      const uint64_t weight = group.sum == 0 ? 0
                              : common       ? group.share * (common / group.sum) * part
                                             : group.share * ((part << 20) / group.sum);
      weights.push_back(weight);
      total += weight;
      divisor = std::gcd(divisor, weight);
    }
  }
  divisor = std::max<uint64_t>(divisor, 1);
  while (total / divisor > UINT32_MAX) divisor *= 2;
  size_t next = 0;
  for (const Group& group : groups) {
    for (const Destination& given : *group.destinations) {
      Destination destination = given;
      destination.weight = static_cast<uint32_t>(weights[next++] / divisor);
      destination.filters.insert(destination.filters.begin(), group.filters.begin(), group.filters.end());
      out.total_weight += destination.weight;
      out.destinations.push_back(std::move(destination));
    }
  }
}

}  // namespace

std::optional<ValueMatch> canary_condition(const CanaryOptions& options) {
  ValueMatch out;
  out.source = ValueMatch::Source::kHeader;
  out.kind = ValueMatch::Kind::kRegex;
  if (options.header.empty()) {
    if (options.cookie.empty()) return std::nullopt;
    out.name = "cookie";
    out.value = "(.*;\\s*)?" + re2::RE2::QuoteMeta(options.cookie) + "=always(\\s*;.*)?";
  } else {
    out.name = options.header;
    if (!options.header_value.empty()) {
      out.value = "always|(?:" + options.header_value + ")";
    } else if (!options.header_pattern.empty()) {
      out.value = ".*(?:" + options.header_pattern + ").*";
    } else {
      out.kind = ValueMatch::Kind::kExact;
      out.value = "always";
      return out;
    }
  }
  std::string unused;
  compile_regex(out.value, &out.regex, &unused);  // the parts have been compiled already
  return out;
}

std::shared_ptr<const Route> conditional_canary(const HostRoute& base, const HostRoute& canary) {
  auto out = std::make_shared<Route>(*base.route);
  out->name = canary.route->name;
  out->stats_slot = canary.route->stats_slot;
  out->origin = canary.route->origin;
  out->conditions.push_back(*canary.canary->condition);
  out->destinations = canary.route->destinations;
  out->total_weight = canary.route->total_weight;
  out->filters = with_header_filters(base, header_filters(canary));
  out->notes.push_back("canary of " + base.route->origin);
  return out;
}

std::shared_ptr<const Route> weighted_canaries(const HostRoute& base, std::span<const HostRoute* const> canaries) {
  uint64_t total = canaries[0]->canary->weight_total.value_or(100), sum = 0;
  bool edits = base.header_filters > 0;
  for (const HostRoute* canary : canaries) {
    sum += canary->canary->weight;
    edits |= canary->header_filters > 0;
  }
  total = std::max(total, sum);
  auto out = std::make_shared<Route>(*base.route);
  out->destinations = {};
  out->total_weight = 0;
  out->affinity = base.affinity;
  std::vector<Group> groups;
  groups.push_back({total - sum, &base.route->destinations, edits ? header_filters(base) : FilterChain()});
  if (edits) out->filters = with_header_filters(base, {});
  for (const HostRoute* canary : canaries) {
    groups.push_back({canary->canary->weight, &canary->route->destinations, header_filters(*canary)});
    out->notes.push_back(share_note(*canary, total));
  }
  append_weighted(groups, *out);
  return out;
}

}  // namespace sluice::compile
