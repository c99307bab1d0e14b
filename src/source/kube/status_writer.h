#pragma once
// StatusWriter: writes the gateway's addresses to status.loadBalancer of every accepted Ingress, where they differ.
//
// Nothing is written while no address is known, and nothing is ever cleared. At most kMaxCalls patches are under way
// and kPerSecond begin per second.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "event/loop.h"
#include "source/kube/kube_source.h"

namespace sluice::source::kube {

class StatusWriter {
 public:
  static constexpr size_t kMaxCalls = 4;
  static constexpr unsigned kPerSecond = 50;
  static constexpr uint64_t kRetryMs = 5'000;

  // `addresses`: fixed IP addresses or host names; empty: those of the gateway's Services.
  StatusWriter(event::Loop& loop, ApiClient& client, KubeSource& source, std::vector<std::string> addresses);

  // Only while active something is written.
  void set_active(bool active);
  // Ingresses or addresses may have changed.
  void update();

  uint64_t written() const { return written_; }
  uint64_t failures() const { return failures_; }

 private:
  void look();
  void begin_more();
  void write(const std::string& key);
  void on_written(const std::string& key, uint64_t hash, Result<ApiResponse> result);

  event::Loop& loop_;
  ApiClient& client_;
  KubeSource& source_;
  const std::vector<std::string> fixed_;
  bool active_ = false;
  std::vector<std::string> addresses_;
  std::set<std::string> pending_;
  std::map<std::string, std::unique_ptr<ApiClient::Call>> calls_;
  uint64_t written_ = 0;
  uint64_t failures_ = 0;
  event::MemberTimer<StatusWriter, &StatusWriter::look> look_timer_{this};
  event::MemberTimer<StatusWriter, &StatusWriter::begin_more> pace_timer_{this};
};

}  // namespace sluice::source::kube
