#pragma once
// The forms in which a client may want objects besides the objects themselves: a Table with columns for people
// (kubectl get), or their metadata alone.

#include <cstdint>
#include <string>
#include <string_view>

#include "api/kube/json.h"
#include "api/kube/kinds.h"

namespace sluice::api::kube {

enum class Form { kObject, kTable, kMetadata };

// By an Accept header: the first form in it that we know.
Form form_of(std::string_view accept);

// What a Table carries of each object.
enum class RowObject { kNone, kMetadata, kObject };
RowObject row_object_of(std::string_view include_object);

// The column definitions of a kind's table, as JSON.
std::string columns_of(const KindInfo& info);
// One row, as JSON. `now`: Unix seconds, for ages.
std::string row_of(const KindInfo& info, const Json& object, RowObject carry, int64_t now);
// PartialObjectMetadata of the object.
Json metadata_of(const Json& object);

// "45s", "5m10s", "3h", "2d": as kubectl shows ages.
std::string human_duration(int64_t seconds);

}  // namespace sluice::api::kube
