#pragma once
// The kinds that the API serves: their names, where they live, and the fields they have.

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::api::kube {

struct KindInfo {
  std::string_view kind;      // "Ingress"
  std::string_view group;     // "networking.k8s.io"; empty: the core group
  std::string_view version;   // "v1"
  std::string_view plural;    // "ingresses"; also the folder of its files
  std::string_view singular;  // "ingress"
  std::vector<std::string_view> short_names;
  bool namespaced;
  bool in_all;            // `kubectl get all` shows it
  bool custom;            // elsewhere it is defined by a CustomResourceDefinition: no strategic merge patch
  bool read_by_gateway;   // parsed, validated and obeyed; the others are only kept
  std::string_view note;  // what a client is told when it writes one; empty: nothing
  // Shape of the object as JSON (fields.h), without apiVersion, kind and metadata.
  std::string_view shape;

  std::string api_version() const;
  // Its status is changed at <name>/status and nowhere else.
  bool has_status_subresource() const { return kind == "Ingress" || kind == "Service"; }
};

std::span<const KindInfo> kinds();
// Null if there is none.
const KindInfo* find_kind(std::string_view group, std::string_view version, std::string_view plural);
// By what an object says of itself. Older versions of Ingress and EndpointSlice are found too.
const KindInfo* kind_of(std::string_view api_version, std::string_view kind);

struct GroupVersion {
  std::string_view group, version;
};
// The groups but the core one, in order.
std::span<const GroupVersion> groups();

}  // namespace sluice::api::kube
