#pragma once
// Watches: responses that go on, one line of JSON for each change of what was asked for.

#include <list>
#include <memory>
#include <optional>
#include <string>

#include "api/http_service.h"
#include "api/kube/object_store.h"
#include "api/kube/printer.h"
#include "event/loop.h"

namespace sluice::api::kube {

// What is wanted of a kind.
struct Selection {
  const KindInfo* kind = nullptr;
  std::string ns;  // empty: all
  LabelSelector labels;
  FieldSelector fields;

  bool covers(const ObjectKey& key) const {
    return key.kind == kind && (ns.empty() || key.ns == ns) && fields.matches(key.ns, key.name);
  }
};

struct WatchRequest {
  Selection selection;
  Form form = Form::kObject;
  RowObject carry = RowObject::kMetadata;
  // Changes after this version; nothing: the present objects first, as added ones.
  std::optional<uint64_t> version;
  bool bookmarks = false;
  bool mark_initial_end = false;  // a bookmark says where the present objects end
  uint64_t timeout_ms = 0;
};

class Watches {
 public:
  static constexpr size_t kMaxWatches = 256;
  static constexpr size_t kMaxBehind = 16u << 20;  // bytes not taken by a client; above, it is cut off
  static constexpr uint64_t kBookmarkMs = 60'000;

  Watches(event::Loop& loop, const ObjectStore& store);
  ~Watches();

  bool full();
  // The response, with what there is to tell at once.
  ServiceResponse open(WatchRequest request);
  void on_event(const ObjectEvent& event);
  // Ends all of them in order.
  void stop();

 private:
  class Watch;

  event::Loop& loop_;
  const ObjectStore& store_;
  std::list<std::unique_ptr<Watch>> watches_;
};

}  // namespace sluice::api::kube
