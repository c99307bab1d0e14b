#pragma once
// Times as the Kubernetes API writes them: RFC 3339, UTC, whole seconds.

#include <cstdint>
#include <ctime>
#include <string>

namespace sluice::api::kube {

// `unix_seconds` within the years 0 to 9999: "2026-11-25T09:00:00Z".
inline std::string time_text(int64_t unix_seconds) {
  const auto time = static_cast<time_t>(unix_seconds);
  std::tm tm{};
  gmtime_r(&time, &tm);
  char out[32];
  std::strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", &tm);
  return out;
}

}  // namespace sluice::api::kube
