#pragma once
// Events (core/v1) of a gateway without a cluster: what it finds wrong with objects at this moment, made when somebody
// asks, for `kubectl get events` and `kubectl describe`. They can be listed and read, not watched or written; an Event
// is gone as soon as nothing is wrong any more.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http_service.h"
#include "api/kube/json.h"
#include "api/kube/object_store.h"
#include "resource/diagnostic.h"

namespace sluice::api::kube {

inline constexpr size_t kMaxEventsTold = 5'000;

// Whether the path is that of Events, which answer_events() is for.
bool is_events_path(std::string_view path);

// The answer to a request for them. `now`: Unix seconds. What a finding is about must be in the store.
ServiceResponse answer_events(const ServiceRequest& request, const resource::Diagnostics& findings,
                              const ObjectStore& store, int64_t now);

}  // namespace sluice::api::kube
