#pragma once
// Who owns which fields of an object (metadata.managedFields, in the API's own form FieldsV1), as server-side apply
// needs it: ownership begins with the first apply of an object; from then on every writer owns what it changes. What
// nobody owns may be taken by anyone without a conflict.
//
// Fields are owned one by one; lists as a whole, but for those with a merge key (patch.h), whose items are owned one by
// one. Time grows with the size of the objects times the number of managers.

#include <optional>
#include <string>
#include <vector>

#include "api/kube/json.h"

namespace sluice::api::kube {

class ManagedFields {
 public:
  static constexpr size_t kMaxManagers = 50;

  struct Conflict {
    std::string owner;  // "\"kubectl-edit\" using v1"
    std::string field;  // ".spec.ports[port=80].name"
  };

  // `metadata` may hold anything; entries that are no entries are left out. `kind` outlives this.
  ManagedFields(const Json& metadata, std::string_view kind);

  bool empty() const { return entries_.empty(); }

  // The fields of `configuration` that others own and that have another value in `object`.
  std::vector<Conflict> conflicts(const std::string& manager, const Json& object, const Json& configuration) const;
  // `manager` applies the configuration, which has been merged into `merged` already, whose fields were as in `before`:
  // fields that it applied earlier, that are not in the configuration any more and that nobody else owns go from
  // `merged`. Whoever owns a field that is changed by this owns it no more. False: there are too many managers.
  bool apply(const std::string& manager, const std::string& api_version, const std::string& time, const Json& before,
             const Json& configuration, Json& merged);
  // `manager` has changed the object by other means.
  void update(const std::string& manager, const std::string& api_version, const std::string& time, const Json& before,
              const Json& after);

  // Puts the entries into the metadata; none: takes them out.
  void store(Json& metadata) const;

 private:
  struct Entry {
    std::string manager, operation, api_version, time;
    std::vector<Json> fields;  // one: the tree (a vector because Json is incomplete here)
    bool applies() const { return operation == "Apply"; }
  };

  Entry* entry(const std::string& manager, bool applies);
  bool set(const std::string& manager, bool applies, const std::string& api_version, const std::string& time,
           Json fields);
  void release_changed(const Json& before, const Json& after, const Entry* but);

  const std::string_view kind_;
  std::vector<Entry> entries_;
};

}  // namespace sluice::api::kube
