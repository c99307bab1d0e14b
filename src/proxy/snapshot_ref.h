#pragma once
// SnapshotRef: a worker's counted hold on a snapshot. Exchanges copy it for free (a plain integer); the last one gives
// the snapshot back, and its memory is freed on the control thread.

#include <functional>
#include <memory>
#include <utility>

#include "config/snapshot.h"

namespace sluice::proxy {

class SnapshotRef {
 public:
  using Release = std::function<void(std::shared_ptr<const config::Snapshot>)>;

  SnapshotRef() = default;
  SnapshotRef(std::shared_ptr<const config::Snapshot> snapshot, const Release* release)
      : hold_(new Hold{std::move(snapshot), release, 1}) {}
  SnapshotRef(const SnapshotRef& other) : hold_(other.hold_) {
    if (hold_) ++hold_->count;
  }
  SnapshotRef(SnapshotRef&& other) noexcept : hold_(std::exchange(other.hold_, nullptr)) {}
  SnapshotRef& operator=(SnapshotRef other) noexcept {
    std::swap(hold_, other.hold_);
    return *this;
  }
  ~SnapshotRef() { reset(); }

  void reset() {
    if (hold_ && --hold_->count == 0) {
      if (hold_->release) (*hold_->release)(std::move(hold_->snapshot));
      delete hold_;
    }
    hold_ = nullptr;
  }

  const config::Snapshot& operator*() const { return *hold_->snapshot; }
  const config::Snapshot* operator->() const { return hold_->snapshot.get(); }
  explicit operator bool() const { return hold_ != nullptr; }

 private:
  struct Hold {
    std::shared_ptr<const config::Snapshot> snapshot;
    const Release* release;
    uint32_t count;
  };
  Hold* hold_ = nullptr;
};

}  // namespace sluice::proxy
