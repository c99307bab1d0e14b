#pragma once
// Single values out of a request's Cookie field and query.

#include <string_view>

namespace sluice::http {

// The value of a cookie in the Cookie field; empty if absent.
std::string_view find_cookie(std::string_view cookies, std::string_view name);

// The first value of a query parameter of the target ("/a?b=c"), undecoded; empty if absent.
std::string_view find_query(std::string_view target, std::string_view name);

}  // namespace sluice::http
